"""Has Plotly read every figure that a page shows: what it does not know is an error here, and nothing in a browser."""

from __future__ import annotations

import pytest

from pages.figures.whole import Figure


@pytest.fixture(autouse=True)
def figures_are_read(monkeypatch):
    """Makes a figure's parts be asked for before it is handed on."""
    hand_on = Figure.to_dict

    def to_dict(figure: Figure) -> dict:
        assert figure.data is not None
        return hand_on(figure)

    monkeypatch.setattr(Figure, "to_dict", to_dict)
