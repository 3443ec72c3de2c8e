"""Gathers the evidence for one question: the whole way from two words to an `Evidence`.

Reads top-down: lay the question out, observe the unedited run, find the output
word that stands for A, intervene, replace B, then judge. It holds a model that
its caller lent it, and keeps nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import edits
from engine.edits import Outcome
from engine.evidence import flows, outputs
from engine.evidence.assemble import Findings, assemble
from engine.evidence.bench import Bench
from engine.evidence.corpus import language_of
from engine.evidence.effects import intervene
from engine.evidence.flows import Observed
from engine.evidence.question import Question, TextWord, ask, words_of
from engine.evidence.reference import References
from engine.evidence.swaps import swaps
from engine.evidence_types import THRESHOLDS, Evidence, Reference, Thresholds
from engine.limits import Limits
from engine.run import Live, Report
from engine.types import Progress, Trace


@dataclass(frozen=True)
class Asked:
    """What a person asked.

    Attributes:
        query, key: A and B.
        query_in: "source" or "output", where A stands.
        contrast: a word to measure margins against, or None.
        output_word: the word of an encoder–decoder's output that stands for A, or None: found.
        replacements: words for B's place, or None: suggested.
    """

    query: Reference
    key: Reference
    query_in: str = "source"
    contrast: str | None = None
    output_word: Reference | None = None
    replacements: Sequence[str] | None = None


def gather(live: Live, trace: Trace, asked: Asked, *, references: References, report: Report, limits: Limits,
           thresholds: Thresholds = THRESHOLDS) -> Evidence:
    """The evidence for `asked` in the run `trace`.

    Args:
        live: the model, held by the caller.
        references: the corpus statistics of the models in use.
        report: receives Progress: "reference" (sentences), "cutting" (edited runs), "replacing".

    Raises:
        InvalidPrompt, TextTooLong, OverBudget: as `ask`, `Bench` and `swaps` say.
    """
    started = time.perf_counter()
    question = ask(live, trace, query=asked.query, key=asked.key, query_in=asked.query_in, limits=limits)
    words = words_of(question)
    corpus = references.corpus(live, language_of(trace.source_text))
    ranked = references.get(live, question.stream, corpus, report=report, limits=limits)
    report(Progress("cutting"))
    observed, outcomes = _observe(live, question, words, limits=limits)
    found = outputs.output_words(question, observed, outcomes)
    target, chosen = outputs.choose(question, found, asked.output_word)
    bench = Bench(live, question, target, contrast=asked.contrast, limits=limits)
    others = swaps(live, question, corpus, chosen=asked.replacements)
    effects = intervene(
        bench, question, words, others, streams=live.plan.streams, shape=ranked.shape,
        seen=_seen(observed, question, words), on_done=lambda done, total: report(Progress("cutting", done, total)),
    )
    report(Progress("replacing"))
    written = outputs.with_replacements(live, question, target, others, limits=limits)
    evidence = assemble(Findings(
        question=question, target=target, contrast=asked.contrast, words=words, observed=observed, reference=ranked,
        language=corpus.language, output_words=found, chosen=chosen, effects=effects, swaps=others, written=written,
    ), thresholds=thresholds, seconds=time.perf_counter() - started)
    report(Progress("done"))
    return evidence


def _observe(live: Live, question: Question, words: Sequence[TextWord], *,
             limits: Limits) -> tuple[Observed, list[Outcome]]:
    """The run as it is, its keys in groups (the words, then every other key alone); and what the first items gave."""
    in_words = {at for word in words for at in word.columns}
    groups = [word.columns for word in words] + [(at,) for at in range(len(question.source)) if at not in in_words]
    with flows.projections(live.model) as projections:
        observed = Observed(stream=question.stream, rows=question.query.positions, groups=groups,
                            projections=projections)

        def watch(item: int, key, call, output) -> None:
            if item == 0:
                observed.add(key, call, output)

        outcomes = edits.run(live, outputs.first_items(question), limits=limits, observe=watch)
    observed.finish()
    return observed, outcomes


def _seen(observed: Observed, question: Question, words: Sequence[TextWord]) -> np.ndarray:
    """Which words A can see in some layer, (n_words,) bool."""
    keys = observed.visible[question.stream][:, :, list(question.query.positions)].any((0, 1, 2))
    return np.array([bool(keys[list(word.columns)].any()) for word in words], bool)
