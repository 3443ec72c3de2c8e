"""The one engine of this process, shared by all sessions; it keeps no session's state.

It does not know pages. Streamlit collects garbage after every run; with torch
loaded that walks hundreds of thousands of objects, so what is alive once the
engine stands is frozen out of the walk.
"""

from __future__ import annotations

import gc

import streamlit as st

from engine import LocalEngine


@st.cache_resource(show_spinner=False)
def engine() -> LocalEngine:
    """The engine, made at the first call."""
    made = LocalEngine()
    gc.collect()
    gc.freeze()
    return made
