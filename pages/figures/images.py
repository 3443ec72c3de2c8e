"""Figures as PNG and SVG files.

Kaleido draws them in an installed Chromium: one for all figures, since starting it takes longer than drawing. It asks
no other host for anything. This file does not know the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import plotly.graph_objects as go

#: Format → factor by which its pixels are finer than the screen's.
FORMATS = {"png": 2, "svg": 1}
#: A proxy that answers nobody: Chromium asks its maker for updates as it starts.
NOWHERE = "http://127.0.0.1:9"


def images(figures: Sequence[go.Figure]) -> list[dict[str, bytes]]:
    """The files of each figure: format ("png", "svg") → content.

    Raises:
        OSError, RuntimeError: no browser is found, it does not start, or it does not draw in time.
    """
    return asyncio.run(_images(figures))


async def _images(figures: Sequence[go.Figure]) -> list[dict[str, bytes]]:
    import kaleido  # here, since few visitors draw
    from kaleido.errors import KaleidoError

    try:
        # By itself Kaleido fetches MathJax from a server, and no figure of ours holds TeX.
        async with kaleido.Kaleido(mathjax=False, proxy_server=NOWHERE) as browser:
            return [{kind: await browser.calc_fig(figure, {"format": kind, "scale": scale})
                     for kind, scale in FORMATS.items()} for figure in figures]
    except KaleidoError as error:
        raise RuntimeError(str(error)) from error
