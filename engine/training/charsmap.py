"""Traditional characters → simplified, in the binary form that a fast tokenizer's normaliser reads.

The table (traditional.txt) is our own and covers about a thousand common characters, one to one; it knows no words, so
乾 is always 干 and 著, which simplified text uses too, is left alone. The form is SentencePiece's
"precompiled charsmap": a double-array trie in Darts-clone's layout over UTF-8 bytes, then the replacements.
"""

from __future__ import annotations

import struct
from pathlib import Path

HAS_LEAF = 1 << 8
LEAF = 1 << 31


def read_table() -> dict[str, str]:
    """Traditional character → simplified character."""
    lines = (Path(__file__).parent / "traditional.txt").read_text(encoding="utf-8").split()
    pairs = [(a, b) for line in lines for a, b in zip(line[::2], line[1::2])]
    return {a: b for a, b in pairs if a != b}


def build_charsmap(table: dict[str, str]) -> bytes:
    """The precompiled charsmap of a table of single characters.

    Returns:
        uint32 size of the trie in bytes, the trie's uint32 units, then the NUL-ended replacements, little-endian.
    """
    values: dict[bytes, int] = {}
    text = b""
    for key, value in sorted(table.items()):
        values[key.encode()] = len(text)
        text += value.encode() + b"\0"
    tree: dict = {}
    for key, offset in values.items():
        node = tree
        for byte in key:
            node = node.setdefault(byte, {})
        node[0] = offset

    units: dict[int, int] = {0: 0}
    pending = [(0, tree)]
    candidate = 0  # a unit knows its label but not its parent, so no two nodes may share a base
    while pending:
        place, node = pending.pop(0)
        candidate += 1
        while any(candidate ^ label in units for label in node):
            candidate += 1
        units[place] |= (candidate ^ place) << 10 | (HAS_LEAF if 0 in node else 0)
        for label, child in node.items():
            if label == 0:
                units[candidate] = LEAF | child
            else:
                units[candidate ^ label] = label
                pending.append((candidate ^ label, child))
    size = (max(units) // 256 + 1) * 256
    array = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(array)) + array + text
