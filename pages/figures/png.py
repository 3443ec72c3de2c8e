"""Bytes and a palette to a PNG, as a data URI: the fastest way to bring a big map into Plotly.

It knows the PNG format (indexed colour). It does not know what the bytes mean.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def indexed_png(picture: np.ndarray, colours: np.ndarray) -> bytes:
    """An indexed-colour PNG (W3C PNG specification, colour type 3).

    Args:
        picture: (rows, columns) uint8, an index into `colours` for each pixel.
        colours: (256, 3) uint8 RGB.

    Raises:
        ValueError: no pixels, or other shapes.
    """
    if picture.ndim != 2 or picture.size == 0 or picture.dtype != np.uint8 or colours.shape != (256, 3):
        raise ValueError(f"Expected (rows, columns) uint8 with at least one pixel and 256 colours; "
                         f"got {picture.shape} {picture.dtype} and {colours.shape}.")
    rows, columns = picture.shape
    # Each row begins with its filter, 0: none.
    raw = np.zeros((rows, columns + 1), dtype=np.uint8)
    raw[:, 1:] = picture
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", np.ascontiguousarray(colours, dtype=np.uint8).tobytes()),
        _chunk(b"IDAT", zlib.compress(raw.tobytes(), 3)),
        _chunk(b"IEND", b""),
    ])


def data_uri(png: bytes) -> str:
    """PNG bytes as a `data:` address that needs no request."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
