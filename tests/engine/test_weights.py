"""Weight files by their headers: whole ones agree with the safetensors library, damaged ones are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from engine import errors, weights
from tests.engine import tiny


@pytest.fixture
def gpt2(tmp_path) -> Path:
    """A checkpoint of this test's own, to be spoilt."""
    return tiny.save("gpt2", tmp_path / "gpt2")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def header_of(path: Path) -> tuple[dict, bytes]:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + length]), raw[8 + length:]


def write_header(path: Path, header: object, data: bytes) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def spoil(path: Path, how: str) -> None:
    raw = path.read_bytes()
    header, data = header_of(path)
    first = next(name for name in header if name != "__metadata__")
    if how == "truncated":
        path.write_bytes(raw[:-100])
    elif how == "longer":
        path.write_bytes(raw + b"\0" * 8)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "header too long":
        path.write_bytes(struct.pack("<Q", 2**62) + raw[8:])
    elif how == "no json":
        write_header(path, b"{" * 64, data)
    elif how == "a list":
        write_header(path, [1, 2], data)
    elif how == "a deep list":
        write_header(path, b"[" * 100_000, data)
    elif how == "shape lies":
        header[first]["shape"][0] += 1
        write_header(path, header, data)
    elif how == "type lies":
        header[first]["dtype"] = "F16"
        write_header(path, header, data)
    elif how == "unknown type":
        header[first]["dtype"] = "C64"
        write_header(path, header, data)
    elif how == "offsets overlap":
        start, end = header[first]["data_offsets"]
        header["copy"] = header[first] | {"data_offsets": [start, end]}
        write_header(path, header, data)
    elif how == "negative shape":
        header[first] = {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]}
        write_header(path, header, data)
    elif how == "a web page":
        path.write_text("<!DOCTYPE html><html>Not found</html>", encoding="utf-8")
    elif how == "a pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")
    elif how == "no tensors":
        write_header(path, {}, b"")
    else:
        raise AssertionError(how)


@pytest.mark.parametrize(
    "how",
    ["truncated", "longer", "empty", "header too long", "no json", "a list", "a deep list", "shape lies", "type lies",
     "unknown type", "offsets overlap", "negative shape", "a web page", "a pointer", "no tensors"],
)
def test_damaged_weights_are_refused(gpt2, how):
    spoil(gpt2 / "model.safetensors", how)
    with pytest.raises(errors.ModelRefused, match=r"model\.safetensors") as caught:
        weights.headers(gpt2)
    assert caught.value.code == "weights_damaged"


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [("[1" + ",1" * 10**6 + "]", "[0,4]"), ("[" + ",".join(["9" * 4000] * 8) + "]", "[0,4]"), ("[1e999]", "[0,4]"),
     ("[1.7]", "[0,4]"), ('["1"]', "[0,4]"), ("[true]", "[0,4]"), ("[-1,-1]", "[0,4]"), ('"1"', "[0,4]"),
     ("[0," + "9" * 4000 + "]", "[0,0]"), ("[1]", "[0,4.0]"), ("[1]", "[0,1e999]"), ("[1]", '["0","4"]'),
     ("[1]", "[-" + "9" * 4000 + ",4]"), ("[1]", "[false,4]")],
)
def test_shapes_and_offsets_that_no_tensor_has_are_refused_at_once(tmp_path, monkeypatch, shape, offsets):
    monkeypatch.setattr(weights.math, "prod", lambda shape: pytest.fail("multiplied"))
    header = f'{{"{"w" * 10**5}": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}'
    write_header(tmp_path / "model.safetensors", header.encode(), b"\0" * 4)
    with pytest.raises(errors.ModelRefused) as caught:
        weights.headers(tmp_path)
    assert caught.value.code == "weights_damaged" and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "index",
    ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"w": 1}}',
     '{"weight_map": {"w": "../gpt2/other.safetensors"}}', '{"weight_map": {"w": "/etc/hosts"}}',
     '{"weight_map": {"w": "absent.safetensors"}}', '{"weight_map": {"w": "evil.bin"}}'],
)
def test_index_may_name_only_files_beside_it(gpt2, index):
    (gpt2 / "model.safetensors").rename(gpt2 / "other.safetensors")
    (gpt2 / "evil.bin").write_bytes(b"x")
    (gpt2 / weights.INDEX_FILE).write_text(index, encoding="utf-8")
    with pytest.raises(errors.ModelRefused) as caught:
        weights.files(gpt2)
    assert caught.value.code == "weights_damaged"


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_headers_agree_with_the_safetensors_library(tmp_path, kind):
    state = tensors(tiny.save(kind, tmp_path))
    declared = weights.headers(tmp_path)
    assert {name: tensor.shape for name, tensor in declared.items()} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert weights.float_bytes(declared, element_bytes=None) == stored


def test_shards_are_read_as_one(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path / "whole")
    tiny.model("gpt2").save_pretrained(tmp_path / "parts", max_shard_size="60KB")
    assert len(weights.files(tmp_path / "parts")) > 1
    assert weights.headers(tmp_path / "parts") == weights.headers(tmp_path / "whole")


def test_bytes_and_types():
    mixed = {"a": weights.Tensor("BF16", (3, 5)), "b": weights.Tensor("F32", (2,)), "c": weights.Tensor("U8", (7,)),
             "scalar": weights.Tensor("F16", ())}
    assert weights.float_bytes(mixed, element_bytes=None) == 30 + 8 + 7 + 2
    assert weights.float_bytes(mixed, element_bytes=4) == 60 + 8 + 7 + 4
    assert weights.stored_dtype(mixed) == "bfloat16"
    assert weights.stored_dtype({"c": weights.Tensor("U8", (7,))}) == "float32"


def test_digest_changes_with_the_weights(gpt2):
    before = weights.digest(gpt2)
    state = tensors(gpt2)
    state[next(iter(state))][0] += 1
    safetensors.torch.save_file(state, gpt2 / "model.safetensors", metadata={"format": "pt"})
    assert weights.digest(gpt2) != before
