"""Gathers the evidence for one question: the whole way from two words to an `Evidence`.

Reads top-down: lay the question out, observe the unedited run, find the output
word that stands for A, intervene, rank against the reference, judge. It holds
a model that its caller lent it, and keeps nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import edits, errors, glyphs, run
from engine.edits import Cut, Item, Read
from engine.evidence import flows, places, reference, statistics, verdict
from engine.evidence.bench import Bench
from engine.evidence.effects import Interventions, intervene
from engine.evidence.flows import Observed
from engine.evidence.question import Question, Target, TextWord, ask, candidates, words_of
from engine.evidence.reference import References
from engine.evidence.swaps import Swap, swaps
from engine.evidence.verdict import Effect, reason
from engine.evidence_types import (
    THRESHOLDS,
    WORD_MEASURES,
    Evidence,
    OutputWord,
    RankCorrelations,
    Reason,
    Replacement,
    Thresholds,
    WordEvidence,
)
from engine.evidence_types import Reference as WordReference
from engine.limits import Limits
from engine.run import Live, Report
from engine.types import Progress, Trace


@dataclass(frozen=True)
class Asked:
    """What a person asked.

    Attributes:
        query, key: A and B, as in `engine.evidence_types.Reference`.
        query_in: "source" or "output", where A stands.
        contrast: a word to measure margins against, or None.
        output_word: the word of an encoder–decoder's output that stands for A, or None: found.
        replacements: words for B's place, or None: suggested.
    """

    query: WordReference
    key: WordReference
    query_in: str = "source"
    contrast: str | None = None
    output_word: WordReference | None = None
    replacements: Sequence[str] | None = None


def gather(live: Live, trace: Trace, asked: Asked, *, references: References, report: Report, limits: Limits,
           thresholds: Thresholds = THRESHOLDS) -> Evidence:
    """The evidence for `asked` in the run `trace`.

    Args:
        live: the model, held by the caller.
        references: the corpus statistics of the models in use.
        report: receives Progress: "reference" (sentences), "cutting" (edited runs), "replacing" (words).

    Raises:
        InvalidPrompt, TextTooLong, OverBudget: as `ask`, `Bench` and `swaps` say.
    """
    started = time.perf_counter()
    question = ask(live, trace, query=asked.query, key=asked.key, query_in=asked.query_in, limits=limits)
    language = reference.language_of(trace.source_text)
    corpus = references.get(live, question.stream, language, report=report, limits=limits)
    report(Progress("cutting"))
    words = words_of(question)
    observed, groups = _observe(live, question, words, limits=limits)
    found = _output_words(live, question, observed, limits=limits)
    target, chosen = _target(question, found, asked.output_word)
    bench = Bench(live, question, target, contrast=asked.contrast, limits=limits)
    others = swaps(live, question, chosen=asked.replacements, language=language)
    seen = _seen(observed, question, words)
    effects = intervene(
        bench, question, words, others, streams=live.plan.streams, shape=corpus.shape, seen=seen,
        on_done=lambda done, total: report(Progress("cutting", done, total)),
    )
    report(Progress("replacing", 0, len(others)))
    outputs = _outputs(live, question, target, others, asked, limits=limits)
    evidence = _assemble(
        live, question, target, asked, words=words, observed=observed, groups=groups, corpus=corpus, found=found,
        chosen=chosen, effects=effects, others=others, outputs=outputs, language=language, thresholds=thresholds,
        started=started,
    )
    report(Progress("done"))
    return evidence


# --- the unedited run ------------------------------------------------------------------------------------------------


def _observe(live: Live, question: Question, words: Sequence[TextWord], *,
             limits: Limits) -> tuple[Observed, list[tuple[int, ...]]]:
    """The run as it is, and its keys in groups: the words, then every other key alone."""
    in_words = {at for word in words for at in word.columns}
    n_keys = len(question.source)
    groups = [word.columns for word in words] + [(at,) for at in range(n_keys) if at not in in_words]
    with flows.projections(live.model) as projections:
        observed = Observed(stream=question.stream, rows=question.query.positions, groups=groups,
                            projections=projections)
        edits.run(live, [Item(question.source, question.consumed)], limits=limits,
                  observe=lambda _, key, call, output: observed.add(key, call, output))
    observed.finish()
    return observed, groups


def _seen(observed: Observed, question: Question, words: Sequence[TextWord]) -> np.ndarray:
    """Which words A can see in some layer, (n_words,) bool."""
    rows = observed.visible[question.stream][:, :, list(question.query.positions)].any((0, 1, 2))
    return np.array([bool(rows[list(word.columns)].any()) for word in words], bool)


def _output_words(live: Live, question: Question, observed: Observed, *, limits: Limits) -> list[OutputWord]:
    """Every word that could stand for A, with what cutting A off and cross-attention say; [] where A is the output."""
    if question.target is not None:
        return []
    targets = candidates(question)
    if not targets:
        raise errors.InvalidPrompt(
            "an output with a word in it", got=repr(question.output), next_step="Choose another sentence.",
            code="no_output_words",
        )
    reads = tuple(Read(target.rows, target.ids) for target in targets)
    rows = tuple(range(len(question.consumed)))
    cut = Cut("cross", rows, question.query.positions)
    before, after = edits.run(live, [Item(question.source, question.consumed, edit, reads) for edit in ((), (cut,))],
                              limits=limits)
    cross = observed.patterns["cross"][..., list(question.query.positions)].sum(-1)
    return [
        OutputWord(
            text=target.text, span=target.span, rows=target.rows, logprob=float(old.sum()),
            cut_delta=float(new.sum() - old.sum()), attention=float(cross[..., list(target.rows)].mean()),
        )
        for target, old, new in zip(targets, before.logprobs, after.logprobs, strict=True)
    ]


def _target(question: Question, found: Sequence[OutputWord], wanted: WordReference | None) -> tuple[Target, int | None]:
    """The output to measure, and the index of a word that the person chose for it."""
    if question.target is not None:
        if wanted is not None:
            raise errors.InvalidPrompt(
                "an output word only where A stands in an encoder–decoder's source", got=repr(wanted),
                next_step="Leave it out.", code="output_word_not_taken",
            )
        return question.target, None
    targets = candidates(question)
    if wanted is None:
        return targets[_by_cut(found)], None
    place = places.find(wanted, question.output, question.output_tokens, side="output")
    index = next((i for i, target in enumerate(targets) if set(target.rows) & set(place.positions)), None)
    if index is None:
        raise errors.InvalidPrompt(
            f"a word of the output ({question.output!r})", got=repr(place.text), next_step="Choose one of its words.",
            code="word_absent", text=place.text, side="output",
        )
    return targets[index], index


def _by_cut(found: Sequence[OutputWord]) -> int:
    return int(np.argmin([word.cut_delta for word in found]))


def _by_attention(found: Sequence[OutputWord]) -> int:
    return int(np.argmax([word.attention for word in found]))


# --- what is written with B replaced ---------------------------------------------------------------------------------


def _outputs(live: Live, question: Question, target: Target, others: Sequence[Swap], asked: Asked, *,
             limits: Limits) -> dict[int, tuple[str, bool]]:
    """For each replacement that is not only a baseline: what the model writes, and whether the target is gone."""
    shown = [index for index, swap in enumerate(others) if swap.origin != "random"]
    results: dict[int, tuple[str, bool]] = {}
    if live.family == "encoder-only":
        mask = live.tokenizer.mask_token_id
        items = [
            Item(tuple(mask if at in others[i].query else id_ for at, id_ in enumerate(others[i].ids)),
                 reads=(Read(others[i].query, target.ids),)) for i in shown
        ]
        original = edits.run(live, [Item(question.source, reads=(Read(target.rows, target.ids),))], limits=limits)
        for index, outcome in zip(shown, edits.run(live, items, limits=limits), strict=True):
            filled = live.tokenizer.decode(outcome.likeliest[0]).strip()
            results[index] = filled, outcome.likeliest != original[0].likeliest
        return results
    by_length: dict[int, list[int]] = {}
    for index in shown:
        by_length.setdefault(len(others[index].ids), []).append(index)
    for indices in by_length.values():
        limit = limits.new_tokens_target if live.family == "encoder-decoder" else len(question.predicted)
        written = run.write_batch(live, [others[i].ids for i in indices], limit=limit)
        for index, ids in zip(indices, written, strict=True):
            shown_text = live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if live.family == "decoder-only" and asked.query_in == "source":
                changed = ids[:len(target.ids)] != target.ids
            else:
                changed = not contains(shown_text, target.text.strip())
            results[index] = shown_text.strip(), changed
    return results


def contains(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a word of its own; within others where its script has no spaces."""
    if any(glyphs.is_unspaced(char) for char in word):
        return word in text
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


# --- putting it together ---------------------------------------------------------------------------------------------


def _assemble(live: Live, question: Question, target: Target, asked: Asked, *, words: list[TextWord],
              observed: Observed, groups: list, corpus: reference.Reference, found: list[OutputWord],
              chosen: int | None, effects: Interventions, others: list[Swap], outputs: dict, language: str,
              thresholds: Thresholds, started: float) -> Evidence:
    stream, rows, columns = question.stream, list(question.query.positions), list(question.key.positions)
    n_layers, n_heads = corpus.shape
    patterns, visible = observed.patterns[stream], observed.visible[stream]
    masses = np.stack([_mass(patterns, rows, word.columns) for word in words])
    mass = _mass(patterns, rows, columns)
    flat = np.broadcast_to(_mass(_uniform(visible), rows, columns), mass.shape).astype(np.float32)
    kind = int(reference.kinds(question.tokens, stream=stream)[columns[0]])
    windows = reference.windows(corpus, n_rows=len(rows), n_columns=len(columns), offset=columns[0] - rows[0],
                                kind=kind, stream=stream)
    p_values = _p_values(mass, flat, windows)
    offset = windows.mass.mean(0) if len(windows.mass) else np.full(mass.shape, np.nan, np.float32)
    attends = verdict.attends(mass, flat, offset, p_values, thresholds=thresholds)

    judged = effects.logprob if asked.contrast is None else effects.margin
    key = next(index for index, word in enumerate(words) if word.role == "key")
    cut = Effect(judged.cut, _controls(judged.cut_words, key))
    hide = Effect(float(judged.hide_words[key]), _controls(judged.hide_words, key))
    decided, reasons = verdict.decide(attends, cut, hide, thresholds=thresholds)

    rolled = flows.rollout(observed.patterns, stream=stream, rows=rows)
    rolled_uniform = flows.rollout(flows.uniform(observed.visible), stream=stream, rows=rows)
    shares = _shares(observed.norms)
    table = tuple(
        WordEvidence(
            text=word.text, span=word.span, role=word.role, attention=float(masses[i].mean()),
            attention_max=float(masses[i].max()), rollout=float(rolled[list(word.columns)].sum()),
            value=float(shares[..., i].mean()), cut=float(effects.logprob.cut_words[i]),
            hide=float(effects.logprob.hide_words[i]), cut_margin=float(effects.margin.cut_words[i]),
            hide_margin=float(effects.margin.hide_words[i]),
        )
        for i, word in enumerate(words)
    )
    replacements = _replacements(effects, others, outputs)
    flow = float(rolled[columns].sum()), float(rolled_uniform[columns].sum())
    reasons = [reasons[0], reason("flows", rollout=flow[0], uniform=flow[1]), *reasons[1:3],
               *_needed(replacements, judged), *reasons[3:],
               *_qualify(question, target, asked, found, chosen, judged, windows, thresholds=thresholds, live=live)]
    return Evidence(
        prompt=question.trace.prompt, family=live.family, stream=stream, source=question.trace.source_text,
        output=question.output, query=question.query, key=question.key, verdict=decided, reasons=tuple(reasons),
        attention=_kept(mass), baseline_uniform=_kept(flat), baseline_offset=_kept(offset),
        baseline_swap=_kept(effects.swap_attention.mean(0) if others else np.full(mass.shape, np.nan)),
        p_values=_kept(p_values), significant=_kept(attends.significant), attending=_kept(attends.attending),
        reference_language=language, reference_offsets=windows.offsets, reference_sentences=corpus.n_sentences,
        reference_windows=len(windows.mass), rollout=flow[0], rollout_uniform=flow[1],
        value_norm=_kept(observed.norms[..., key].mean(-1)), value_share=_kept(shares[..., key]),
        value_projected=observed.projected, target=target.text.strip(), target_span=target.span,
        logprob=effects.logprob.base, contrast=None if asked.contrast is None else asked.contrast.strip(),
        margin=effects.margin.base,
        delta_logprob=effects.logprob.cut, control_deltas=_named(words, effects.logprob.cut_words, key),
        delta_by_layer=_kept(effects.logprob.by_layer), delta_by_head=_kept(effects.logprob.by_head),
        hide_delta=float(effects.logprob.hide_words[key]),
        hide_control_deltas=_named(words, effects.logprob.hide_words, key), patch_delta=_mean(effects.logprob.patches),
        margin_delta=effects.margin.cut, margin_control_deltas=_named(words, effects.margin.cut_words, key),
        margin_delta_by_layer=_kept(effects.margin.by_layer), margin_delta_by_head=_kept(effects.margin.by_head),
        margin_hide_delta=float(effects.margin.hide_words[key]),
        margin_hide_control_deltas=_named(words, effects.margin.hide_words, key),
        margin_patch_delta=_mean(effects.margin.patches), replacements=replacements, words=table,
        correlations=correlate(table), output_words=tuple(found),
        output_word=None if not found else _by_cut(found) if chosen is None else chosen,
        output_word_by_cut=_by_cut(found) if found else None,
        output_word_by_attention=_by_attention(found) if found else None, output_word_chosen=chosen is not None,
        thresholds=thresholds, seconds=time.perf_counter() - started,
    )


def correlate(table: Sequence[WordEvidence]) -> RankCorrelations:
    """How far the measures rank the words alike, over those with a cut effect."""
    compared = [word for word in table if not np.isnan(word.cut)]
    columns = np.array([
        [-getattr(word, name) if name in ("cut", "hide") else getattr(word, name) for name in WORD_MEASURES]
        for word in compared
    ]).reshape(len(compared), len(WORD_MEASURES))
    spearman, kendall = statistics.correlations(columns)
    return RankCorrelations(WORD_MEASURES, _kept(spearman), _kept(kendall), len(compared))


def _mass(patterns: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    """Mass from rows to columns, mean over rows, sum over columns: (n_layers, n_heads)."""
    return patterns[:, :, list(rows)][..., list(columns)].sum(-1).mean(-1)


def _uniform(visible: np.ndarray) -> np.ndarray:
    counts = visible.sum(-1, keepdims=True)
    return np.divide(visible, counts, out=np.zeros(visible.shape), where=counts > 0)


def _p_values(mass: np.ndarray, flat: np.ndarray, windows: reference.Windows) -> np.ndarray:
    """The larger of two ranks: of the mass, and of its multiple of the uniform mass.

    A sentence longer or shorter than the reference's shifts one of them, a positional head the one and a broad head
    the other; both must stand out.
    """
    # Rounded as the reference is, or equal masses would differ by the rounding alone.
    rounded = mass.astype(np.float16).astype(np.float32)
    by_mass = statistics.empirical_p(rounded, windows.mass)
    ratio = rounded / np.maximum(flat, 1e-9)
    by_ratio = statistics.empirical_p(ratio, windows.mass / np.maximum(windows.uniform, 1e-9))
    return np.maximum(by_mass, by_ratio)


def _shares(norms: np.ndarray) -> np.ndarray:
    """Each group's share of A's value-weighted norms, (n_layers, n_heads, n_groups), mean over A's rows."""
    total = norms.sum(-1, keepdims=True)
    return np.divide(norms, total, out=np.zeros_like(norms), where=total > 0).mean(2)


def _controls(values: np.ndarray, key: int) -> tuple[float, ...]:
    return tuple(float(v) for i, v in enumerate(values) if i != key and not np.isnan(v))


def _named(words: Sequence[TextWord], values: np.ndarray, key: int) -> tuple[tuple[str, float], ...]:
    return tuple((word.text, float(values[i])) for i, word in enumerate(words) if i != key and not np.isnan(values[i]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _replacements(effects: Interventions, others: Sequence[Swap], outputs: dict) -> tuple[Replacement, ...]:
    plain, margin = effects.logprob, effects.margin
    return tuple(
        Replacement(
            word=swap.word, origin=swap.origin, output=outputs.get(i, ("", None))[0],
            changed=outputs.get(i, ("", None))[1], logprob=float(plain.swapped[i]),
            delta=float(plain.swapped[i] - plain.base), output_logprob=float(effects.swapped_output[i]),
            patch_delta=float(plain.patches[i]), margin=float(margin.swapped[i]),
            patch_margin_delta=float(margin.patches[i]), attention=_kept(effects.swap_attention[i]),
        )
        for i, swap in enumerate(others)
    )


def _needed(replacements: Sequence[Replacement], judged) -> list[Reason]:
    tried = [(i, r) for i, r in enumerate(replacements) if r.changed is not None]
    if not tried:
        return []
    changed = sum(bool(r.changed) for _, r in tried)
    delta = float(np.mean([judged.swapped[i] - judged.base for i, _ in tried]))
    if changed:
        return [reason("replacing_changes", changed=changed, tried=len(tried), delta=delta)]
    return [reason("replacing_changes_nothing", tried=len(tried), delta=delta)]


def _qualify(question: Question, target: Target, asked: Asked, found: Sequence[OutputWord], chosen: int | None, judged,
             windows: reference.Windows, *, thresholds: Thresholds, live: Live) -> list[Reason]:
    reasons = []
    patch = _mean(judged.patches)
    if patch <= -thresholds.cut_nats:
        reasons.append(reason("patch_agrees", delta=patch))
    if asked.contrast is not None:
        reasons.append(reason("judged_by_margin", word=target.text.strip(), contrast=asked.contrast.strip()))
    if found and chosen is None and _by_cut(found) != _by_attention(found):
        reasons.append(reason("output_words_disagree", by_cut=found[_by_cut(found)].text,
                              by_attention=found[_by_attention(found)].text))
    for place in (question.query, question.key):
        if place.occurrences > 1:
            reasons.append(reason("first_of_several", text=place.text, occurrences=place.occurrences))
        if place.widened:
            reasons.append(reason("widened", text=place.text))
    smallest = 1 / (1 + len(windows.mass))
    n_heads = windows.mass[0].size if len(windows.mass) else 1
    if smallest > thresholds.false_discovery / n_heads:
        reasons.append(reason("reference_too_small", p_smallest=smallest, needed=thresholds.false_discovery / n_heads))
    if live.family == "encoder-only":
        reasons.append(reason("attention_of_masked_query"))
    return reasons


def _kept(array: np.ndarray) -> np.ndarray:
    """A read-only array; what is float64 stays so."""
    result = np.array(array)
    result.setflags(write=False)
    return result
