"""Values of widgets that the page sets: once for every visit, from then on only where they must change.

A value set in the session state goes to the browser as an order, over whatever
a quick hand has moved there meanwhile; set in every run, it loses clicks. So it
is set until one run of the page has come to its end, and then only if another
value stands there, or the widget is another one. What a later run finds missing in the browser, because the
first one was interrupted on its way, Streamlit sends again by itself for
widgets with `persist_state`: every widget whose value is set here needs it.
Knows nothing of what the values mean.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException

_VISIT = "kept_visit"


@dataclass
class _Visit:
    """Where a session is, whether a run of that page has come to its end, and what its widgets choose from."""

    place: tuple[str, str]
    drawn: bool = False
    among: dict[str, Hashable] = field(default_factory=dict)


@contextmanager
def visit(page: str, language: str) -> Iterator[None]:
    """Around a run of `page`: notices a first visit or a return, and whether a run was interrupted.

    Another language is another visit: the browser knows some choices by what is written on them.
    """
    here = st.session_state.get(_VISIT)
    if here is None or here.place != (page, language):
        here = st.session_state[_VISIT] = _Visit((page, language))
    try:
        yield
    finally:
        # Not through the session state: after `st.stop` any use of it stops again, before the value is set.
        if not isinstance(sys.exception(), RerunException):
            here.drawn = True


def keep(name: str, value: object, among: Hashable = None) -> None:
    """Makes the widget called `name` stand at `value`, if it does not yet.

    Args:
        among: what it chooses from. Where that changes, Streamlit makes another widget, which would stand at the last
            value that one of its kind had: it is told anew.
    """
    state = st.session_state
    here = state.get(_VISIT)
    same = here is not None and here.drawn and here.among.get(name) == among
    if not same or name not in state or state[name] != value:
        state[name] = value
    if here is not None:
        here.among[name] = among
