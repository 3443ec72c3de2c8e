"""Pills that fill in a form: a click takes one; they stand at what the form holds, however that came there.

The page never sets their value. A value set in the session state is an order
that the browser has yet to read: whatever it sends meanwhile still holds the
old value, which looks like another click, and a sentence just typed would be
overwritten by the example before it. Where the form has moved on without a
click, the pills are other pills, and nobody hears the old ones any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def offer(label: str, options: Sequence[str], *, key: str, chosen: str | None, take: Callable[[str], None],
          format_func: Callable[[str], str] = str) -> None:
    """Draws `options` as pills; a click on one calls `take` with it, before the page runs again.

    Args:
        label: for screen readers.
        key: the name under which their state is kept.
        chosen: the option that the form holds now; None: it holds none of them.
        take: puts an option into the form.
        format_func: an option as it is shown.
    """
    state = st.session_state
    turn = state.get(f"_{key}_turn", 0)
    if state.get(f"{key}-{turn}", chosen) != chosen:
        turn = state[f"_{key}_turn"] = turn + 1
    widget = f"{key}-{turn}"
    st.pills(label, options, key=widget, default=chosen, required=True, format_func=format_func,
             on_change=lambda: take(state[widget]), label_visibility="collapsed", persist_state="session")
