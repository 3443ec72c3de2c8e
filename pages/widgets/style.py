"""Applies the app's own style sheet on top of Streamlit's theme."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

STYLE_SHEET = Path(__file__).resolve().parents[2] / "assets" / "style.css"


def apply() -> None:
    """Puts assets/style.css into the page; takes no room in it."""
    st.html(STYLE_SHEET)
