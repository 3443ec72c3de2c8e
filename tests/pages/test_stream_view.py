"""What the page shows of a stream equals what the engine says, by tokens and by words."""

from __future__ import annotations

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt
from engine.types import LABELS
from pages.widgets import measures, stream_view
from tests.engine import tiny

TEXT = "the cat, 喜欢 苹果."


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("gpt2", "marian"):
        tiny.save(kind, folder / kind)
    return LocalEngine(folder=folder, device="cpu")


@pytest.mark.parametrize(("model", "stream"), [("gpt2", "decoder"), ("marian", "encoder"), ("marian", "cross")])
def test_tokens_are_the_engines_pattern_with_masked_cells_missing(engine, model, stream):
    prompt = Prompt(model, TEXT, target="a dog" if model == "marian" else None)
    head = Head(stream, 1, 2)
    shown = stream_view.view(engine.trace(prompt), stream, unit="tokens")
    weights = stream_view.pattern(engine, prompt, head, shown)
    expected = engine.pattern(prompt, head)
    assert weights.shape == (len(shown.queries), len(shown.keys)) == expected.shape
    if stream == "decoder":
        assert np.isnan(weights[np.triu_indices_from(weights, 1)]).all()
    np.testing.assert_allclose(np.nan_to_num(weights), expected, atol=1e-7)
    np.testing.assert_array_equal(stream_view.patterns(engine, prompt, shown)[1, 2], weights)


def test_words_sum_keys_and_average_queries(engine):
    prompt, head = Prompt("gpt2", TEXT), Head("decoder", 0, 1)
    shown = stream_view.view(engine.trace(prompt), "decoder", unit="words")
    weights, raw = stream_view.pattern(engine, prompt, head, shown), engine.pattern(prompt, head)
    assert len(shown.keys) < raw.shape[1]
    for i, query in enumerate(shown.query_units):
        for j, key in enumerate(shown.key_units):
            block = raw[query.start:query.end, key.start:key.end]
            assert np.nan_to_num(weights[i, j]) == pytest.approx(block.sum(1).mean(), abs=1e-6)
    np.testing.assert_allclose(np.nansum(weights, 1), 1, atol=1e-6)


@pytest.mark.parametrize(("model", "stream"), [("gpt2", "decoder"), ("marian", "encoder"), ("marian", "cross")])
@pytest.mark.parametrize("unit", stream_view.UNITS)
def test_looking_at_all_tokens_alike_gives_a_word_the_share_of_its_tokens(engine, model, stream, unit):
    prompt = Prompt(model, TEXT, target="a dog" if model == "marian" else None)
    shown = stream_view.view(engine.trace(prompt), stream, unit=unit)
    even = stream_view.even(engine, prompt, Head(stream, 1, 0), shown)
    n_keys = shown.key_units[-1].end
    for i, query in enumerate(shown.query_units):
        for j, key in enumerate(shown.key_units):
            shares = []
            for row in range(query.start, query.end):
                in_sight = range(row + 1 if stream == "decoder" else n_keys)
                shares.append(sum(key.start <= token < key.end for token in in_sight) / len(in_sight))
            expected = sum(shares) / len(shares)
            assert np.isnan(even[i, j]) if expected == 0 else even[i, j] == pytest.approx(expected, abs=1e-6)
    assert unit == "tokens" or any(unit_.end - unit_.start > 1 for unit_ in shown.key_units)


def test_texts_that_repeat_are_numbered_and_others_stay_bare():
    assert stream_view.numbered([(0, "我"), (1, "你"), (2, "我")]) == ("我₁", "你", "我₂")
    assert stream_view.numbered([(at, "a") for at in range(12)])[9:] == ("a₁₀", "a₁₁", "a₁₂")
    # Twice at one place is once.
    assert stream_view.numbered([(0, "<s>"), (1, "a"), (1, "a"), (2, "</s>")]) == ("<s>", "a", "a", "</s>")
    assert stream_view.numbered([(1, "a"), (2, "b"), (1, "a"), (3, "a")]) == ("a₁", "b", "a₁", "a₂")


@pytest.mark.parametrize("unit", stream_view.UNITS)
def test_a_decoder_numbers_what_it_predicts_as_what_it_then_reads(engine, unit):
    trace = engine.trace(Prompt("marian", TEXT, target="aa bb aa cat"))
    for stream in ("decoder", "cross"):
        shown = stream_view.view(trace, stream, unit=unit)
        predicted, read = zip(*(label.split(" ‹ ") for label in shown.queries), strict=True)
        assert read[1:] == predicted[:-1]
        repeated = [label for label in predicted if label[-1] in "₁₂₃₄₅₆₇₈₉"]
        assert len(set(repeated)) == len(repeated) >= 2
    assert unit == "tokens" or {"aa₁", "aa₂", "bb", "cat"} < set(predicted)


def test_a_row_that_starts_within_a_word_reads_the_token(engine):
    trace = engine.trace(Prompt("gpt2", "cats purr"))
    axes, shown = trace.tokens("decoder"), stream_view.view(trace, "decoder", unit="words")
    assert axes.key_words[0].end > 1, "the first word is one token: nothing starts within it"
    assert shown.queries[0].split(" ‹ ")[1] == axes.consumed[0].text
    following = next(at for at, unit in enumerate(shown.query_units) if unit.start == axes.key_words[0].end - 1)
    assert shown.queries[following].split(" ‹ ")[1] == axes.key_words[0].text


def test_decoder_rows_name_the_predicted_and_the_consumed_token(engine):
    trace = engine.trace(Prompt("marian", TEXT, target="a b"))
    shown = stream_view.view(trace, "cross", unit="tokens")
    assert [label.split(" ‹ ")[0] for label in shown.queries] == [t.text for t in trace.tokens("cross").query]
    assert [label.split(" ‹ ")[1] for label in shown.queries] == [t.text for t in trace.tokens("cross").consumed]


def test_sink_set_aside_leaves_rows_that_sum_to_one(engine):
    prompt = Prompt("marian", TEXT)
    shown = stream_view.view(engine.trace(prompt), "encoder", unit="tokens")
    weights = stream_view.pattern(engine, prompt, Head("encoder", 0, 0), shown)
    rest, removed = stream_view.set_sink_aside(weights, shown)
    assert shown.sink[-1] and np.isnan(rest[:, shown.sink]).all()
    np.testing.assert_allclose(removed, weights[:, shown.sink].sum(1), atol=1e-6)
    np.testing.assert_allclose(np.nansum(rest, 1), 1, atol=1e-5)


def test_order_sorts_and_filters_by_the_engines_numbers(engine):
    summary = engine.summaries(Prompt("gpt2", TEXT), "decoder")
    everything = measures.order(summary, sort="entropy", labels=LABELS, bounds=None)
    values = [summary.entropy[at] for at in everything]
    assert len(everything) == summary.entropy.size and values == sorted(values, reverse=True)
    few = measures.order(summary, sort="entropy", labels=LABELS, bounds=(values[2], values[0]))
    assert few == everything[:3]
    label = LABELS[summary.label[0, 0]]
    assert all(LABELS[summary.label[at]] == label
               for at in measures.order(summary, sort=None, labels=[label], bounds=None))
    natural = measures.order(summary, sort=None, labels=LABELS, bounds=None)
    assert natural == list(np.ndindex(summary.entropy.shape))
