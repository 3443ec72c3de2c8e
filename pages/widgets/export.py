"""Downloads of what is on screen, and the pictures that need a browser to be drawn.

Files are made when they are asked for. PNG and SVG of the open head are drawn
by Kaleido with an installed Chromium; where there is none, the page says so and
the picture's own toolbar still saves a PNG.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine import LocalEngine, Trace
from engine.types import LABELS, MEASURES
from pages.figures import files, palette
from pages.figures.whole import Figure
from pages.widgets import drawing, measures, stream_view, texts
from pages.widgets.head_detail import Shown
from pages.widgets.language import Language, Translate


def offer(engine: LocalEngine, trace: Trace, shown: Shown, *, language: Language, _: Translate) -> None:
    """Draws the export menu for the open head and its stream."""
    name = f"{trace.prompt.model.replace('/', '-')}-{shown.head.stream}-L{shown.head.layer}-H{shown.head.head}"
    if shown.removed is not None:
        name += "-without-sink"
    theme = st.context.theme.type or "light"
    with st.popover(_("Export"), icon=":material/download:"):
        if st.button(_("Draw PNG and SVG"), key="draw", icon=":material/image:"):
            _draw(shown.figure, name, theme, _)
        st.download_button(_("Head as HTML (opens offline)"), lambda: _html(engine, trace, shown, language, theme, _),
                           f"{name}.html", "text/html", on_click="ignore", key="html")
        if shown.weights is not None:
            st.download_button(_("Head as CSV"), lambda: files.pattern_csv(
                shown.weights, query_labels=shown.view.queries, key_labels=shown.view.keys,
                beside={} if shown.removed is None else {_set_aside(shown, _): shown.removed}).encode("utf-8-sig"),
                f"{name}.csv", "text/csv", on_click="ignore", key="csv")
        st.download_button(_("Everything as JSON"), lambda: files.to_json(_values(engine, trace, shown)),
                           f"{name}.json", "application/json", on_click="ignore", key="json")
        st.download_button(_("Grid of all heads as SVG"), lambda: _grid(engine, trace, shown, theme, _),
                           f"{trace.prompt.model.replace('/', '-')}-{shown.head.stream}-grid.svg", "image/svg+xml",
                           on_click="ignore", key="grid-svg")


def _draw(figure: go.Figure, name: str, theme: str, _: Translate) -> None:
    figure = Figure(figure.to_dict())
    figure.update_layout(width=900, paper_bgcolor=palette.BACKGROUND[theme])
    for content in drawing.draw([figure], _):
        for kind, mime in drawing.MEDIA.items():
            st.download_button(kind.upper(), content[kind], f"{name}.{kind}", mime, on_click="ignore",
                               key=f"save-{kind}")


def _values(engine: LocalEngine, trace: Trace, shown: Shown) -> dict[str, object]:
    summary = engine.summaries(trace.prompt, shown.head.stream)
    return {
        "prompt": asdict(trace.prompt), "output": trace.output, "streams": trace.streams,
        "provenance": asdict(trace.provenance),
        "head": asdict(shown.head), "unit": shown.view.unit, "queries": shown.view.queries, "keys": shown.view.keys,
        "weights": shown.weights, "sink_mass_removed": shown.removed,
        "sink_set_aside": None if shown.removed is None else {
            "keys": shown.view.sinks, "mean_mass": shown.removed.mean(), "rows_renormalised": True},
        "summaries": {measure: getattr(summary, measure) for measure in MEASURES}
        | {"label": [[LABELS[label] for label in row] for row in summary.label], "label_score": summary.label_score},
    }


def _grid(engine: LocalEngine, trace: Trace, shown: Shown, theme: str, _: Translate) -> str:
    summary = engine.summaries(trace.prompt, shown.head.stream)
    short = shown.view.size <= engine.limits.exact_grid
    cells = (stream_view.patterns(engine, trace.prompt, shown.view) if short
             else engine.pictures(trace.prompt, shown.head.stream).cells)
    n_layers, n_heads = summary.label.shape
    captions = np.array([[f"L{layer} H{head}" for head in range(n_heads)] for layer in range(n_layers)])
    notes = [_("Colour follows the square root of the weight.")]
    if shown.removed is not None:
        notes.append(_("Here all weights are the model's own: no sink is set aside."))
    return files.grid_svg(cells, order=list(np.ndindex(n_layers, n_heads)), captions=captions,
                          labels=measures.label_grid(summary, _), notes=notes, theme=theme,
                          title=f"{texts.streams(_)[shown.head.stream]} · {trace.prompt.model}")


def _set_aside(shown: Shown, _: Translate) -> str:
    return _("sink {names} set aside ({mass:.0%}), rows renormalised").format(
        names=_(", ").join(shown.view.sinks), mass=float(shown.removed.mean()))


def _html(engine: LocalEngine, trace: Trace, shown: Shown, language: Language, theme: str, _: Translate) -> str:
    given = trace.provenance
    facts = [
        (_("Sentence"), trace.source_text), (_("Output"), trace.output),
        (_("Model"), f"{given.model} ({given.revision})"),
        (_("Head"), f"{shown.head.stream}, {_('layer')} {shown.head.layer}, {_('head')} {shown.head.head}"),
        (_("Device and number format"), f"{given.device}, {given.dtype}"),
        (_("Captured through"), given.backend),
        (_("Largest difference to eager attention, when the model was checked"), f"{given.probe_error:.1e}"),
        (_("Largest difference to the model's own attention output, in this run"), f"{given.output_error:.1e}"),
        (_("Worst row sum, off 1 by"), f"{given.row_sum_error:.1e}"),
    ]
    if shown.removed is not None:
        facts.insert(4, (_("Weights"), _set_aside(shown, _)))
    return files.page_html(shown.figure, title=_("The Attention Microscope"), language=language.locale, facts=facts,
                           grid=_grid(engine, trace, shown, theme, _), theme=theme)
