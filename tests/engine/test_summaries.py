"""Head summaries and labels on planted heads, against a plain float64 reference.

The reference (`measure`, `evidence`) goes row by row over whole patterns, by
the definitions in the module's docstring. Tolerances: 1e-6 absolute on masses,
1e-5 on entropies (float32 sums of up to 200 logarithms), 1e-6 relative on distances.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine import summaries
from engine.types import LABELS, MEASURES, Token

CAUSAL, FULL = "decoder", "encoder"


def visible_keys(n: int, stream: str) -> np.ndarray:
    return np.tril(np.ones((n, n), bool)) if stream == CAUSAL else np.ones((n, n), bool)


def plant(name: str, n: int, stream: str, *, seed: int = 0) -> np.ndarray:
    """A pattern (n, n) of the named kind under the stream's mask, rows summing to 1."""
    chance = np.random.default_rng(seed)
    at = np.arange(n)
    away = at - at[:, None]
    weights = {
        "previous": lambda: (away == -1) + 1e-3, "next": lambda: (away == 1) + 1e-3, "self": lambda: (away == 0) + 1e-3,
        "uniform": lambda: np.ones((n, n)), "local": lambda: np.exp(-away**2 / 4.0),
        "random": lambda: np.exp(2 * chance.standard_normal((n, n))), "sink": lambda: (at == 0) + 1e-4 + 0.0 * away,
    }[name]()
    weights = np.where(visible_keys(n, stream), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def with_sink(pattern: np.ndarray, mass: float) -> np.ndarray:
    """`pattern` with `mass` of every row moved to key 0."""
    moved = pattern * (1 - mass)
    moved[:, 0] += mass
    return moved


def first_only(n: int) -> np.ndarray:
    return np.arange(n) < 1


def summarise(patterns, stream: str, sink=None, *, tile: int = 7, visible=None) -> dict[str, np.ndarray]:
    stacked = torch.from_numpy(np.stack(patterns).astype(np.float32))
    n_heads, q_len, k_len = stacked.shape
    sink = first_only(k_len) if sink is None else sink
    accumulator = summaries.Accumulator(n_heads, q_len, k_len, stream=stream, sink_keys=torch.from_numpy(sink))
    for start in range(0, q_len, tile):
        rows = slice(start, start + tile)
        accumulator.add(stacked[:, rows], start, visible=None if visible is None else torch.from_numpy(visible[rows]))
    return accumulator.result()


def label_of(pattern: np.ndarray, stream: str, sink=None, **options) -> str:
    return LABELS[summarise([pattern], stream, sink, **options)["label"][0]]


def measure(pattern: np.ndarray, sink: np.ndarray) -> dict[str, float]:
    """Each measure by its definition: means over rows with any mass."""
    live = [i for i, row in enumerate(pattern) if row.sum() > 0]
    n = pattern.shape[1]
    per_row = {
        "entropy": lambda i, p: sum(-w * math.log(w) for w in p if w > 0),
        "mean_distance": lambda i, p: sum(w * abs(i - j) for j, w in enumerate(p)), "max": lambda i, p: max(p),
        "first_token_mass": lambda i, p: p[0], "previous_token_mass": lambda i, p: p[i - 1] if i >= 1 else None,
        "self_mass": lambda i, p: p[i] if i < n else 0.0, "sink_mass": lambda i, p: p[sink].sum(),
    }
    out = {}
    for name, of_row in per_row.items():
        values = [value for i in live if (value := of_row(i, pattern[i].astype(np.float64))) is not None]
        out[name] = sum(values) / len(values) if values else 0.0
    return out


def evidence(pattern: np.ndarray, sink: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """Each label's score by the rules in the module's docstring, row by row."""
    scores: dict[str, list[float]] = {name: [] for name in ("sink", "previous", "next", "self", "local", "broad")}
    for i, row in enumerate(pattern.astype(np.float64)):
        others = visible[i] & ~sink
        if row.sum() == 0 or others.sum() < summaries.MIN_KEYS:
            continue
        scores["sink"].append(row[sink].sum())
        left = row[~sink].sum()
        if left < summaries.MIN_MASS:
            continue
        p = np.where(others, row / left, 0.0)
        for name, offset in (("previous", -1), ("next", 1), ("self", 0)):
            if 0 <= i + offset < len(p) and others[i + offset]:
                scores[name].append(p[i + offset])
        if others.sum() >= summaries.LOCAL_MIN_KEYS:
            scores["local"].append(p[max(0, i - summaries.LOCAL_REACH):i + summaries.LOCAL_REACH + 1].sum())
        scores["broad"].append(-sum(w * math.log(w) for w in p if w > 0) / math.log(others.sum()))
    return {name: sum(v) / len(v) if len(v) >= summaries.MIN_ROWS else 0.0 for name, v in scores.items()}


PLANTED = ("previous", "next", "self", "uniform", "local", "random", "sink")


@pytest.mark.parametrize("stream", [CAUSAL, FULL])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 24, 97])
def test_measures_and_scores_equal_the_reference(stream, n):
    kinds = [name for name in PLANTED if not (stream == CAUSAL and name == "next")]
    patterns = [plant(name, n, stream).astype(np.float32) for name in kinds]
    patterns += [with_sink(pattern, 0.6).astype(np.float32) for pattern in patterns]
    chance = np.random.default_rng(n)
    for sink in (first_only(n), chance.random(n) < 0.3, np.zeros(n, bool), np.ones(n, bool)):
        result = summarise(patterns, stream, sink)
        for head, pattern in enumerate(patterns):
            for name, expected in measure(pattern, sink).items():
                assert result[name][head] == pytest.approx(expected, rel=1e-6, abs=1e-5 if name == "entropy" else 1e-6)
            scores = evidence(pattern, sink, visible_keys(n, stream))
            named = LABELS[result["label"][head]]
            expected = max(scores.values()) if named == "none" else scores[named]
            assert result["label_score"][head] == pytest.approx(min(expected, 1), abs=1e-5)


@pytest.mark.parametrize("n", [12, 24, 48])
@pytest.mark.parametrize(("kind", "stream", "expected"), [
    ("previous", CAUSAL, "previous"), ("previous", FULL, "previous"), ("next", FULL, "next"), ("self", CAUSAL, "self"),
    ("self", FULL, "self"), ("uniform", CAUSAL, "broad"), ("uniform", FULL, "broad"), ("local", FULL, "local"),
    ("local", CAUSAL, "local"), ("sink", CAUSAL, "sink"), ("sink", FULL, "sink"),
])
def test_planted_heads_get_their_label_at_any_length(kind, stream, expected, n):
    pattern = plant(kind, n, stream)
    assert label_of(pattern, stream) == expected
    if kind != "sink":
        assert label_of(with_sink(pattern, 0.6), stream) == expected, "a sink over it must not hide what it does"


def test_a_peaked_random_head_gets_no_label():
    for seed in range(5):
        assert label_of(plant("random", 40, FULL, seed=seed)**2, FULL) == "none"


@pytest.mark.parametrize("stream", [CAUSAL, FULL])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_so_few_tokens_are_no_evidence(stream, n):
    for kind in ("previous", "self", "uniform", "sink"):
        result = summarise([plant(kind, n, stream)], stream)
        assert LABELS[result["label"][0]] == "none" and result["label_score"][0] == 0
        assert all(np.isfinite(result[name]).all() for name in MEASURES)


def test_a_uniform_head_among_mostly_sinks_is_not_a_sink_head():
    n = 30
    sink = np.arange(n) >= 4
    assert summarise([plant("uniform", n, FULL)], FULL, sink)["sink_mass"][0] > summaries.SINK_LABEL
    assert label_of(plant("uniform", n, FULL), FULL, sink) == "broad"


def test_nearness_is_no_choice_among_few_keys():
    n = summaries.LOCAL_MIN_KEYS - 1
    assert label_of(plant("local", n, FULL), FULL, np.zeros(n, bool)) != "local"


def test_the_largest_diagonal_names_the_head():
    n = 20
    pattern = 0.55 * plant("self", n, FULL) + 0.45 * plant("previous", n, FULL)
    assert label_of(pattern, FULL) == "self"
    assert label_of(1.0 * pattern - 0.1 * (plant("self", n, FULL) - plant("previous", n, FULL)), FULL) == "previous"


def test_positions_do_not_compare_in_cross():
    pattern = plant("self", 20, FULL)[:12]
    result = summarise([pattern, plant("uniform", 20, FULL)[:12], with_sink(pattern, 0.95)], "cross")
    assert [LABELS[label] for label in result["label"]] == ["none", "broad", "sink"]
    for name in ("mean_distance", "previous_token_mass", "self_mass"):
        assert np.isnan(result[name]).all()
    assert np.isfinite(np.stack([result[name] for name in ("entropy", "max", "first_token_mass", "sink_mass")])).all()


def test_fully_masked_rows_are_left_out():
    pattern = plant("random", 16, FULL)
    padded = np.concatenate([pattern, np.zeros((3, 16))])
    whole, with_empty = summarise([pattern], FULL), summarise([padded], FULL)
    for name in (*MEASURES, "label", "label_score"):
        np.testing.assert_allclose(with_empty[name], whole[name], rtol=1e-6)
    nothing = summarise([np.zeros((4, 4))], FULL)
    assert all(nothing[name][0] == 0 for name in MEASURES) and LABELS[nothing["label"][0]] == "none"


def test_entropy_is_over_the_given_weights_of_rows_that_sum_to_less_than_one():
    pattern = 0.5 * plant("uniform", 8, FULL)
    result = summarise([pattern], FULL)
    assert result["entropy"][0] == pytest.approx(0.5 * math.log(16), abs=1e-6)
    assert LABELS[result["label"][0]] == "broad" and result["label_score"][0] == pytest.approx(1, abs=1e-6)


def test_a_windowed_mask_makes_a_broad_head_broad():
    n, window = 40, 6
    at = np.arange(n)
    visible = visible_keys(n, CAUSAL) & (at > at[:, None] - window)
    pattern = visible / visible.sum(1, keepdims=True)
    assert label_of(pattern, CAUSAL, visible=visible) == "broad"


@pytest.mark.parametrize("stream", [CAUSAL, FULL, "cross"])
def test_the_tile_size_changes_nothing(stream):
    """≤ 1e-6, relative to the value where that exceeds 1."""
    patterns = [plant(kind, 61, FULL if stream == "cross" else stream) for kind in ("random", "local", "previous")]
    whole = summarise(patterns, stream, tile=61)
    for tile in (1, 2, 16, 60, 1000):
        result = summarise(patterns, stream, tile=tile)
        for name, expected in whole.items():
            np.testing.assert_allclose(result[name], expected, rtol=1e-6, atol=1e-6)


def test_half_precision_patterns_are_summed_in_float32():
    pattern = torch.from_numpy(plant("random", 50, FULL)).to(torch.bfloat16)
    accumulator = summaries.Accumulator(1, 50, 50, stream=FULL, sink_keys=torch.from_numpy(first_only(50)))
    accumulator.add(pattern[None], 0)
    expected = measure(pattern.float().numpy(), first_only(50))
    assert accumulator.result()["entropy"][0] == pytest.approx(expected["entropy"], abs=1e-5)


def test_sink_keys_are_special_punctuation_and_a_decoders_first():
    tokens = [Token("我", 0, (0, 1), False), Token("吃", 1, (1, 2), False), Token("，", 2, (2, 3), False),
              Token("...", 3, (3, 6), False), Token("a.", 4, (6, 8), False), Token("$", 5, (8, 9), False),
              Token("␣", 7, None, False), Token("，·2/3", 8, (9, 10), False), Token("喜·2/3", 9, (10, 11), False),
              Token("·", 10, (11, 12), False), Token("</s>", 6, None, True)]
    marks = [False, False, True, True, False, False, False, True, False, True, True]
    for stream in ("encoder", "cross"):
        assert summaries.sink_keys(tokens, stream=stream).tolist() == marks
    assert summaries.sink_keys(tokens, stream="decoder").tolist() == [True, *marks[1:]]
    empty = summaries.sink_keys([], stream="encoder")
    assert empty.shape == (0,) and empty.dtype == bool


def test_setting_the_sink_aside_renormalises_and_reports_the_mass():
    pattern = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0, 0, 0], [0, 0.5, 0.0]], np.float32)
    kept, removed = summaries.set_sink_aside(pattern, np.array([True, False, False]))
    assert kept.dtype == removed.dtype == np.float32
    np.testing.assert_array_equal(kept, [[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(removed, [0.5, 1, 0, 0])


def test_assemble_stacks_layers_into_read_only_arrays():
    layers = [summarise([plant("random", 9, FULL, seed=seed), plant("self", 9, FULL)], FULL) for seed in range(3)]
    summary = summaries.assemble("encoder", layers)
    assert summary.stream == "encoder"
    for name in (*MEASURES, "label", "label_score"):
        array = getattr(summary, name)
        assert array.shape == (3, 2) and not array.flags.writeable
        assert array.dtype == (np.int8 if name == "label" else np.float32)
        np.testing.assert_array_equal(array[1], layers[1][name])
