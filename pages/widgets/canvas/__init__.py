"""What the canvas components share: the bytes they are sent and the script they all start with.

It knows Streamlit's component interface (v2) and the wire format: a u32 in
little-endian order with the header's length, the header as UTF-8 JSON, the
body as raw bytes. It does not know what any component draws.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import streamlit as st

from pages.figures import palette

_SHARED = Path(__file__).parent / "canvas.js"


def register(folder: Path, *scripts: str):
    """Register the component that lives in `folder` (`<name>.js`, `<name>.css`) and return its mounting command.

    Args:
        folder: the component's folder; its name is the component's name.
        scripts: further script files of that folder, read before its own.
    """
    name = folder.name
    sources = [_SHARED, *(folder / script for script in scripts), folder / f"{name}.js"]
    return st.components.v2.component(
        f"attention_microscope_{name}",
        css=(folder / f"{name}.css").read_text(encoding="utf-8"),
        js="\n".join(source.read_text(encoding="utf-8") for source in sources),
    )


def pack(header: Mapping[str, object], body: np.ndarray) -> bytes:
    """One message to a component: u32 header length, JSON header, `body` (uint8, C order).

    The header gains `digest`, a hash of the body, by which the script knows
    that pixels need no repainting, and `colours`, the palette by theme.
    """
    pixels = np.ascontiguousarray(body, dtype=np.uint8).tobytes()
    full = {
        **header,
        "digest": blake2b(pixels, digest_size=8).hexdigest(),
        "colours": {theme: palette.to_hex(palette.weight_colours(theme)) for theme in palette.THEMES},
        "accent": palette.ACCENT,
    }
    # ASCII escapes keep lone surrogates, which UTF-8 cannot carry, out of the encoder's way.
    text = json.dumps(full, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return struct.pack("<I", len(text)) + text + pixels


def require_texts(texts: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The interface strings a component needs, none missing. Raises ValueError naming those that are."""
    missing = [name for name in names if name not in texts]
    if missing:
        raise ValueError(f"Expected texts for {', '.join(names)}; got none for {', '.join(missing)}. Translate them.")
    return {name: str(texts[name]) for name in names}


def pending(key: str, trigger: str) -> object:
    """What the component `key` has just sent under `trigger`, before it is mounted in this run; else None."""
    state = st.session_state.get(key)
    return state.get(trigger) if isinstance(state, Mapping) else None
