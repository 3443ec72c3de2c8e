"""One head as lines from queries (left) to keys (right); colour and width are the weight.

It knows how to send a pattern and its labels. It does not know which head it
is, and returns nothing: a reader points, and every view of the same stream follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pages.figures import palette
from pages.widgets.canvas import pack, register, require_texts

#: Interface strings `head_lines` needs, already translated: `lines` names the whole for screen readers, `query` and
#: `key` head the two columns, `masked` stands for the weight of a key that is out of sight, `hint` tells the
#: reader to point at a token.
TEXTS = ("lines", "query", "key", "masked", "hint")

_component = register(Path(__file__).parent)


def head_lines(
    weights: np.ndarray,
    *,
    stream: str,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    texts: Mapping[str, str],
    key: str,
) -> None:
    """Draw a pattern as lines between two columns of tokens; pointing at one leaves its lines and prints its weights.

    Weights under 1/254 leave no line: their colour is the page's own.

    Args:
        weights: (q_len, k_len) float32 in [0, 1], NaN where masked; meant for lengths up to 256.
        stream: the name under which hovers are shared.
        query_labels, key_labels: q_len and k_len display strings.
        texts: the strings of TEXTS.
        key: unique on the page.

    Raises:
        ValueError: shapes do not fit, or a text is missing.
    """
    if weights.shape != (len(query_labels), len(key_labels)):
        raise ValueError(f"Expected weights ({len(query_labels)}, {len(key_labels)}), as the labels say; "
                         f"got {weights.shape}. Label the same axes.")
    header = {
        "queries": list(query_labels),
        "keys": list(key_labels),
        "stream": stream,
        "texts": require_texts(texts, TEXTS),
    }
    _component(data=pack(header, palette.weights_to_bytes(weights)), key=key)
