"""Puts findings together: ranks them against the reference, judges, and fills in an `Evidence`.

Numpy only; every run has been made. What each number means is said in
`engine.evidence_types`, the rule of the verdict in `engine.evidence.verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.evidence import flows, statistics, verdict
from engine.evidence import reference as references
from engine.evidence.effects import Effects, Interventions
from engine.evidence.flows import Observed
from engine.evidence.outputs import by_attention, by_cut, standing
from engine.evidence.question import Question, Target, TextWord
from engine.evidence.swaps import Swap
from engine.evidence.verdict import Effect, reason
from engine.evidence_types import (
    WORD_MEASURES,
    Evidence,
    OutputWord,
    RankCorrelations,
    Reason,
    Replacement,
    Thresholds,
    WordEvidence,
)

#: The fields of a word that hold WORD_MEASURES where effects are on the margin.
MARGIN_FIELDS = (*WORD_MEASURES[:-2], "cut_margin", "hide_margin")


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything measured for one question.

    Attributes:
        question, target, contrast: what was asked and read.
        words: of the text; `effects` and `observed.norms` are in their order.
        observed: the unedited run.
        reference, language: of the corpus.
        output_words, chosen: candidates to stand for A, and the index of the one that the person chose.
        effects, swaps: the interventions, and the sentences with B replaced.
        written: of some swaps, by index, the output and whether the target is gone.
    """

    question: Question
    target: Target
    contrast: str | None
    words: Sequence[TextWord]
    observed: Observed
    reference: references.Reference
    language: str
    output_words: Sequence[OutputWord]
    chosen: int | None
    effects: Interventions
    swaps: Sequence[Swap]
    written: dict[int, tuple[str, bool]]

    @property
    def judged(self) -> Effects:
        """The effects that the verdict is on."""
        return self.effects.logprob if self.contrast is None else self.effects.margin

    @property
    def key(self) -> int:
        """The index of B among the words."""
        return next(index for index, word in enumerate(self.words) if word.role == "key")


def assemble(findings: Findings, *, thresholds: Thresholds, seconds: float) -> Evidence:
    """The evidence, judged by `thresholds`."""
    question, target, words, observed = findings.question, findings.target, findings.words, findings.observed
    stream, rows, columns = question.stream, question.query.positions, question.key.positions
    plain, margin, judged, key = findings.effects.logprob, findings.effects.margin, findings.judged, findings.key
    masses = np.stack([_mass(observed.patterns[stream], rows, word.columns) for word in words])
    uniform = np.broadcast_to(_mass(_over_visible(observed.visible[stream]), rows, columns), findings.reference.shape)
    windows = references.windows(
        findings.reference, n_rows=len(rows), n_columns=len(columns), offset=columns[0] - rows[0], stream=stream,
        kind=int(references.kinds(question.tokens, stream=stream)[columns[0]]),
    )
    attends = _attends(masses[key], uniform, windows, thresholds=thresholds)
    carried = verdict.carriers(judged.by_head, masses[key], uniform, windows_mass=windows.mass,
                               windows_uniform=windows.uniform)
    cut = Effect(judged.cut, _controls(judged.cut_words, key))
    hide = Effect(float(judged.hide_words[key]), _controls(judged.hide_words, key))
    decided, reasons = verdict.decide(attends, carried, cut, hide, thresholds=thresholds)

    rolled = flows.rollout(observed.patterns, stream=stream, rows=rows)
    rolled_uniform = flows.rollout(flows.uniform(observed.visible), stream=stream, rows=rows)
    rollout, rollout_uniform = (float(each[list(columns)].sum()) for each in (rolled, rolled_uniform))
    shares = _shares(observed.norms)
    table = _table(findings, masses, rolled, shares)
    replacements = _replacements(findings)
    found, contrast = findings.output_words, findings.contrast
    return Evidence(
        prompt=question.trace.prompt, family=question.trace.family, stream=stream, source=question.trace.source_text,
        output=question.output, query=question.query, key=question.key, verdict=decided,
        reasons=(reasons[0], reason("flows", rollout=rollout, uniform=rollout_uniform), *reasons[1:3],
                 *_needed(replacements, judged), *reasons[3:], *_qualify(findings, windows, thresholds=thresholds)),
        attention=_kept(masses[key]), baseline_uniform=_kept(uniform), baseline_offset=_kept(attends.offset),
        baseline_swap=_kept(findings.effects.swap_attention.mean(0) if findings.swaps else uniform * np.nan),
        p_values=_kept(attends.p_values), significant=_kept(attends.significant), attending=_kept(attends.attending),
        carriers=_kept(carried.weights), carriers_mass=carried.mass, carriers_uniform=carried.uniform,
        carriers_offset=carried.offset, carriers_p=carried.p,
        carriers_attend=(reasons[1].code.removeprefix("cut_") in verdict.COUNTS
                         and carried.attend(thresholds=thresholds)),
        reference_language=findings.language, reference_offsets=windows.offsets,
        reference_sentences=findings.reference.n_sentences, reference_windows=len(windows.mass),
        rollout=rollout, rollout_uniform=rollout_uniform, value_norm=_kept(observed.norms[..., key].mean(-1)),
        value_share=_kept(shares[..., key]), value_projected=observed.projected,
        target=target.text.strip(), target_span=target.span, logprob=plain.base,
        contrast=None if contrast is None else contrast.strip(), margin=margin.base,
        delta_logprob=plain.cut, control_deltas=_named(words, plain.cut_words, key),
        delta_by_layer=_kept(plain.by_layer), delta_by_head=_kept(plain.by_head),
        hide_delta=float(plain.hide_words[key]), hide_control_deltas=_named(words, plain.hide_words, key),
        patch_delta=_mean(plain.patches),
        margin_delta=margin.cut, margin_control_deltas=_named(words, margin.cut_words, key),
        margin_delta_by_layer=_kept(margin.by_layer), margin_delta_by_head=_kept(margin.by_head),
        margin_hide_delta=float(margin.hide_words[key]),
        margin_hide_control_deltas=_named(words, margin.hide_words, key), margin_patch_delta=_mean(margin.patches),
        replacements=replacements, words=table, correlations=correlate(table, WORD_MEASURES),
        margin_correlations=None if contrast is None else correlate(table, MARGIN_FIELDS), output_words=tuple(found),
        output_word=None if not found else standing(found) if findings.chosen is None else findings.chosen,
        output_word_by_cut=by_cut(found) if found else None,
        output_word_by_attention=by_attention(found) if found else None,
        output_word_chosen=findings.chosen is not None, thresholds=thresholds, seconds=seconds,
    )


def correlate(table: Sequence[WordEvidence], fields: Sequence[str]) -> RankCorrelations:
    """How far the measures rank the words alike, over those with a cut effect.

    Args:
        fields: the words' fields that hold WORD_MEASURES, in that order; the last two are effects.
    """
    compared = [word for word in table if not np.isnan(word.cut)]
    columns = np.array([[getattr(word, name) for name in fields] for word in compared])
    columns = columns.reshape(len(compared), len(fields))
    effects = columns[:, -2:]
    # What is rounding would be ranked like anything else.
    columns[:, -2:] = np.where(np.abs(effects) < verdict.LEAST_LOSS, 0.0, -effects)
    spearman, kendall = statistics.correlations(columns)
    return RankCorrelations(WORD_MEASURES, _kept(spearman), _kept(kendall), len(compared))


def _attends(mass: np.ndarray, uniform: np.ndarray, windows: references.Windows, *,
             thresholds: Thresholds) -> verdict.Attends:
    # Rounded as the reference is, or equal masses would differ by the rounding alone.
    rounded = mass.astype(np.float16).astype(np.float32)
    p_values = statistics.empirical_p(statistics.odds_over_uniform(rounded, uniform),
                                      statistics.odds_over_uniform(windows.mass, windows.uniform))
    offset = windows.mass.mean(0) if len(windows.mass) else np.full(mass.shape, np.nan)
    return verdict.attends(mass, uniform, offset, p_values, thresholds=thresholds)


def _mass(patterns: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """Mass from rows to columns, mean over rows, sum over columns: (n_layers, n_heads) float32."""
    return patterns[:, :, list(rows)][..., list(columns)].sum(-1).mean(-1).astype(np.float32)


def _over_visible(visible: np.ndarray) -> np.ndarray:
    counts = visible.sum(-1, keepdims=True)
    return np.divide(visible, counts, out=np.zeros(visible.shape), where=counts > 0)


def _shares(norms: np.ndarray) -> np.ndarray:
    """Each group's share of A's value-weighted norms, (n_layers, n_heads, n_groups), mean over A's rows."""
    total = norms.sum(-1, keepdims=True)
    return np.divide(norms, total, out=np.zeros_like(norms), where=total > 0).mean(2)


def _controls(values: np.ndarray, key: int) -> tuple[float, ...]:
    return tuple(float(value) for i, value in enumerate(values) if i != key and not np.isnan(value))


def _named(words: Sequence[TextWord], values: np.ndarray, key: int) -> tuple[tuple[str, float], ...]:
    return tuple((word.text, float(values[i])) for i, word in enumerate(words) if i != key and not np.isnan(values[i]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _table(findings: Findings, masses: np.ndarray, rolled: np.ndarray,
           shares: np.ndarray) -> tuple[WordEvidence, ...]:
    plain, margin = findings.effects.logprob, findings.effects.margin
    return tuple(
        WordEvidence(
            text=word.text, span=word.span, role=word.role, attention=float(masses[i].mean()),
            attention_max=float(masses[i].max()), rollout=float(rolled[list(word.columns)].sum()),
            value=float(shares[..., i].mean()), cut=float(plain.cut_words[i]), hide=float(plain.hide_words[i]),
            cut_margin=float(margin.cut_words[i]), hide_margin=float(margin.hide_words[i]),
        )
        for i, word in enumerate(findings.words)
    )


def _replacements(findings: Findings) -> tuple[Replacement, ...]:
    plain, margin = findings.effects.logprob, findings.effects.margin
    made = []
    for i, swap in enumerate(findings.swaps):
        output, changed = findings.written.get(i, ("", None))
        made.append(Replacement(
            word=swap.word, origin=swap.origin, output=output, changed=changed, logprob=float(plain.swapped[i]),
            delta=float(plain.swapped[i] - plain.base), output_logprob=float(findings.effects.swapped_output[i]),
            patch_delta=float(plain.patches[i]), margin=float(margin.swapped[i]),
            patch_margin_delta=float(margin.patches[i]), attention=_kept(findings.effects.swap_attention[i]),
        ))
    return tuple(made)


def _needed(replacements: Sequence[Replacement], judged: Effects) -> list[Reason]:
    tried = [i for i, replacement in enumerate(replacements) if replacement.changed is not None]
    if not tried:
        return []
    changed = sum(bool(replacements[i].changed) for i in tried)
    delta = float(np.mean([judged.swapped[i] - judged.base for i in tried]))
    if changed:
        return [reason("replacing_changes", changed=changed, tried=len(tried), delta=delta)]
    return [reason("replacing_changes_nothing", tried=len(tried), delta=delta)]


def _qualify(findings: Findings, windows: references.Windows, *, thresholds: Thresholds) -> list[Reason]:
    question, found, reasons = findings.question, findings.output_words, []
    patch = _mean(findings.judged.patches)
    if patch <= -thresholds.cut_nats:
        reasons.append(reason("patch_agrees", delta=patch))
    if findings.contrast is not None:
        reasons.append(reason("judged_by_margin", word=findings.target.text.strip(),
                              contrast=findings.contrast.strip()))
    if found and findings.chosen is None and by_cut(found) != by_attention(found):
        reasons.append(reason("output_words_disagree", by_cut=found[by_cut(found)].text,
                              by_attention=found[by_attention(found)].text))
    for place in (question.query, question.key):
        if place.occurrences > 1:
            reasons.append(reason("first_of_several", text=place.text, occurrences=place.occurrences))
        if place.widened:
            reasons.append(reason("widened", text=place.text))
    smallest = 1 / (1 + len(windows.mass))
    needed = thresholds.false_discovery / windows.mass[0].size if len(windows.mass) else 0.0
    if smallest > needed:
        reasons.append(reason("reference_too_small", p_smallest=smallest, needed=needed))
    if question.trace.family == "encoder-only":
        reasons.append(reason("attention_of_masked_query"))
    return reasons


def _kept(array: np.ndarray) -> np.ndarray:
    """A read-only copy; float64 deltas stay so, masses are float32."""
    result = np.array(array)
    result.setflags(write=False)
    return result
