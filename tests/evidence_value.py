"""A hand-made Evidence with every field filled, for tests of what is shown; no model made it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine import Evidence, Prompt
from engine.evidence_types import (
    THRESHOLDS,
    WORD_MEASURES,
    OutputWord,
    Place,
    RankCorrelations,
    Reason,
    Replacement,
    WordEvidence,
)

NAN = float("nan")
SENTENCE = "我喜欢吃苹果"
SHAPE = (3, 4)


def grid(seed: int, low: float = 0.0, high: float = 0.4) -> np.ndarray:
    """(3, 4) float32 between `low` and `high`, read-only."""
    values = np.random.default_rng(seed).uniform(low, high, SHAPE).astype(np.float32)
    values.setflags(write=False)
    return values


def make(**changes) -> Evidence:
    """Evidence on 我喜欢吃苹果, A 苹果, B 吃, verdict "attends and is used"; `changes` replace fields."""
    mass = grid(0).copy()
    mass[2, 1] = 0.61
    attending = np.zeros(SHAPE, bool)
    attending[2, 1] = True
    correlation = np.array([[1, .9, .4, .5, .3, .2], [.9, 1, .3, .4, .1, 0], [.4, .3, 1, .8, .2, .1],
                            [.5, .4, .8, 1, -.5, .2], [.3, .1, .2, -.5, 1, .7], [.2, 0, .1, .2, .7, 1]])
    value = Evidence(
        prompt=Prompt("zh-en", SENTENCE), family="encoder-decoder", stream="encoder", source=SENTENCE,
        output="I like to eat apples.",
        query=Place("苹果", (4, 6), "source", (3,), 1, False), key=Place("吃", (3, 4), "source", (2,), 1, False),
        verdict="attends and is used",
        reasons=(
            Reason("head_attends", (("layer", 2), ("head", 1), ("mass", .61), ("uniform", .2), ("offset", .15),
                                    ("p", .002), ("heads", 1))),
            Reason("cut_matters", (("delta", -.83), ("control", .04))),
            Reason("hide_matters", (("delta", -2.4), ("control", .31))),
            Reason("replacing_changes", (("changed", 1), ("tried", 2), ("delta", -6.1))),
            Reason("patch_agrees", (("delta", -1.9),)),
        ),
        attention=mass, baseline_uniform=np.full(SHAPE, .2, np.float32), baseline_offset=grid(1, 0, .2),
        baseline_swap=grid(2, 0, .3), p_values=grid(3, .01, 1).astype(float), significant=attending,
        attending=attending, carriers=np.where(attending, 1.0, 0.0), carriers_mass=.61, carriers_uniform=.2,
        carriers_offset=.15, carriers_p=.004, carriers_attend=True,
        reference_language="zh", reference_offsets=(-1, -1), reference_sentences=250,
        reference_windows=1200, rollout=.18, rollout_uniform=.15, value_norm=grid(4), value_share=grid(5),
        value_projected=True, target="apples", target_span=(14, 20), logprob=-.05, contrast=None, margin=NAN,
        delta_logprob=-.83, control_deltas=(("我", -.02), ("喜欢", -.06)),
        delta_by_layer=np.array([-.05, -.1, -.6]), delta_by_head=grid(6, -.4, .05),
        hide_delta=-2.4, hide_control_deltas=(("我", -.2), ("喜欢", -.42)), patch_delta=-1.9,
        margin_delta=NAN, margin_control_deltas=(), margin_delta_by_layer=np.full(3, np.nan),
        margin_delta_by_head=np.full(SHAPE, np.nan), margin_hide_delta=NAN, margin_hide_control_deltas=(),
        margin_patch_delta=NAN,
        replacements=(
            Replacement("喝", "near", "I like to drink apples.", False, -.9, -.85, -4.1, -.7, NAN, NAN, grid(7)),
            Replacement("用", "chosen", "I like to use Apple.", True, -6.15, -6.1, -9.3, -3.1, NAN, NAN, grid(8)),
            Replacement("红", "random", "", None, -.4, -.35, -3.0, -.2, NAN, NAN, grid(9)),
        ),
        words=(
            WordEvidence("我", (0, 1), "other", .11, .3, .12, .14, -.02, -.2, NAN, NAN),
            WordEvidence("喜欢", (1, 3), "other", .13, .2, .14, .11, -.06, -.42, NAN, NAN),
            WordEvidence("吃", (3, 4), "key", .22, .61, .18, .25, -.83, -2.4, NAN, NAN),
            WordEvidence("苹果", (4, 6), "query", .31, .5, .4, .3, NAN, NAN, NAN, NAN),
        ),
        correlations=RankCorrelations(WORD_MEASURES, correlation, correlation * .8, 3), margin_correlations=None,
        output_words=(
            OutputWord("eat", (10, 13), (3,), -.1, -.3, .2), OutputWord("apples", (14, 20), (4,), -.05, -3.2, .5),
        ),
        output_word=1, output_word_by_cut=1, output_word_by_attention=1, output_word_chosen=False,
        thresholds=THRESHOLDS, seconds=1.2,
    )
    return replace(value, **changes)


def with_contrast(**changes) -> Evidence:
    """The same, judged on the margin against "Apple"."""
    value = make()
    words = tuple(replace(word, cut_margin=2 * word.cut, hide_margin=2 * word.hide) for word in value.words)
    return replace(
        value, contrast="Apple", margin=4.2, margin_delta=-1.66, margin_control_deltas=(("我", -.04), ("喜欢", -.12)),
        margin_delta_by_layer=np.array([-.1, -.2, -1.2]), margin_delta_by_head=grid(10, -.8, .1),
        margin_hide_delta=-4.8, margin_hide_control_deltas=(("我", -.4), ("喜欢", -.84)), margin_patch_delta=-3.8,
        reasons=(
            value.reasons[0], Reason("cut_matters", (("delta", -1.66), ("control", .08))),
            Reason("hide_matters", (("delta", -4.8), ("control", .62))), *value.reasons[3:],
            Reason("judged_by_margin", (("word", "apples"), ("contrast", "Apple"))),
        ), words=words,
        replacements=tuple(replace(tried, margin=margin, patch_margin_delta=patched) for tried, margin, patched in zip(
            value.replacements, (3.1, -1.4, 3.9), (-.8, -3.8, -.1), strict=True)),
        margin_correlations=replace(value.correlations, spearman=-value.correlations.spearman), **changes)
