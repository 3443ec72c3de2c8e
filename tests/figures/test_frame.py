"""What all figures have in common: one size of text."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io as pio
import pytest

from pages.figures import frame, palette


@pytest.mark.parametrize("theme", palette.THEMES)
def test_axis_names_are_as_large_as_all_other_text(theme):
    layout = frame.bare_layout(title="", theme=theme) | {"xaxis": {"title": {"text": "x", "standoff": 4}}}
    figure = go.Figure([], layout)
    usual = figure.layout.template.layout
    assert {usual.xaxis.title.font.size, usual.yaxis.title.font.size} == {figure.layout.font.size}
    assert figure.layout.xaxis.title.font.size is None, "no axis has a size of its own"
    assert pio.templates["plotly"].layout.xaxis.title.font.size is None, "Plotly's own template stays as it is"
