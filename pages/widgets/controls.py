"""Sliders and choices whose value may come from an address: whatever stands there, a valid value comes out.

They keep their value in the session state under the name that the address
uses. They know nothing of what the values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from pages.widgets.keeping import keep


def slider(label: str, low: int, high: int, *, key: str, default: int, step: int = 1, help: str | None = None) -> int:
    """A slider of whole numbers; where there is nothing to choose, `low` and no slider."""
    value = _number(key, default)
    if not low < high:
        return low
    value = low + round((min(max(value, low), high) - low) / step) * step
    keep(key, min(value, high), among=(low, high, step))
    return st.slider(label, low, high, step=step, key=key, help=help, persist_state="session")


def steps(label: str, options: Sequence[int], *, key: str, default: int, help: str | None = None,
          format_func: Callable[[int], str] = "{:,}".format) -> int:
    """A slider over `options`, rising numbers; another number becomes the nearest one."""
    value = _number(key, default)
    keep(key, min(options, key=lambda option: abs(option - value)), among=tuple(map(format_func, options)))
    return st.select_slider(label, list(options), key=key, format_func=format_func, help=help, persist_state="session")


def word(label: str, words: Sequence[str], *, key: str, default: int, first: int = 0) -> int:
    """A slider over the places of `words` from `first` on, shown with their words; the only place without a slider."""
    if len(words) - first < 2:
        return first
    return steps(label, range(first, len(words)), key=key, default=default,
                 format_func=lambda place: f"{place} · {words[place]}")


def choice(label: str, names: Mapping[str, str], *, key: str, default: str | None = None,
           help: str | None = None) -> str:
    """One of `names` (value → what is shown), by default the first."""
    value = st.session_state.get(key)
    keep(key, value if value in names else default or next(iter(names)), among=tuple(names))
    return st.segmented_control(label, list(names), key=key, required=True, format_func=names.get, help=help,
                                persist_state="session")


def _number(key: str, default: int) -> int:
    try:
        return int(st.session_state.get(key, default))
    except (TypeError, ValueError, OverflowError):
        return default
