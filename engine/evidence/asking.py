"""The engine's `evidence` and `emergence`: takes plain values, lends the model out, gives plain values back.

A part of `LocalEngine`, apart from it for length alone; it needs of it `trace`,
`submit`, `limits` and where the embedded models are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path

from engine import catalogue, checks, errors, text
from engine.emergence_types import Emergence
from engine.evidence.emergence import emergence
from engine.evidence.gather import Asked, gather
from engine.evidence.reference import References, cache_folder
from engine.evidence_types import Evidence, Reference
from engine.limits import Limits
from engine.types import Progress, Prompt

Report = Callable[[Progress], None]


class EvidenceMethods:
    """What `LocalEngine` can be asked about two words."""

    _assets: Path
    limits: Limits

    def evidence(self, prompt: Prompt, query: Reference, key: Reference, *, contrast: str | None = None,
                 query_in: str = "source", output_word: Reference | None = None,
                 replacements: Sequence[str] | None = None, on_progress: Report | None = None) -> Evidence:
        """Whether A attends to B, and whether that is used: see `Evidence` for every number.

        Args:
            prompt: model and text; for encoder–decoders, an output to judge in `prompt.target`, or the model's own.
            query, key: A and B: a substring (its first occurrence), a span (start, end) in characters, or (substring,
                occurrence from zero). B stands in the text; A there, or in the output.
            contrast: a word in the measured word's place against which margins are measured, e.g. "Apple".
            query_in: "source" or "output": where A stands.
            output_word: the word of an encoder–decoder's output that stands for A; None: found.
            replacements: words for B's place, of which repeated ones count once; None: suggested; (): only the random
                ones of the baseline.
            on_progress: called in the model's worker with Progress of the stages "loading" and "probing" (first use),
                "reference" (once a model: sentences), "cutting" (edited runs), "replacing" and "done".

        Raises:
            InvalidPrompt: a word is absent, ill named or out of A's sight; a contrast or a replacement that cannot be.
            TextTooLong: more tokens than can each be cut, also with a replacement or a contrast in the sentence.
            EngineError: as for `trace`.
        """
        return self.start_evidence(
            prompt, query, key, contrast=contrast, query_in=query_in, output_word=output_word,
            replacements=replacements, on_progress=on_progress,
        ).result()

    def start_evidence(self, prompt: Prompt, query: Reference, key: Reference, *, contrast: str | None = None,
                       query_in: str = "source", output_word: Reference | None = None,
                       replacements: Sequence[str] | None = None,
                       on_progress: Report | None = None) -> Future[Evidence]:
        """As `evidence`, but returns once the prompt's own run is done: the rest is the future's."""
        report = on_progress or _silent
        asked = Asked(query=query, key=key, query_in=query_in, output_word=output_word,
                      contrast=None if contrast is None else self._word(contrast, "contrast"),
                      replacements=None if replacements is None else self._words(replacements))
        trace = self.trace(prompt)
        return self.submit(
            prompt.model, report=report, job=lambda live: gather(
                live, trace, asked, references=self._references, report=report, limits=self.limits),
        )

    def has_snapshots(self, model: str) -> bool:
        """Whether `model` is embedded and snapshots of its training came with it."""
        return isinstance(model, str) and catalogue.NAME.fullmatch(model) is not None and (
            self._assets / model / "snapshots" / "index.json").is_file()

    def emergence(self, evidence: Evidence, *, on_progress: Report | None = None) -> Emergence:
        """When in its training the model came to depend on B: the question of `evidence` at each snapshot.

        Snapshots are kept at four bits a weight: compare their numbers to one digit.

        Args:
            evidence: what `evidence` returned for a model with snapshots.
            on_progress: called in the model's worker with Progress of the stage "snapshots" (snapshots) and "done".

        Raises:
            InvalidPrompt: no Evidence, or of a model without snapshots.
            EngineError: as for `trace`.
        """
        return self.start_emergence(evidence, on_progress=on_progress).result()

    def start_emergence(self, evidence: Evidence, *, on_progress: Report | None = None) -> Future[Emergence]:
        """As `emergence`, but returns once the prompt's own run is done: the rest is the future's."""
        model, report = checks.of_type(evidence, Evidence).prompt.model, on_progress or _silent
        if not self.has_snapshots(model):
            raise errors.InvalidPrompt(
                "a model with snapshots of its training", got=f"{model}, which has none",
                next_step="Choose the embedded model.", code="no_snapshots", model=model,
            )
        trace = self.trace(evidence.prompt)
        return self.submit(model, report=report, job=lambda live: emergence(
            live, trace, evidence, folder=self._assets / model, report=report, limits=self.limits))

    def _words(self, replacements: Sequence[str]) -> tuple[str, ...]:
        if isinstance(replacements, str) or not isinstance(replacements, Sequence):
            raise errors.InvalidPrompt(
                "replacements as a list of words", got=type(replacements).__name__,
                next_step="Put a single word into a list of its own.", code="not_words",
                found=type(replacements).__name__,
            )
        if len(replacements) > self.limits.replacements:
            raise errors.InvalidPrompt(
                f"at most {self.limits.replacements} words for B's place", got=f"{len(replacements):,}",
                next_step="Choose fewer words.", code="too_many_replacements", limit=self.limits.replacements,
                count=len(replacements),
            )
        return tuple(dict.fromkeys(self._word(word, "replacement") for word in replacements))

    def _word(self, word: str, what: str) -> str:
        return text.legible(word, limit=self.limits.word_characters, what=what).strip()

    @cached_property
    def _references(self) -> References:
        return References(cache_folder())


def _silent(progress: Progress) -> None:
    pass
