"""A report as one HTML page that opens offline: sections of plain text, tables and live figures.

It turns values into one text and asks nobody for anything: Plotly's script is
put inside, once. It knows neither evidence nor the page that offers it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pages.figures import palette

_MARKS = re.compile(r"\\([!-/:-@\[-`{-~])|(\*\*)|([&<>\"'])")


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a report.

    Attributes:
        title: its heading, plain text.
        paragraphs: Markdown of which bold and backslash escapes are understood.
        rows: of a table, plain text or the same Markdown; the first is its head; () for none.
        figures: (figure, what a screen reader says of it).
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[tuple[go.Figure, str], ...] = ()


def page(sections: Sequence[Section], *, title: str, language: str, theme: palette.Theme) -> str:
    """The whole page."""
    with_script = next((index for index, section in enumerate(sections) if section.figures), None)
    body = "".join(_section(section, script=index == with_script) for index, section in enumerate(sections))
    line = "rgba(128,128,128,.4)"
    style = (
        "body{font-family:'Noto Sans SC','PingFang SC','Microsoft YaHei',sans-serif;margin:2rem auto;padding:0 1rem;"
        f"max-width:60rem;line-height:1.6;color:{palette.TEXT[theme]};background:{palette.BACKGROUND[theme]}}}"
        f"table{{border-collapse:collapse}}td,th{{text-align:left;padding:.25rem .8rem;border-bottom:1px solid {line}}}"
        f"section{{border-top:1px solid {line};margin-top:1.5rem}}"
    )
    return (f'<!doctype html><html lang="{html.escape(language)}"><head><meta charset="utf-8">'
            f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{style}</style></head>'
            f"<body><h1>{html.escape(title)}</h1>{body}</body></html>")


def plain_html(markdown: str) -> str:
    """Bold and backslash escapes of Markdown as HTML; every other character as it is, escaped."""
    opened = False

    def turn(match: re.Match) -> str:
        nonlocal opened
        escaped, bold, special = match.groups()
        if bold:
            opened = not opened
            return "<b>" if opened else "</b>"
        return html.escape(escaped or special)

    return _MARKS.sub(turn, markdown) + ("</b>" if opened else "")


def _section(section: Section, *, script: bool) -> str:
    paragraphs = "".join(f"<p>{plain_html(text)}</p>" for text in section.paragraphs if text)
    pictures = "".join(
        f'<figure role="img" aria-label="{html.escape(said)}" style="margin:0">'
        + figure.to_html(full_html=False, include_plotlyjs=script and index == 0, config={"displaylogo": False})
        + "</figure>"
        for index, (figure, said) in enumerate(section.figures))
    table = ""
    if section.rows:
        head, *rows = section.rows
        cells = "".join(f"<th>{plain_html(cell)}</th>" for cell in head)
        table = f"<table><tr>{cells}</tr>" + "".join(
            "<tr>" + "".join(f"<td>{plain_html(cell)}</td>" for cell in row) + "</tr>" for row in rows) + "</table>"
    return f"<section><h2>{html.escape(section.title)}</h2>{paragraphs}{pictures}{table}</section>"
