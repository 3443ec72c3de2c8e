"""Makes Streamlit run app.py for every page, from the first visit to a fresh server on.

Streamlit takes a folder named `pages` for its older kind of app until
`st.navigation` has run once in the process. Until then it runs app.py under
another identity, so the first visitor's controls lose their first change, and a
link to a page runs that page's file without app.py. No option turns this off.
Knows nothing of which pages there are.
"""

from __future__ import annotations

import sys

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import script_runner


def run_app_first() -> None:
    """Starts this run again through app.py if Streamlit did not come by it; at most once in a session."""
    if _came_by_the_folder():
        PagesManager.uses_pages_directory = False
        st.rerun()


def _came_by_the_folder() -> bool:
    """Whether this very run is of the older kind; the flag may have been set since it began, by another visitor's."""
    frame = sys._getframe()
    while frame is not None and frame.f_code is not script_runner._mpa_v1.__code__:
        frame = frame.f_back
    return frame is not None
