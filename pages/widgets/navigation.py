"""Makes Streamlit run app.py for every page, from the first visit to a fresh server on.

Streamlit takes a folder named `pages` for its older kind of app until
`st.navigation` has run once in the process. Until then it runs app.py under
another identity, so the first visitor's controls lose their first change, and a
link to a page runs that page's file without app.py. No option turns this off.
Knows nothing of which pages there are.
"""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


def run_app_first() -> None:
    """Starts this run again through app.py if Streamlit did not come by it; at most once in a process."""
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
