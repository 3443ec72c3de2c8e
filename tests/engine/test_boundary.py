"""What is no request at all is refused as an EngineError, and an EngineError survives being copied."""

from __future__ import annotations

import copy
import json
from multiprocessing import Pipe

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt, checks, errors
from tests.engine import oracle, tiny

TEXT = "the apple every day"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return LocalEngine(folder=oracle.save_tiny(tmp_path_factory.mktemp("models"), ("gpt2",)), device="cpu")


@pytest.mark.parametrize("place", [("0", 0), (None, 0), (1.5, 0), (0, "0"), (0, np.float32(1)), (True, 0)])
def test_a_head_is_counted_in_whole_numbers(place):
    with pytest.raises(errors.InvalidPrompt) as caught:
        Head("encoder", *place)
    assert caught.value.code == "bad_amount"


def test_a_head_counted_by_numpy_is_the_same_head():
    head = Head("encoder", np.int64(2), np.uint8(1))
    assert head == Head("encoder", 2, 1) and hash(head) == hash(Head("encoder", 2, 1))
    assert type(head.layer) is type(head.head) is int


@pytest.mark.parametrize("ask", [
    lambda engine: engine.trace(TEXT), lambda engine: engine.start(None), lambda engine: engine.emergence(None),
    lambda engine: engine.evidence(TEXT, "apple", "the"), lambda engine: engine.summaries(5, "decoder"),
    lambda engine: engine.pattern(Prompt("gpt2", TEXT), "decoder"),
    lambda engine: engine.query_key_value(Prompt("gpt2", TEXT), ("decoder", 0, 0)),
])
def test_what_is_no_request_is_refused(engine, ask):
    with pytest.raises(errors.InvalidPrompt) as caught:
        ask(engine)
    assert caught.value.code == "bad_type"
    assert not engine.has_snapshots(5)


def test_a_tokenizer_that_cannot_read_a_text_is_refused_with_its_reason(tmp_path):
    path = tiny.save("gpt2", tmp_path / "spoilt") / "tokenizer.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["model"] |= {"vocab": {"a": 5}, "merges": [], "unk_token": "<none>"}
    path.write_text(json.dumps(fields), encoding="utf-8")
    engine = LocalEngine(folder=tmp_path, device="cpu")
    assert engine.trace(Prompt("spoilt", "aaa")).tokens("decoder").query
    with pytest.raises(errors.ModelRefused) as caught:
        engine.trace(Prompt("spoilt", TEXT))
    assert caught.value.code == "tokenizer_unreadable" and "<none>" in caught.value.got


@pytest.mark.parametrize("size", [0, -1, "a", None, 1.5, float("nan"), True])
def test_a_picture_has_a_whole_number_of_cells(engine, size):
    with pytest.raises(errors.InvalidPrompt) as caught:
        engine.pooled(Prompt("gpt2", TEXT), Head("decoder", 0, 0), size=size)
    assert caught.value.code == "bad_amount"


@pytest.mark.parametrize("rows", [("a", "b"), 5, "ab", (0, 1, 2), (0.5, 2), (), (0,), (None, 2), (True, 2)])
def test_a_region_is_two_whole_numbers(engine, rows):
    for at in ({"rows": rows}, {"columns": rows}):
        with pytest.raises(errors.InvalidPrompt) as caught:
            engine.pooled(Prompt("gpt2", TEXT), Head("decoder", 0, 0), **at)
        assert caught.value.code == "bad_region"


def test_a_region_counted_by_numpy_is_the_same_region(engine):
    ask = engine.pooled, Prompt("gpt2", TEXT), Head("decoder", 0, 0)
    ours, numpys = (ask[0](*ask[1:], rows=rows, size=size) for rows, size in (
        ((1, 3), 2), ([np.int64(1), np.int32(3)], np.int64(2))))
    np.testing.assert_array_equal(ours.mean, numpys.mean)
    np.testing.assert_array_equal(ours.q_edges, numpys.q_edges)


@pytest.mark.parametrize("name", ["foo", "meta", "cuda:9999", "cpu,cuda", 1.5])
def test_a_device_that_is_not_there_is_refused_at_once(name):
    with pytest.raises(errors.InvalidPrompt) as caught:
        LocalEngine(device=name)
    assert caught.value.code == "no_such_device" and str(name) in str(caught.value)


def test_a_device_that_is_there_is_taken():
    assert LocalEngine(device="cpu").device == "cpu"


def piped(error):
    """As another process would get it."""
    here, there = Pipe()
    with here, there:
        here.send(error)
        return there.recv()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, piped])
def test_an_error_survives_being_copied(copied):
    error = errors.TextTooLong("a", got="b", next_step="c", code="too_many_tokens", limit=3, length=np.int64(4))
    error.add_note("d")
    other = copied(error)
    assert type(other) is errors.TextTooLong and str(other) == str(error) == "Expected a; got b. c"
    assert vars(other) == vars(error) and other.numbers == {"limit": 3, "length": 4} and other.__notes__ == ["d"]


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", None, True])
def test_a_positive_number_is_finite_and_above_zero(value):
    with pytest.raises(errors.InvalidPrompt) as caught:
        checks.positive(value, what="rate")
    assert caught.value.code == "bad_number"


def test_a_positive_number_is_handed_back():
    assert checks.positive(np.float32(0.5), what="rate") == 0.5
