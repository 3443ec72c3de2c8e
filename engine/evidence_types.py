"""The plain values of `engine.evidence`: what was asked, every number measured, the thresholds, the verdict.

Imports numpy only. Arrays are read-only. Deltas are natural logarithms, after
minus before: negative means that the output lost probability when something
was taken away. Texts for people are made elsewhere, from codes and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.types import Prompt, Stream

Verdict = Literal[
    "attends and is used", "attends but is not used", "used without direct attention", "no evidence",
]
VERDICTS: tuple[Verdict, ...] = (
    "attends and is used", "attends but is not used", "used without direct attention", "no evidence",
)

#: How a word is named: a substring (its first occurrence), a span (start, end) in characters, or
#: (substring, occurrence), occurrences counted from zero.
Reference = str | tuple[int, int] | tuple[str, int]

#: The measures whose rankings of the words are compared, in the order of `RankCorrelations`.
WORD_MEASURES = ("attention", "attention_max", "rollout", "value", "cut", "hide")


@dataclass(frozen=True)
class Thresholds:
    """The numbers that turn measurements into a verdict (`engine.evidence.verdict` states the rule).

    Attributes:
        false_discovery: Benjamini–Hochberg level over all heads of the stream.
        carriers_p: level of the one test of the heads that carry the cut's effect, taken together; below
            `false_discovery`, because it is a second way to attend, and chances add up.
        over_uniform: a head attends only if its mass is at least so many times the uniform mass,
        over_offset: and lies at least this much above its own mean mass at the same offset.
        cut_nats: the cut edge matters only if it costs the output at least so many nats,
        cut_over_controls: and at least so many times the median |Δ| of the same cut to the other words.
        hide_nats, hide_over_controls: the same for hiding B from everyone.
    """

    false_discovery: float = 0.05
    carriers_p: float = 0.03
    over_uniform: float = 1.5
    over_offset: float = 0.1
    cut_nats: float = 0.1
    cut_over_controls: float = 3.0
    hide_nats: float = 0.1
    hide_over_controls: float = 3.0


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Place:
    """A word of the question, as found.

    Attributes:
        text: the characters of its tokens.
        span: (start, end) of those characters, end exclusive.
        side: "source" (the typed text) or "output" (the model's).
        positions: its rows (A) or columns (B) in the stream, in order.
        occurrences: how often the substring occurs; 1 for a span.
        widened: the reference covered a part of a token, and whole tokens were taken.
    """

    text: str
    span: tuple[int, int]
    side: Literal["source", "output"]
    positions: tuple[int, ...]
    occurrences: int
    widened: bool


@dataclass(frozen=True)
class OutputWord:
    """A word of an encoder–decoder's output as a candidate to stand for A.

    Attributes:
        text, span: the word and its characters in the output.
        rows: rows of the decoder that predict its tokens.
        logprob: teacher-forced log-probability of its tokens, summed.
        cut_delta: its change when the decoder's cross-attention cannot see A, all layers.
        attention: mass of its predicting rows on A, mean over rows, layers and heads of `cross`.
    """

    text: str
    span: tuple[int, int]
    rows: tuple[int, ...]
    logprob: float
    cut_delta: float
    attention: float


@dataclass(frozen=True)
class WordEvidence:
    """One word of the source beside B: the same measures for all of them.

    Attributes:
        text, span: the word and its characters in the source.
        role: "query" (A), "key" (B) or "other".
        attention: mass from A, mean over layers and heads of the stream.
        attention_max: the largest mass from A over all heads.
        rollout: attention rollout from A.
        value: share of the word in A's value-weighted norms, mean over layers and heads.
        cut: Δ log-probability when A's edge to the word is cut, all layers and heads; NaN for A itself
            and for words that A cannot see.
        hide: Δ log-probability when the word is hidden from everyone but itself; NaN for A itself.
        cut_margin, hide_margin: the same on the margin against the contrast; NaN without one.
    """

    text: str
    span: tuple[int, int]
    role: Literal["query", "key", "other"]
    attention: float
    attention_max: float
    rollout: float
    value: float
    cut: float
    hide: float
    cut_margin: float
    hide_margin: float


@dataclass(frozen=True)
class RankCorrelations:
    """How far measures rank the words alike; over the words with a cut effect (A left out).

    Attributes:
        measures: names, WORD_MEASURES.
        spearman, kendall: (n_measures, n_measures) float64; Kendall is tau-b; NaN below three words or where a
            measure is constant. Cut and hide count as losses (−Δ), so that agreement is positive; what is rounding
            counts as 0.
        n_words: words compared.
    """

    measures: tuple[str, ...]
    spearman: np.ndarray
    kendall: np.ndarray
    n_words: int


@dataclass(frozen=True)
class Replacement:
    """The sentence with B replaced by another word.

    Attributes:
        word: what stands in B's place.
        origin: "chosen" by the person, "near" to B in the model's embeddings, or "random" (both from the reference
            corpus).
        output: what the model then writes (encoder-only: fills in for A); "" for those tried only as a baseline.
        changed: the output word that stands for A is no longer in that output (decoder-only: the continuation's
            first tokens differ; encoder-only: another token is likeliest); None where no output was written.
        logprob: teacher-forced log-probability of the measured output in this sentence.
        delta: that minus the original's.
        output_logprob: teacher-forced log-probability of the whole original output in this sentence.
        patch_delta: Δ log-probability in the original sentence when A's vector is taken from this one.
        margin, patch_margin_delta: margin against the contrast here, and its change by the patch; NaN without one.
        attention: (n_layers, n_heads) mass from A to this word.
    """

    word: str
    origin: Literal["chosen", "near", "random"]
    output: str
    changed: bool | None
    logprob: float
    delta: float
    output_logprob: float
    patch_delta: float
    margin: float
    patch_margin_delta: float
    attention: np.ndarray


@dataclass(frozen=True)
class Reason:
    """Why the verdict is what it is: a language-neutral code and the numbers that its sentence needs.

    Attributes:
        code: one of `REASONS`.
        numbers: (name, value) pairs.
    """

    code: str
    numbers: tuple[tuple[str, float | int | str], ...] = ()


#: Every code a Reason can carry, with the names of its numbers.
REASONS: dict[str, tuple[str, ...]] = {
    # the four answers, one code of each group
    "head_attends": ("layer", "head", "mass", "uniform", "offset", "p", "heads"),
    "carriers_attend": ("layer", "head", "mass", "uniform", "offset", "p"),
    # well above uniform, but what this head gives at this offset on average, nearly
    "only_positional": ("layer", "head", "mass", "uniform", "offset", "p"),
    # well above uniform and above this head's mean at this offset, but not unusual enough with so many heads tried
    "not_significant": ("layer", "head", "mass", "uniform", "offset", "p"),
    "no_head_attends": ("layer", "head", "mass", "uniform", "offset", "p"),
    "flows": ("rollout", "uniform"),
    # `control` is NaN where no other word can be compared with; "uncompared": it costs enough, and there is none
    "cut_matters": ("delta", "control"),
    "cut_uncompared": ("delta", "control"),
    "cut_within_controls": ("delta", "control"),
    "cut_too_small": ("delta", "control"),
    "cut_raises": ("delta", "control"),
    "hide_matters": ("delta", "control"),
    "hide_uncompared": ("delta", "control"),
    "hide_within_controls": ("delta", "control"),
    "hide_too_small": ("delta", "control"),
    "hide_raises": ("delta", "control"),
    "replacing_changes": ("changed", "tried", "delta"),
    "replacing_changes_nothing": ("tried", "delta"),
    # what qualifies them
    "edge_redundant": ("cut", "hide"),            # attends, and B matters, but not through this edge
    "ordinary_edge_used": ("delta",),             # the edge matters, its attention is as anywhere
    "patch_agrees": ("delta",),                   # A's vector alone carries B's information
    "judged_by_margin": ("word", "contrast"),     # deltas of the verdict are on the margin
    "output_words_disagree": ("by_cut", "by_attention"),
    "first_of_several": ("text", "occurrences"),
    "widened": ("text",),
    "reference_too_small": ("p_smallest", "needed"),  # so many heads that one alone could not be significant
    "attention_of_masked_query": (),              # encoder-only: the run is the one with A masked
}


@dataclass(frozen=True)
class Evidence:
    """Does A attend to B? Four answers, each with its numbers, and a verdict.

    Attributes:
        prompt: what was run.
        family: of the model.
        stream: where the edge A→B lies: "encoder" (A in the source), "cross" (A in an encoder–decoder's output) or
            "decoder" (decoder-only).
        source, output: the texts that spans count in.
        query, key: A and B as found.
        verdict: one of VERDICTS.
        reasons: in the order attends, flows, used (cut, hide), needed, then what qualifies them.

        attention: (n_layers, n_heads) float32: mass from A to B, mean over A's rows, sum over B's columns.
        baseline_uniform: (n_layers, n_heads) the same if every visible key got the same.
        baseline_offset: (n_layers, n_heads) the same head's mean mass at the same offset over the reference corpus;
            NaN where the corpus has no such offset.
        baseline_swap: (n_layers, n_heads) mean mass on other words in B's place; NaN without replacements.
        p_values: (n_layers, n_heads) chance of at least these odds of the mass over uniform
            (`engine.evidence.statistics.odds_over_uniform`) at this offset in the reference corpus; by rank, never 0.
        significant: (n_layers, n_heads) bool, Benjamini–Hochberg over all heads.
        attending: (n_layers, n_heads) bool, significant and large enough by the thresholds.
        carriers: (n_layers, n_heads) each head's share of the cut's effect: its own loss over the sum of all heads'
            losses (on the margin where there is a contrast); all 0 where no head's cut costs anything.
        carriers_mass, carriers_uniform, carriers_offset: mass and baselines averaged over heads with these shares.
        carriers_p: chance of at least that in the reference corpus, one test; NaN without carriers.
        carriers_attend: the edge matters, and its carriers' mass is unusual and large enough by the thresholds.
        reference_offsets: (first, last) offset of B from A, in positions, that the reference pools: the asked one
            alone where the corpus has it often enough.
        reference_language: "zh" or "en", whose sentences were the reference.
        reference_sentences, reference_windows: how many, and how many places in them with this offset.

        rollout: attention rollout from A to B, in [0, 1].
        rollout_uniform: the same if all heads were uniform.
        value_norm: (n_layers, n_heads) norm of what B's values add to A through this head.
        value_share: (n_layers, n_heads) B's share of those norms over all words.
        value_projected: the norms are after the output projection (False: it was not found).

        target: the output measured: the word that stands for A, A itself, or the continuation's first tokens.
        target_span: its characters in `output`; for encoder-only models, A's in `source`.
        logprob: its teacher-forced log-probability, summed over its tokens.
        contrast: the word against which margins are, or None.
        margin: logprob − log-probability of the contrast in its place; NaN without one.
        delta_logprob: Δ when the edge A→B is cut in all layers and heads.
        control_deltas: (word, Δ) of the same cut to every other word that A can see.
        delta_by_layer: (n_layers,); delta_by_head: (n_layers, n_heads).
        hide_delta: Δ when B is hidden from everyone but itself, in every stream.
        hide_control_deltas: (word, Δ) of hiding each other word.
        patch_delta: Δ when A's vector comes from the sentence with B replaced, mean over replacements; NaN without.
        margin_delta, margin_control_deltas, margin_delta_by_layer, margin_delta_by_head, margin_hide_delta,
        margin_hide_control_deltas, margin_patch_delta: the same on the margin; NaN, or empty, without a contrast.

        replacements: other words in B's place.
        words: every word of the source that is no special token, in order.
        correlations: how far the measures rank those words alike.
        margin_correlations: the same with the effects on the margin; None without a contrast.

        output_words: candidates to stand for A (encoder–decoder with A in the source), else empty.
        output_word: index of the one measured, or None: the chosen one, else (`engine.evidence.outputs.standing`), of
            the words that lose nearly as much as any by cutting, the one that looks at A most.
        output_word_by_cut, output_word_by_attention: index of the one that each way finds, or None.
        output_word_chosen: the person chose it.

        thresholds: what the verdict was made with.
        seconds: time it took.
    """

    prompt: Prompt
    family: Literal["encoder-decoder", "decoder-only", "encoder-only"]
    stream: Stream
    source: str
    output: str
    query: Place
    key: Place
    verdict: Verdict
    reasons: tuple[Reason, ...]

    attention: np.ndarray
    baseline_uniform: np.ndarray
    baseline_offset: np.ndarray
    baseline_swap: np.ndarray
    p_values: np.ndarray
    significant: np.ndarray
    attending: np.ndarray
    carriers: np.ndarray
    carriers_mass: float
    carriers_uniform: float
    carriers_offset: float
    carriers_p: float
    carriers_attend: bool
    reference_language: Literal["zh", "en"]
    reference_offsets: tuple[int, int]
    reference_sentences: int
    reference_windows: int

    rollout: float
    rollout_uniform: float
    value_norm: np.ndarray
    value_share: np.ndarray
    value_projected: bool

    target: str
    target_span: tuple[int, int] | None
    logprob: float
    contrast: str | None
    margin: float
    delta_logprob: float
    control_deltas: tuple[tuple[str, float], ...]
    delta_by_layer: np.ndarray
    delta_by_head: np.ndarray
    hide_delta: float
    hide_control_deltas: tuple[tuple[str, float], ...]
    patch_delta: float
    margin_delta: float
    margin_control_deltas: tuple[tuple[str, float], ...]
    margin_delta_by_layer: np.ndarray
    margin_delta_by_head: np.ndarray
    margin_hide_delta: float
    margin_hide_control_deltas: tuple[tuple[str, float], ...]
    margin_patch_delta: float

    replacements: tuple[Replacement, ...]
    words: tuple[WordEvidence, ...]
    correlations: RankCorrelations
    margin_correlations: RankCorrelations | None

    output_words: tuple[OutputWord, ...]
    output_word: int | None
    output_word_by_cut: int | None
    output_word_by_attention: int | None
    output_word_chosen: bool

    thresholds: Thresholds
    seconds: float
