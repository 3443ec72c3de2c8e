"""The engine's `evidence`: takes plain values, lends the model to `gather`, gives plain values back.

A part of `LocalEngine`, apart from it for length alone; it needs of it `trace`,
`submit` and `limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property

from engine.evidence.gather import Asked, gather
from engine.evidence.reference import References, cache_folder
from engine.evidence_types import Evidence, Reference
from engine.types import Progress, Prompt

Report = Callable[[Progress], None]


class EvidenceMethods:
    """What `LocalEngine` can be asked about two words."""

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
            replacements: words for B's place; None: suggested; (): only the random ones of the baseline.
            on_progress: called in the model's worker with Progress of the stages "loading" and "probing" (first use),
                "reference" (once a model: sentences), "cutting" (edited runs), "replacing" and "done".

        Raises:
            InvalidPrompt: a word is absent, ill named or out of A's sight; a contrast or a replacement that cannot be.
            TextTooLong: more tokens than can each be cut.
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
        trace = self.trace(prompt)
        asked = Asked(query=query, key=key, query_in=query_in, contrast=contrast, output_word=output_word,
                      replacements=None if replacements is None else tuple(replacements))
        return self.submit(
            prompt.model, report=report, job=lambda live: gather(
                live, trace, asked, references=self._references, report=report, limits=self.limits),
        )

    @cached_property
    def _references(self) -> References:
        return References(cache_folder())


def _silent(progress: Progress) -> None:
    pass
