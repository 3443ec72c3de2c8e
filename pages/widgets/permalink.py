"""The page's address: what it says when a session starts, and what it should say now.

The values are the engine's own names (model, stream, layer …), never labels of
the interface, so a link opens the same thing in either language. A value from
an address is a stranger's: it is only ever offered to widgets and to the
engine, which check it. Knows nothing of what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

#: Texts longer than this do not go into the address: servers and chats cut long ones.
LONGEST_TEXT = 1_000

_RESTORED = "permalink_restored"


def restore(names: tuple[str, ...]) -> None:
    """Puts the address's values into the session state under `names`, once a session."""
    if st.session_state.get(_RESTORED):
        return
    st.session_state[_RESTORED] = True
    for name in names:
        if name in st.query_params:
            st.session_state[name] = st.query_params[name]


def write(values: Mapping[str, str | int | None]) -> bool:
    """Makes the address say `values`; None takes a name out.

    Returns:
        False when a text was too long for an address and was left out.
    """
    complete = True
    for name, value in values.items():
        text = None if value is None else str(value)
        if text is not None and len(text) > LONGEST_TEXT:
            text, complete = None, False
        if text is None:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != text:
            st.query_params[name] = text
    return complete
