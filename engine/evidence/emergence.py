"""When in its training did the model come to depend on B? The same question, put to the model's own snapshots.

The finished model has said what the question is: its output, and the word of it that stands for A. Each snapshot
reads the same ids, is scored on that same output, and loses the same edge and the same word; the weights alone
differ. One copy of the model takes one set of weights after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from torch import Tensor

from engine import edits, errors, run
from engine.attention import Call
from engine.capture import Key
from engine.edits import Item
from engine.emergence_types import Emergence, Moment
from engine.evidence.bench import Bench
from engine.evidence.effects import intervene, mass
from engine.evidence.question import Question, Target, TextWord, ask, candidates, words_of
from engine.evidence.verdict import COUNTS, Effect, judge
from engine.evidence_types import Evidence
from engine.limits import Limits
from engine.run import Live, Report
from engine.training import snapshots
from engine.types import Progress, Trace

#: Tokens that a snapshot may write beyond the length of the finished model's output.
MORE_TOKENS = 8


def emergence(live: Live, trace: Trace, evidence: Evidence, *, folder: Path, report: Report,
              limits: Limits) -> Emergence:
    """The question of `evidence` at every snapshot in `folder`.

    Args:
        live: the finished model, held by the caller.
        trace: its run, of which `evidence` was gathered.
        folder: the model's own, with `snapshots/index.json`.
        report: receives Progress "snapshots": snapshots done, of how many.

    Raises:
        OverBudget: the runs would not fit.
    """
    question = ask(live, trace, query=evidence.query.span, key=evidence.key.span, query_in=evidence.query.side,
                   limits=limits)
    target = question.target or _target(question, evidence)
    index = snapshots.read_index(folder)
    snapshot = replace(live, model=copy.deepcopy(live.model))
    moments = []
    for done, entry in enumerate(index):
        report(Progress("snapshots", done, len(index)))
        _dress(snapshot, entry["step"], folder)
        moments.append(_moment(snapshot, question, target, evidence, entry, limits=limits))
    report(Progress("done"))
    return Emergence(
        evidence=evidence, moments=tuple(moments), cut_since=since([moment.cut_counts for moment in moments]),
        hide_since=since([moment.hide_counts for moment in moments]))


def since(counts: Sequence[bool]) -> int | None:
    """Index of the first of the True ones that the sequence ends with; None where it ends with a False."""
    lasting = len(list(takewhile(bool, reversed(counts))))
    return len(counts) - lasting if lasting else None


def _target(question: Question, evidence: Evidence) -> Target:
    return next(word for word in candidates(question) if word.span == evidence.target_span)


def _dress(snapshot: Live, step: int, folder: Path) -> None:
    """Give the copy the weights of a step; position tables are made, not learned, and tied weights are kept once."""
    absent, unknown = snapshot.model.load_state_dict(snapshots.load_snapshot(step, folder), strict=False)
    snapshot.model.tie_weights()
    tied = snapshot.model.all_tied_weights_keys
    if unknown or any("embed_positions" not in name and name not in tied for name in absent):
        raise errors.ModelRefused(
            "snapshots of this model", got=f"others at step {step}", next_step="Write them anew by training.",
            code="foreign_snapshot", step=step,
        )


def _moment(snapshot: Live, question: Question, target: Target, evidence: Evidence, entry: dict, *,
            limits: Limits) -> Moment:
    """One snapshot: where A looks, what the cuts cost, what it writes."""
    attention = np.zeros(evidence.attention.shape, np.float32)

    def watch(_: int, key: Key, call: Call, output: Tensor) -> None:
        if key[0] == question.stream:
            attention[key[1]] = mass(call, question.query.positions, question.key.positions)

    edits.run(snapshot, [Item(question.source, question.consumed)], limits=limits, observe=watch)
    attention.setflags(write=False)
    words, bound = words_of(question), evidence.thresholds
    done = intervene(
        Bench(snapshot, question, target, contrast=evidence.contrast, limits=limits), question, words, (),
        streams=snapshot.plan.streams, shape=attention.shape, on_done=lambda done, total: None,
        seen=np.array([word.role == "query" or bool(np.isfinite(word.cut)) for word in evidence.words]))
    effects = done.logprob if evidence.contrast is None else done.margin
    # An untrained model repeats itself to the limit: as long as the finished one's output, and some more, is enough.
    limit = min(limits.new_tokens_target, len(question.predicted) + MORE_TOKENS)
    ids = run.write_batch(snapshot, [question.source], limit=limit)[0]
    output = snapshot.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    hide = float(next(delta for word, delta in zip(words, effects.hide_words, strict=True) if word.role == "key"))
    cut_controls, hide_controls = _others(words, effects.cut_words), _others(words, effects.hide_words)
    return Moment(
        step=entry["step"], epoch=float(entry["epoch"]), output=output.strip(), value=effects.base, attention=attention,
        cut=effects.cut, control_deltas=cut_controls,
        cut_counts=_counts(effects.cut, cut_controls, bound.cut_nats, bound.cut_over_controls),
        hide=hide, hide_control_deltas=hide_controls,
        hide_counts=_counts(hide, hide_controls, bound.hide_nats, bound.hide_over_controls),
    )


def _counts(delta: float, controls: Sequence[tuple[str, float]], nats: float, over_controls: float) -> bool:
    return judge(Effect(delta, tuple(control for _, control in controls)), nats, over_controls) in COUNTS


def _others(words: Sequence[TextWord], deltas: np.ndarray) -> tuple[tuple[str, float], ...]:
    return tuple((word.text, float(delta)) for word, delta in zip(words, deltas, strict=True)
                 if word.role == "other" and np.isfinite(delta))
