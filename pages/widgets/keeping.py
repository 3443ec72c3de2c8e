"""Values of widgets that the page sets: until the browser surely has them again and again, from then on never.

A run that the next one interrupts may never reach the browser; its widgets then
stand at their least value and send that back. So a value is set in every run
until one has come to its end some time ago. After that, setting it would undo
what a person has changed meanwhile. Knows nothing of what the values mean.
"""

from __future__ import annotations

import time

import streamlit as st

_DRAWN = "kept_values_drawn_at"
#: Seconds after a run's end in which its last message may still be on its way.
_ON_ITS_WAY = 0.5


def keep(name: str, value: object) -> None:
    """Makes the widget called `name` stand at `value`, if it does not yet."""
    state = st.session_state
    if name not in state:
        state.pop(_DRAWN, None)  # a first visit, or a return to the page
    drawn = state.get(_DRAWN)
    if state.get(name) != value or drawn is None or time.monotonic() - drawn < _ON_ITS_WAY:
        state[name] = value


def drawn() -> None:
    """To be called at a run's very end, which a run that is interrupted does not reach."""
    st.session_state.setdefault(_DRAWN, time.monotonic())
