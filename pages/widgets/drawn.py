"""Pictures with the numbers they were drawn from: shown side by side, offered as files.

It knows nothing of what a picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.figures.frame import plotly_config
from pages.widgets import chart_export
from pages.widgets.language import Language, Translate


@dataclass(frozen=True, eq=False)
class Drawn:
    """One picture on the page.

    Attributes:
        name: of its place on the page and of the file its toolbar saves.
        title: what it shows, above it and in the menu.
        figure: the Plotly picture.
        columns: column name → values of equal length, for the CSV.
    """

    name: str
    title: str
    figure: go.Figure
    columns: Mapping[str, Sequence | np.ndarray]


def show(pictures: Sequence[Drawn], *, per_row: int = 2) -> None:
    """Pictures under their titles, side by side; on a narrow screen below each other."""
    for first in range(0, len(pictures), per_row):
        row = pictures[first:first + per_row]
        with st.container(key=f"columns-{row[0].name}"):
            for place, drawn in zip(st.columns(per_row, gap="medium"), row, strict=False):
                with place:
                    _one(drawn, width="stretch")


def show_small(pictures: Sequence[Drawn], *, width: int) -> None:
    """Pictures of `width` pixels in rows, as many as fit beside each other."""
    with st.container(horizontal=True, gap="small"):
        for drawn in pictures:
            _one(drawn, width=width)


def _one(drawn: Drawn, *, width: int | str) -> None:
    with st.container(key=f"picture-{drawn.name}", width=width):
        st.markdown(f"**{drawn.title}**")
        st.plotly_chart(drawn.figure, theme=None, config=plotly_config(drawn.name), key=f"chart-{drawn.name}",
                        alt=drawn.title)


def offer(name: str, pictures: Sequence[Drawn], *, facts: Sequence[tuple[str, str]], language: Language,
          _: Translate) -> None:
    """The export menu for `pictures`.

    Args:
        name: of the files, and of this menu among the page's.
        facts: (name, value) pairs that stand above the pictures in the HTML page, plain text.
    """
    chart_export.offer(
        name, tables={drawn.title: lambda drawn=drawn: drawn.columns for drawn in pictures},
        figures={drawn.title: drawn.figure for drawn in pictures}, facts=lambda: facts, language=language, _=_)
