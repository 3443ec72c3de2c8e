"""Values of widgets that the page sets: once for every visit, from then on only where they must change.

A value set in the session state goes to the browser as an order, over whatever
a quick hand has moved there meanwhile; set in every run, it loses clicks. So it
is set until one run of the page has come to its end, and then only if another
value stands there. What a later run finds missing in the browser, because the
first one was interrupted on its way, Streamlit sends again by itself for
widgets with `persist_state`: every widget whose value is set here needs it.
Knows nothing of what the values mean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException

_PAGE, _DRAWN = "kept_page", "kept_drawn"


@contextmanager
def visit(page: str) -> Iterator[None]:
    """Around a run of `page`: notices a first visit or a return, and whether a run was interrupted."""
    state = st.session_state
    if state.get(_PAGE) != page:
        state[_PAGE], state[_DRAWN] = page, False
    try:
        yield
    finally:
        if not isinstance(sys.exception(), RerunException):
            state[_DRAWN] = True


def keep(name: str, value: object) -> None:
    """Makes the widget called `name` stand at `value`, if it does not yet."""
    state = st.session_state
    if not state.get(_DRAWN) or name not in state or state[name] != value:
        state[name] = value
