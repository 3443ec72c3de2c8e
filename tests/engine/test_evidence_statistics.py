"""Ranks, significance, rank correlations and the verdict's rule, against definitions written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from engine.evidence import statistics, verdict
from engine.evidence.assemble import MARGIN_FIELDS, correlate
from engine.evidence_types import THRESHOLDS, VERDICTS, WORD_MEASURES, Thresholds, WordEvidence

RANDOM = np.random.default_rng(3)
USED, UNUSED, INDIRECT, NOTHING = VERDICTS


def test_empirical_p_counts_the_observation_in():
    reference = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]])
    np.testing.assert_allclose(statistics.empirical_p(np.array([0.25, 0.5]), reference), [2 / 4, 4 / 4])
    np.testing.assert_allclose(statistics.empirical_p(np.array([0.9, 0.1]), reference), [1 / 4, 4 / 4])
    np.testing.assert_allclose(statistics.empirical_p(np.array([0.9]), np.zeros((0, 1))), [1.0])


def test_empirical_p_is_uniform_under_its_null():
    p = [float(statistics.empirical_p(draw[0], draw[1:])) for draw in RANDOM.random((2000, 200))]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=3 * math.sqrt(level / 2000))


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_benjamini_hochberg_by_its_definition(level):
    for _ in range(200):
        p = RANDOM.random((3, 4)) ** 3
        ordered = sorted(p.ravel())
        largest = max((k for k in range(1, 13) if ordered[k - 1] <= level * k / 12), default=0)
        found = statistics.benjamini_hochberg(p, level=level)
        assert found.sum() == largest
        if largest:
            assert p[found].max() <= ordered[largest - 1]


def test_the_bar_of_one_p_is_where_its_rejection_ends():
    for _ in range(100):
        p, at = RANDOM.random((3, 4)) ** 4, (1, 2)
        bar = statistics.bar_of(p, at, level=0.05)
        for value, rejected in ((bar, True), (bar * (1 + 1e-9), False)):
            p[at] = value
            assert statistics.benjamini_hochberg(p, level=0.05)[at] == rejected
    assert statistics.bar_of(np.full((3, 4), 0.5), (0, 0), level=0.05) == pytest.approx(0.05 / 12)
    assert statistics.bar_of(np.array([0.01]), (0,), level=0.05) == 0.05


def test_benjamini_hochberg_keeps_false_alarms_to_its_level():
    alarms = [statistics.benjamini_hochberg(RANDOM.random((3, 4)), level=0.05).any() for _ in range(3000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 / 3000))


def test_odds_over_uniform_do_not_know_the_length():
    """softmax of one score g above n − 1 zeros: the odds over uniform are e^g for every n."""
    for gap in (0.0, 1.0, 3.0):
        for n in (3, 8, 40):
            mass = math.exp(gap) / (math.exp(gap) + n - 1)
            assert statistics.odds_over_uniform(mass, 1 / n) == pytest.approx(math.exp(gap), rel=1e-6)
    assert statistics.odds_over_uniform(1.0, 0.1) == statistics.odds_over_uniform(0.9995, 0.1)


def brute_kendall(a, b) -> float:
    pairs = list(itertools.combinations(range(len(a)), 2))
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    n_a, n_b = sum(x != 0 for x, _ in signs), sum(y != 0 for _, y in signs)
    return sum(x * y for x, y in signs) / math.sqrt(n_a * n_b)


def brute_spearman(a, b) -> float:
    ranks = [[sum(y < x for y in values) + (sum(y == x for y in values) + 1) / 2 for x in values] for values in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def test_rank_correlations_with_ties():
    for _ in range(50):
        a, b = RANDOM.integers(0, 4, (2, 7)).astype(float)
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert statistics.kendall(a, b) == pytest.approx(brute_kendall(a, b))
            assert statistics.spearman(a, b) == pytest.approx(brute_spearman(a, b))
    rising = np.arange(5.0)
    assert statistics.kendall(rising, rising**3) == statistics.spearman(rising, rising**3) == pytest.approx(1)
    assert statistics.spearman(rising, -rising) == pytest.approx(-1)
    assert math.isnan(statistics.spearman(rising, np.ones(5)))
    assert math.isnan(statistics.kendall(rising[:2], rising[:2]))


def words(effects, field: str) -> list[WordEvidence]:
    """Words whose attention rises and whose values fall, with these effects of cut and hiding; `field` the cut's."""
    fields = dict.fromkeys(("cut", "hide", "cut_margin", "hide_margin"), 0.0)
    return [WordEvidence(
        "w", (at, at + 1), "other", attention=at / 10, attention_max=at / 10, rollout=0.1, value=-at / 10,
        **fields | {field: effect, field.replace("cut", "hide"): effect}) for at, effect in enumerate(effects)]


@pytest.mark.parametrize(("field", "fields"), [("cut", WORD_MEASURES), ("cut_margin", MARGIN_FIELDS)])
def test_words_are_ranked_by_the_measure_asked_and_rounding_is_not(field, fields):
    cuts = np.array([-0.02, 3e-6, -0.3, -9e-6, 0.5])
    given = correlate(words(cuts, field), fields)
    losses = np.where(np.abs(cuts) < verdict.LEAST_LOSS, 0, -cuts)
    rising, at = np.arange(5) / 10, WORD_MEASURES.index
    assert given.n_words == 5 and given.measures == WORD_MEASURES
    for name, attention in (("attention", rising), ("value", -rising)):
        assert given.spearman[at(name), at("cut")] == pytest.approx(brute_spearman(attention, losses))
        assert given.kendall[at(name), at("hide")] == pytest.approx(brute_kendall(attention, losses))
    assert given.spearman[at("cut"), at("hide")] == pytest.approx(1)
    noise = correlate(words([4e-6, -9e-6, 1e-7, -3e-6], field), fields)
    assert np.isnan(noise.spearman[at("cut")]).all() and np.isnan(noise.kendall[at("hide")]).all()
    other = correlate(words(cuts, field), WORD_MEASURES if field != "cut" else MARGIN_FIELDS)
    assert np.isnan(other.spearman[at("cut")]).all()


# --- the rule --------------------------------------------------------------------------------------------------------

SHAPE = (2, 3)
NO_CARRIERS = verdict.Carriers(np.zeros(SHAPE), *[float("nan")] * 4)


def attends(*, mass=0.1, uniform=0.1, offset=0.1, p=0.5) -> verdict.Attends:
    """One head with these numbers; all others ordinary."""
    arrays = [np.full(SHAPE, ordinary) for ordinary in (0.1, 0.1, 0.1, 0.5)]
    for array, value in zip(arrays, (mass, uniform, offset, p), strict=True):
        array[1, 2] = value
    return verdict.attends(*arrays, thresholds=THRESHOLDS)


STRONG = {"mass": 0.8, "p": 0.001}
LOSS, SMALL = verdict.Effect(-1.0, (-0.1, 0.05, 0.0)), verdict.Effect(-0.05, (0.0, 0.01))


@pytest.mark.parametrize(("head", "cut", "hide", "expected"), [
    (STRONG, LOSS, LOSS, USED), (STRONG, LOSS, SMALL, USED), (STRONG, SMALL, SMALL, UNUSED),
    (STRONG, SMALL, LOSS, INDIRECT), ({}, SMALL, LOSS, INDIRECT), ({}, SMALL, SMALL, NOTHING),
    ({"mass": 0.8, "p": 0.5}, SMALL, SMALL, NOTHING),               # as much as ever at this offset
    ({"mass": 0.8, "offset": 0.75, "p": 0.001}, SMALL, SMALL, NOTHING),  # hardly more than its mean there
    ({"mass": 0.8, "uniform": 0.6, "p": 0.001}, SMALL, SMALL, NOTHING),  # hardly more than uniform
    ({"mass": 0.8, "p": 0.04}, SMALL, SMALL, NOTHING),              # significant alone, not among six
    (STRONG, verdict.Effect(-1.0, (-0.9, -0.8, -1.2)), SMALL, UNUSED),  # every word costs as much
    (STRONG, verdict.Effect(1.0, (0.0,)), SMALL, UNUSED),           # cutting helps the output
    ({}, LOSS, LOSS, INDIRECT),
])
def test_the_rule(head, cut, hide, expected):
    assert verdict.decide(attends(**head), NO_CARRIERS, cut, hide, thresholds=THRESHOLDS)[0] == expected


def test_without_another_word_the_size_alone_decides_and_is_said_to():
    alone, small = verdict.Effect(-1.0, ()), verdict.Effect(-0.05, ())
    assert math.isnan(alone.control)
    found, reasons = verdict.decide(attends(**STRONG), NO_CARRIERS, alone, small, thresholds=THRESHOLDS)
    assert found == USED and [reason.code for reason in reasons[1:]] == ["cut_uncompared", "hide_too_small"]
    assert math.isnan(dict(reasons[1].numbers)["control"])


@pytest.mark.parametrize(("carried", "cut", "expected"), [
    ((0.6, 0.2, 0.1, 0.02), LOSS, USED), ((0.6, 0.2, 0.1, 0.02), SMALL, NOTHING),
    ((0.6, 0.2, 0.1, 0.06), LOSS, INDIRECT), ((0.6, 0.2, 0.55, 0.01), LOSS, INDIRECT),
    ((0.25, 0.2, 0.1, 0.01), LOSS, INDIRECT),
])
def test_the_heads_that_carry_the_effect_may_attend_together(carried, cut, expected):
    carriers = verdict.Carriers(np.full(SHAPE, 1 / 6), *carried)
    found, reasons = verdict.decide(attends(), carriers, cut, SMALL, thresholds=THRESHOLDS)
    assert found == expected
    assert (reasons[0].code == "carriers_attend") == (expected == USED)


@pytest.mark.parametrize(("head", "code"), [
    (STRONG, "head_attends"), ({"mass": 0.8, "offset": 0.75}, "only_positional"), ({"mass": 0.8}, "not_significant"),
    ({"mass": 0.12}, "no_head_attends"),
])
def test_why_no_head_attends(head, code):
    _, reasons = verdict.decide(attends(**head), NO_CARRIERS, SMALL, SMALL, thresholds=THRESHOLDS)
    assert reasons[0].code == code and dict(reasons[0].numbers)["mass"] == head["mass"]


def test_thresholds_are_what_decides():
    lax = Thresholds(cut_nats=0.01, cut_over_controls=1.0)
    found = attends(**STRONG)
    assert verdict.decide(found, NO_CARRIERS, SMALL, SMALL, thresholds=lax)[0] == USED
    assert verdict.decide(found, NO_CARRIERS, SMALL, SMALL, thresholds=THRESHOLDS)[0] == UNUSED


def test_carriers_are_weighted_by_what_each_head_costs():
    deltas, mass = np.array([[-3.0, 0.5], [-1.0, -1e-7]]), np.array([[0.8, 0.9], [0.4, 0.9]])
    windows = RANDOM.random((99, 2, 2)) * 0.3
    found = verdict.carriers(deltas, mass, np.full((2, 2), 0.1), windows_mass=windows,
                             windows_uniform=np.full(windows.shape, 0.1))
    np.testing.assert_allclose(found.weights, [[0.75, 0], [0.25, 0]])
    assert found.mass == pytest.approx(0.75 * 0.8 + 0.25 * 0.4) and found.p == pytest.approx(1 / 100)
    assert found.offset == pytest.approx((windows * found.weights).sum((1, 2)).mean())
    none = verdict.carriers(np.zeros((2, 2)), mass, mass, windows_mass=windows, windows_uniform=windows)
    assert not none.weights.any() and math.isnan(none.p) and not none.attend(thresholds=THRESHOLDS)


def test_the_heads_that_carry_an_effect_are_no_evidence_by_having_carried_it():
    """Words like any others, and heads that lose in proportion to their mass: p ≤ level as often as the level says.

    Ranked among windows that the same weights average, the words would pass several times as often.
    """
    random = np.random.default_rng(11)
    draws, alarms, naive = 1500, 0, 0
    uniform = np.full((2, 6), 0.1)
    of_windows = np.full((200, 2, 6), 0.1)
    for _ in range(draws):
        masses = random.beta(0.5, 4.0, (201, 2, 6))
        gains = random.normal(size=(2, 6))
        found = verdict.carriers(-gains * masses[0], masses[0], uniform, windows_mass=masses[1:],
                                 windows_uniform=of_windows)
        alarms += found.p <= 0.03
        naive += statistics.empirical_p(found.mass, (masses[1:] * found.weights).sum((1, 2))) <= 0.03
    assert alarms / draws == pytest.approx(0.03, abs=3 * math.sqrt(0.03 / draws))
    assert naive / draws > 0.09


def test_a_reason_carries_the_numbers_that_its_sentence_needs():
    assert verdict.reason("flows", rollout=0.5, uniform=0.1).numbers == (("rollout", 0.5), ("uniform", 0.1))
    with pytest.raises(ValueError):
        verdict.reason("flows", rollout=0.5)
