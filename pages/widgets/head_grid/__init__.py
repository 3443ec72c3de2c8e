"""The grid of all heads of one stream, painted in one canvas; a click opens a head.

It knows how to turn uint8 pictures and display strings into one message, and
what may come back. It does not know models, summaries or how heads were sorted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pages.widgets.canvas import pack, pending, register, require_texts

#: Interface strings `head_grid` needs, already translated: `grid` names the whole for screen readers, `layer` and
#: `head` name the axes, `legend` says what colour means (and that it follows the weight's square root), `masked`
#: names cells a query may not see, `weight` names the number, `empty` stands where a filter leaves no head.
TEXTS = ("grid", "layer", "head", "legend", "masked", "weight", "empty")

_component = register(Path(__file__).parent)


def head_grid(
    pictures: np.ndarray,
    *,
    stream: str,
    labels: np.ndarray,
    captions: np.ndarray,
    order: Sequence[tuple[int, int]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    selected: tuple[int, int] | None,
    limit: float = 1.0,
    texts: Mapping[str, str],
    key: str,
) -> tuple[int, int] | None:
    """Paint every head in `order` and return the (layer, head) that was clicked in this run, else None.

    All heads in natural order are laid out as layers × heads with axis
    headings; any other order flows from left to right with captions.

    Args:
        pictures: (n_layers, n_heads, rows, cols) uint8 by `palette.weights_to_bytes`: 0 masked, 1..255 weight / limit.
        stream: the name under which hovers are shared; views of other names take no notice.
        labels: (n_layers, n_heads) str, what a head does, in the reader's language.
        captions: (n_layers, n_heads) str, e.g. "L2 H1 · 0.83".
        order: heads to show, first to last.
        row_labels, column_labels: rows and cols display strings, queries and keys.
        selected: the head that is open. A click of this run takes its place at once.
        limit: the weight that the strongest colour stands for.
        texts: the strings of TEXTS.
        key: unique on the page.

    Raises:
        ValueError: shapes do not fit, or a text is missing.
    """
    if pictures.ndim != 4 or pictures.dtype != np.uint8:
        raise ValueError(f"Expected pictures (n_layers, n_heads, rows, cols) uint8; "
                         f"got {pictures.shape} {pictures.dtype}. Use palette.weights_to_bytes.")
    n_layers, n_heads, rows, cols = pictures.shape
    if (len(row_labels), len(column_labels)) != (rows, cols):
        raise ValueError(f"Expected {rows} row and {cols} column labels, as the pictures have; "
                         f"got {len(row_labels)} and {len(column_labels)}. Label the same axes.")
    order = [(int(layer), int(head)) for layer, head in order]
    natural = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    selected = _head(pending(key, "clicked"), order) or selected
    header = {
        "rows": rows,
        "cols": cols,
        "columns": n_heads if order == natural else 0,
        "heads": [
            {"layer": layer, "head": head, "label": str(labels[layer, head]), "caption": str(captions[layer, head])}
            for layer, head in order
        ],
        "queries": list(row_labels),
        "keys": list(column_labels),
        "selected": list(selected) if selected else None,
        "stream": stream,
        "limit": limit,
        "texts": require_texts(texts, TEXTS),
    }
    body = pictures[[layer for layer, _ in order], [head for _, head in order]] if order else pictures[:0, :0]
    result = _component(data=pack(header, body), key=key, on_clicked_change=lambda: None)
    return _head(result.clicked, order)


def _head(value: object, order: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """What the browser sent, if it is one of the heads on show; a browser may send anything."""
    if isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value):
        head = (value[0], value[1])
        return head if head in order else None
    return None
