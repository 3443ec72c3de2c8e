"""What a model directory's safetensors files hold, read from their headers alone.

Nothing here allocates a tensor or runs a model: it answers which files carry
the weights, whether they are whole, how many bytes they will take, and what
their hash is. It does not know which class the weights belong to.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine import errors

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
#: Files that hold weights as pickles or in other frameworks' formats; never opened.
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx")

#: Bytes of one element, by the safetensors name of its type.
ELEMENT_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
}
FLOATS = ("F64", "F32", "F16", "BF16")
_HEADER_LIMIT = 100 * 2**20  # the format's own limit
_INDEX_LIMIT = 32 * 2**20
_MOST_DIMENSIONS = 8  # weights have at most five
_SHOWN = 80  # characters of a name or type in a message
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class Tensor:
    """One tensor as its header declares it: safetensors type name and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that hold the model in `folder`: the single file, or the index's shards.

    Raises:
        errors.ModelRefused: there is none (only pickles, or nothing), or the
            index is unreadable or names a file outside the folder.
    """
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        return (single,)
    if index.is_file():
        return _shards(folder, index)
    unsafe = sorted(path.name for path in folder.iterdir() if path.suffix in UNSAFE_SUFFIXES)
    raise errors.ModelRefused(
        f"weights as {SINGLE_FILE} or {INDEX_FILE}",
        got=f"only {', '.join(unsafe[:3])}" if unsafe else f"no weights in {folder.name}",
        next_step="Convert the weights to safetensors; other formats can run code when they are opened."
        if unsafe else "Put the model's safetensors files into the folder.",
        code="weights_pickle" if unsafe else "weights_missing", files=", ".join(unsafe[:3]),
    )


def shard_names(index: Path) -> tuple[str, ...]:
    """The files that an index names, sorted. Raises errors.ModelRefused when it names anything but plain files."""
    try:
        if index.stat().st_size > _INDEX_LIMIT:
            raise ValueError(f"an index of {index.stat().st_size} bytes")
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except OSError as error:  # its text would tell where the folder lies
        raise damaged(index, f"an unreadable index ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(index, f"an unreadable index ({error})") from error
    for name in names:
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
            raise damaged(index, f"a shard named {ascii(name)[:_SHOWN]}")
    if not names:
        raise damaged(index, "an index without shards")
    return tuple(names)


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    names = shard_names(index)
    for name in names:
        if not (folder / name).is_file():
            raise damaged(index, f"no file {name}")
    return tuple(folder / name for name in names)


def damaged(path: Path, got: str) -> errors.ModelRefused:
    """The refusal for a weights file that is not what its header says."""
    return errors.ModelRefused(
        f"{path.name} to be a whole safetensors file", got=got, next_step="Download or copy the model again.",
        code="weights_damaged", file=path.name, detail=got,
    )


def header(path: Path) -> dict[str, Tensor]:
    """Name → declared tensor of one safetensors file, checked against the file's size.

    Format: https://github.com/huggingface/safetensors#format (u64 little-endian
    header length, JSON header, tensor data).

    Raises:
        errors.ModelRefused: truncated, or the header contradicts itself or the file's size.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise damaged(path, f"a file of {size} bytes whose header would take {length}")
        raw = stream.read(length)
    try:
        declared = json.loads(raw)
        declared.pop("__metadata__", None)
        tensors, end = _check(declared, size)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(path, f"a header that cannot be read ({error})") from error
    if 8 + length + end != size:
        raise damaged(path, f"{size} bytes where the header declares {8 + length + end}")
    return tensors


def _check(declared: dict, size: int) -> tuple[dict[str, Tensor], int]:
    """Tensors of a parsed header in a file of `size` bytes, and the end of their data.

    ValueError, KeyError, TypeError when they disagree.
    """
    tensors, spans = {}, []
    for name, entry in declared.items():
        shown, dtype = ascii(name[:_SHOWN])[1:-1], str(entry["dtype"])
        if dtype not in ELEMENT_BYTES:
            raise ValueError(f"{shown} of unknown type {ascii(dtype[:_SHOWN])[1:-1]}")
        start, end = entry["data_offsets"]
        if not (_within(start, size) and _within(end, size)):
            raise ValueError(f"{shown} at offsets that are no places in the file")
        shape = _shape(shown, entry["shape"], size)
        tensor = Tensor(dtype=dtype, shape=shape)
        if tensor.elements * ELEMENT_BYTES[dtype] != end - start:
            raise ValueError(f"{shown} of shape {list(shape)} in {end - start} bytes")
        tensors[name] = tensor
        spans.append((start, end))
    position = 0
    for start, end in sorted(spans):
        if start != position:
            raise ValueError(f"data that starts at {start} instead of {position}")
        position = end
    return tensors, position


def _within(number: object, size: int) -> bool:
    return type(number) is int and 0 <= number <= size


def _shape(name: str, sides: object, size: int) -> tuple[int, ...]:
    """The sides of one tensor of a file of `size` bytes; ValueError where no tensor in it can have them."""
    if not isinstance(sides, list) or len(sides) > _MOST_DIMENSIONS:
        raise ValueError(f"{name} with a shape that is no list of at most {_MOST_DIMENSIONS} sides")
    elements = 1
    for side in sides:
        if not _within(side, size):
            raise ValueError(f"{name} with a side that is no whole number from 0 to the file's size")
        elements *= side
        if elements > size:
            raise ValueError(f"{name} with more numbers than the file has bytes")
    return tuple(sides)


def headers(folder: Path) -> dict[str, Tensor]:
    """Name → declared tensor over all weight files of `folder`. Raises as `files` and `header` do."""
    merged: dict[str, Tensor] = {}
    for path in files(folder):
        merged.update(header(path))
    if not merged:
        raise damaged(folder / SINGLE_FILE, "no tensors")
    return merged


def float_bytes(tensors: Mapping[str, Tensor], *, element_bytes: int | None) -> int:
    """Bytes the tensors take when every floating-point one is stored with `element_bytes` (None: as it is)."""
    total = 0
    for tensor in tensors.values():
        as_stored = ELEMENT_BYTES[tensor.dtype]
        each = element_bytes if element_bytes is not None and tensor.dtype in FLOATS else as_stored
        total += tensor.elements * each
    return total


def stored_dtype(tensors: Mapping[str, Tensor]) -> str:
    """The floating-point type, as torch names it, that most numbers are stored in; float64 counts as float32."""
    counts: dict[str, int] = {}
    for tensor in tensors.values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.elements
    most = max((name for name in counts if name in FLOATS), key=lambda name: counts[name], default="F32")
    return {"F16": "float16", "BF16": "bfloat16"}.get(most, "float32")


def digest(folder: Path) -> str:
    """`sha256:` and the hash of the weight files' bytes in order; computed once per file state."""
    return "sha256:" + _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files(folder)))


@lru_cache(maxsize=64)
def _digest(states: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in states:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                total.update(block)
    return total.hexdigest()
