"""The one engine of this process, shared by all sessions; it keeps no session's state.

It does not know pages. Streamlit collects garbage after every run; with torch
loaded that walks hundreds of thousands of objects, so what is alive once the
engine stands is frozen out of the walk.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import streamlit as st

from pages.widgets.language import Translate

if TYPE_CHECKING:
    from engine import LocalEngine


def start(_: Translate) -> None:
    """Makes the engine under a line that says so: the first visitor of a server waits seconds for torch."""
    with st.spinner(_("Starting the engine, once for this server …")):
        engine()


@st.cache_resource(show_spinner=False)
def engine() -> LocalEngine:
    """The engine, made at the first call."""
    from engine import LocalEngine  # torch and transformers come with it

    made = LocalEngine()
    gc.collect()
    gc.freeze()
    return made
