"""Downloads of charts: their numbers as CSV, the pictures as PNG and SVG, all of them as a page that opens offline.

Files are made when they are asked for. It knows figures and columns, not what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.figures import files, palette
from pages.figures.frame import escape
from pages.figures.whole import Figure
from pages.widgets import drawing
from pages.widgets.language import Language, Translate

Columns = Mapping[str, Sequence[object] | np.ndarray]


def offer(name: str, *, tables: Mapping[str, Callable[[], Columns]], figures: Mapping[str, go.Figure],
          facts: Callable[[], Sequence[tuple[str, str]]], language: Language, _: Translate) -> None:
    """Draws the export menu.

    Args:
        name: of the files, without ending; also tells one menu of a page from another.
        tables: display name → the columns of one CSV.
        figures: display name → picture.
        facts: (name, value) pairs for the head of the HTML page.
    """
    theme = st.context.theme.type or "light"
    with st.popover(_("Export"), icon=":material/download:", key=f"{name}-export"):
        for number, (title, columns) in enumerate(tables.items()):
            suffix = f"-{number}" if number else ""
            st.download_button(
                _("{what} as CSV").format(what=title),
                lambda columns=columns: files.table_csv(columns()).encode("utf-8-sig"),
                f"{name}{suffix}.csv", "text/csv", on_click="ignore", key=f"{name}-csv-{number}")
        st.download_button(
            _("All pictures as HTML (opens offline)"), lambda: _html(figures, facts(), language, theme, _),
            f"{name}.html", "text/html", on_click="ignore", key=f"{name}-html")
        if st.button(_("Draw PNG and SVG"), key=f"{name}-draw", icon=":material/image:"):
            _draw(figures, name, theme, _)


def _html(figures: Mapping[str, go.Figure], facts: Sequence[tuple[str, str]], language: Language, theme: palette.Theme,
          _: Translate) -> str:
    first, *rest = (_titled(figure, title, theme) for title, figure in figures.items())
    # The script of Plotly travels with the first picture; the others use it.
    others = "".join(figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
                     for figure in rest)
    return files.page_html(first, title=_("The Attention Microscope"), language=language.locale, facts=facts,
                           grid=others, theme=theme)


def _titled(figure: go.Figure, title: str, theme: palette.Theme) -> go.Figure:
    titled = Figure(figure.to_dict())
    margin = titled.layout.margin
    titled.update_layout(title={"text": escape(title), "x": 0, "xanchor": "left", "font": {"size": 15}}, width=900,
                         paper_bgcolor=palette.BACKGROUND[theme], height=(titled.layout.height or 400) + 44,
                         margin={"l": margin.l, "r": margin.r, "t": (margin.t or 0) + 44, "b": margin.b})
    return titled


def _draw(figures: Mapping[str, go.Figure], name: str, theme: palette.Theme, _: Translate) -> None:
    drawn = drawing.draw([_titled(figure, title, theme) for title, figure in figures.items()], _)
    for number, (title, content) in enumerate(zip(figures, drawn)):
        for kind, mime in drawing.MEDIA.items():
            st.download_button(f"{title} · {kind.upper()}", content[kind], f"{name}-{number}.{kind}", mime,
                               on_click="ignore", key=f"{name}-{kind}-{number}")
