"""Two strips of tokens that point into every view of a stream, the Plotly heatmap included.

It knows tokens as display strings with flags, and the key of the chart it
links. It does not know weights or heads. A click on a query chooses its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pages.widgets.canvas import pack, pending, register, require_texts

#: Interface strings `token_link` needs, already translated: `query` and `key` name the strips, `unknown`, `fallback`
#: and `special` say what a mark on a token means, `hint` tells the reader what pointing and clicking do.
TEXTS = ("query", "key", "unknown", "fallback", "special", "hint")

#: What a token's flag may be.
FLAGS = ("", "unknown", "fallback", "special")

_component = register(Path(__file__).parent, "heatmap_link.js")


def token_link(
    *,
    stream: str,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    query_flags: Sequence[str],
    key_flags: Sequence[str],
    selected_query: int | None,
    heatmap_key: str | None,
    texts: Mapping[str, str],
    key: str,
) -> int | None:
    """Show query and key tokens as chips; return the query position that was clicked in this run, else None.

    Args:
        stream: the name under which hovers are shared.
        query_labels, key_labels: display strings.
        query_flags, key_flags: one of FLAGS for each token; a flag that is not "" is visible and explained.
        selected_query: the row that is open. A click of this run takes its place at once.
        heatmap_key: the `key` of the `st.plotly_chart` (or of a container around it) to link; None for none. Its
            heatmap must have query positions on y and key positions on x, as `figures.attention` draws them.
        texts: the strings of TEXTS.
        key: unique on the page.

    Raises:
        ValueError: labels and flags differ in number, a flag or text is unknown.
    """
    for tokens, flags in ((query_labels, query_flags), (key_labels, key_flags)):
        if len(tokens) != len(flags) or not set(flags) <= set(FLAGS):
            raise ValueError(f"Expected {len(tokens)} flags out of {FLAGS}; got {len(flags)}: {sorted(set(flags))}. "
                             "Give one flag for each label.")
    chosen = _position(pending(key, "chosen"), len(query_labels))
    header = {
        "queries": list(query_labels),
        "keys": list(key_labels),
        "query_flags": list(query_flags),
        "key_flags": list(key_flags),
        "selected": selected_query if chosen is None else chosen,
        # Streamlit's own rule for the class of a keyed element.
        "heatmap": "st-key-" + re.sub(r"[^a-zA-Z0-9_-]", "-", heatmap_key.strip()) if heatmap_key else None,
        "stream": stream,
        "texts": require_texts(texts, TEXTS),
    }
    result = _component(data=pack(header, np.zeros(0, dtype=np.uint8)), key=key, on_chosen_change=lambda: None)
    return _position(result.chosen, len(query_labels))


def _position(value: object, length: int) -> int | None:
    """What the browser sent, if it is a query position; a browser may send anything."""
    return value if type(value) is int and 0 <= value < length else None
