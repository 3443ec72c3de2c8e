"""Builds the plain `Trace` of a run: its axes, its output, its provenance.

It knows which token each row and column of a stream carries: rows of `decoder`
and `cross` are labelled by what they predict, with what they consume beside.
It runs nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import transformers

from engine import budget, text, words
from engine.capture import Checks
from engine.run import Encoded, Live, Written
from engine.types import Prompt, Provenance, Stream, StreamTokens, Token, Trace

BACKEND = "attention interface, SDPA"
#: Said of a model that has layers without attention (Jamba, Qwen3-Next): those with it count from 0 here.
HYBRID = ("layers_without_attention",)


def build(prompt: Prompt, live: Live, encoded: Encoded, written: Written, logits: torch.Tensor, *,
          checks: Checks, seconds: float) -> Trace:
    """The trace of one captured run.

    Args:
        prompt, live, encoded, written: what was asked, of what model, as which ids, with which output.
        logits: (rows, d_vocab) of the captured pass; the last row's choice labels it where nothing was written.
        checks: what the pass was checked for.
        seconds: how long the pass took.
    """
    predicted = written.predicted
    if live.family == "decoder-only" and len(predicted) < len(written.consumed):
        predicted += (int(logits[-1].argmax()),)  # the context is full: the last row's prediction alone
    return Trace(
        prompt=prompt, family=live.family, streams=live.plan.streams,
        axes=tuple(_axes(stream, live, encoded, written, predicted) for stream in live.plan.streams),
        source_text=encoded.text, output=written.output, output_is_given=encoded.target is not None,
        output_complete=written.complete, shape=live.plan.shape,
        notes=encoded.notes + (HYBRID if _has_other_layers(live) else ()),
        provenance=Provenance(
            model=live.name, revision=live.revision, device=live.device, dtype=live.dtype, backend=BACKEND,
            masks=tuple((s, " + ".join(checks.masks[s])) for s in live.plan.streams), probe_error=live.plan.error,
            row_sum_error=checks.row_sum_error, output_error=checks.output_error, seconds=seconds,
            versions=(("torch", torch.__version__), ("transformers", transformers.__version__)),
        ),
    )


def _has_other_layers(live: Live) -> bool:
    n_layers = budget.first_of(live.model.config, "num_hidden_layers", "n_layer", "n_layers")
    return live.family != "encoder-decoder" and live.plan.shape[0][0] < n_layers


def _axes(stream: Stream, live: Live, encoded: Encoded, written: Written, predicted: tuple[int, ...]) -> StreamTokens:
    source = encoded.source_tokens
    source_words = words.group(source, encoded.text)
    if stream == "encoder":
        return StreamTokens(source, source, source, source_words, source_words)
    if live.family == "decoder-only":
        # Rows are labelled by what they predict: the text from its second token on, then the continuation's first.
        new = text.decode_tokens(live.tokenizer, predicted[-1:], output=written.output) if predicted else ()
        rows = source[1:] + tuple(_beyond(token) for token in new)
        return StreamTokens(rows, source, source, words.group(rows, encoded.text), source_words)
    rows = text.decode_tokens(live.tokenizer, predicted, output=written.output)
    read = text.decode_tokens(live.tokenizer, written.consumed, output=written.output)
    row_words = words.group(rows, written.output)
    if stream == "decoder":
        return StreamTokens(rows, read, read, row_words, words.group(read, written.output))
    return StreamTokens(rows, source, read, row_words, source_words)


def _beyond(token: Token) -> Token:
    """The token of a continuation: its span counts in another text, so it carries none."""
    return replace(token, span=None)
