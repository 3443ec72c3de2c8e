"""Runs a question and shows how far it is; keeps the answers given last.

It waits outside of the model's slot and only reads the engine's progress. The
same question asked again, by anyone, is answered from memory: evidence, and
when it emerged, are plain values of the question.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent import futures
from concurrent.futures import CancelledError, Future
from typing import Any

import streamlit as st

from engine import Emergence, Evidence, LocalEngine, Progress
from pages.widgets import banners, runner
from pages.widgets.evidence_question import Question
from pages.widgets.language import Translate

#: Seconds between two looks at the progress, and before the first is shown.
TICK, PATIENCE = 0.1, 0.15
#: Answers kept.
KEPT = 128


class Asked:
    """A question under way: its future, and its progress as the worker last reported it."""

    def __init__(self) -> None:
        self.progress = Progress("queued")
        #: Its own, there before the engine's, for those who join.
        self.future: Future[Any] = Future()

    def report(self, progress: Progress) -> None:
        """Called by the worker."""
        self.progress = progress


class Answers:
    """Questions under way and answered, for all sessions of this process."""

    def __init__(self) -> None:
        self._asked: OrderedDict[Hashable, Asked] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, question: Hashable) -> bool:
        with self._lock:
            return question in self._asked

    def ask(self, question: Hashable, begin: Callable[[Callable[[Progress], None]], Future[Any]]) -> Asked:
        """Begin `question`, or join the one under way or answered.

        Args:
            question: by value.
            begin: begins it; told where to report its progress, from the engine's worker.

        Raises:
            EngineError: what can be told at once.
        """
        with self._lock:
            if question in self._asked:
                self._asked.move_to_end(question)
                return self._asked[question]
            asked = self._asked[question] = Asked()
            while len(self._asked) > KEPT:
                self._asked.popitem(last=False)
        try:
            started = begin(asked.report)
        except BaseException as error:
            self._fail(question, asked, error)
            raise
        started.add_done_callback(lambda started: self._end(question, asked, started))
        return asked

    def _end(self, question: Hashable, asked: Asked, started: Future[Any]) -> None:
        error = CancelledError() if started.cancelled() else started.exception()
        if error is None:
            asked.future.set_result(started.result())
        else:
            self._fail(question, asked, error)

    def _fail(self, question: Hashable, asked: Asked, error: BaseException) -> None:
        """Forgets it before anyone who waits is told, so that who asks again begins anew."""
        with self._lock:
            if self._asked.get(question) is asked:
                del self._asked[question]
        asked.future.set_exception(error)


@st.cache_resource(show_spinner=False)
def answers() -> Answers:
    """The one store of this process."""
    return Answers()


def run(engine: LocalEngine, question: Question, _: Translate) -> Evidence | None:
    """The evidence for `question`, with progress while it is gathered; None after an error, which is shown."""
    place = st.empty()
    with banners.guard(_):
        try:
            if question not in answers():
                # A second model may have to be fetched and loaded first; `ask` itself would wait for that in silence.
                runner.follow(engine, question.prompt, place, _)
            return _await(question, lambda report: engine.start_evidence(
                question.prompt, question.query, question.key, contrast=question.contrast, query_in=question.query_in,
                output_word=question.output_word, replacements=question.replacements, on_progress=report), place, _)
        finally:
            place.empty()
    return None


def emergence(engine: LocalEngine, question: Question, evidence: Evidence, _: Translate) -> Emergence | None:
    """When in the model's training `evidence`, that of `question`, emerged; as `run`."""
    place = st.empty()
    with banners.guard(_):
        try:
            return _await((question, "emergence"), lambda report: engine.start_emergence(evidence, on_progress=report),
                          place, _)
        finally:
            place.empty()
    return None


def _await(question: Hashable, begin: Callable[[Callable[[Progress], None]], Future[Any]], place, _: Translate) -> Any:
    asked = answers().ask(question, begin)
    wait = PATIENCE
    while not futures.wait([asked.future], wait).done:
        _show(place, asked.progress, _)
        wait = TICK
    return asked.future.result()


def _show(place, progress: Progress, _: Translate) -> None:
    stages = {
        "queued": _("Waiting for the model"), "downloading": _("Downloading"), "loading": _("Loading the model"),
        "probing": _("Checking its maps against eager attention"),
        "reference": _("Reading the reference sentences, once for this model"),
        "cutting": _("Cutting edges and running again"), "replacing": _("Putting other words in B's place"),
        "snapshots": _("Asking the snapshots"),
        "done": _("Done"),
    }
    label = stages.get(progress.stage, progress.stage)
    if progress.total:
        place.progress(min(1.0, progress.done / progress.total), text=f"{label}: {progress.done} / {progress.total}")
    else:
        place.markdown(f"{label} …")
