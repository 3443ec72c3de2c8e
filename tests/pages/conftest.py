"""Has Plotly read every figure that a page shows, and Streamlit search the installed packages once.

What Plotly does not know is an error here, and nothing in a browser.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from streamlit.components.v2 import manifest_scanner

from pages.figures.whole import Figure


@pytest.fixture(scope="session", autouse=True)
def packages_are_searched_once() -> Iterator[None]:
    """For components of Streamlit's: every AppTest reads what all installed packages say of themselves for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests",
                      functools.cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(autouse=True)
def figures_are_read(monkeypatch):
    """Makes a figure's parts be asked for before it is handed on."""
    hand_on = Figure.to_dict

    def to_dict(figure: Figure) -> dict:
        assert figure.data is not None
        return hand_on(figure)

    monkeypatch.setattr(Figure, "to_dict", to_dict)
