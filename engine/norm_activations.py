"""The activations that enter one of a loaded model's own norms, and what that norm makes of them.

A batch of sentences goes through the model's reading stack (the encoder where
there is one), padded on the right and masked; or the causal stack reads one
sequence twice, the second time with one token changed. It keeps one norm's
activations at a time, and knows nothing of what they are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from engine import budget, run
from engine.checks import amount
from engine.limits import Limits
from engine.norm_sites import Site, as_array, fitted, watch
from engine.run import Live
from engine.types import Prompt, Token, Trace


@dataclass(frozen=True)
class Activations:
    """What entered and left one norm for a batch of sentences.

    Attributes:
        site: which norm.
        tokens: for each sentence, display strings of its tokens.
        values: (n_sentences, seq_len, d_model) float32, what entered.
        outputs: the same shape, what the module itself returned.
        mask: (n_sentences, seq_len) bool, False where padded.
        gamma: (d_model,) float32, what the normalised values are multiplied by.
        beta: (d_model,) float32, what is added; zeros where the norm has none.
        eps: the module's own.
        error: largest difference between `outputs` and the reference form with γ, β and eps.
    """

    site: Site
    tokens: tuple[tuple[str, ...], ...]
    values: np.ndarray
    outputs: np.ndarray
    mask: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    eps: float
    error: float

    def sentence(self, index: int) -> np.ndarray:
        """(n_tokens, d_model) float32: one sentence's activations without its padding."""
        return self.values[index][self.mask[index]]


@dataclass(frozen=True)
class FutureChange:
    """A sequence that a causal stack read twice.

    Attributes:
        before, after: its activations, one sentence each.
        position: of the token that was changed.
    """

    before: Activations
    after: Activations
    position: int


def read_batch(live: Live, texts: Sequence[str], site: Site, *, limits: Limits, padding: int = 0) -> Activations:
    """One norm's activations for `texts`, read as one batch.

    Args:
        site: of the reading stack.
        padding: tokens of padding beyond the longest sentence.

    Raises:
        EngineError: a text that the model cannot read, or a batch that does not fit.
    """
    encoded = [run.encode(live, Prompt(live.name, text), limits=limits) for text in texts]
    length = max(len(each.source) for each in encoded) + padding
    bound = budget.n_ctx(live.model.config)
    length = min(length, bound) if bound else length
    run.check_budget(live, max(encoded, key=lambda each: len(each.source)), limits=limits)
    pad = live.tokenizer.pad_token_id
    pad = pad if pad is not None else 0  # masked: which token it is cannot matter
    ids = [list(each.source) + [pad] * (length - len(each.source)) for each in encoded]
    mask = np.array([[at < len(each.source) for at in range(length)] for each in encoded])
    arguments = {"input_ids": _ids(live, ids), "attention_mask": torch.from_numpy(mask).long().to(live.model.device)}
    stack = live.model.get_encoder() if live.family == "encoder-decoder" else live.model
    return _at(live, site, lambda: stack(**arguments), mask, [each.source_tokens for each in encoded])


def change_future(live: Live, trace: Trace, site: Site, *, position: int = -1) -> FutureChange:
    """Let the causal stack read a run's tokens again, and once more with the one at `position` changed.

    They are the text for a decoder-only model, what the model wrote for an
    encoder–decoder. The new token is another word of the same sequence.

    Args:
        trace: of the run.
        site: of the causal stack.
        position: counted from the end where negative; at least one token must precede it.

    Raises:
        InvalidPrompt: an encoder, which is not causal, or no such position.
    """
    tokens = trace.tokens("decoder").consumed
    at = position if position >= 0 else len(tokens) + position
    amount(at, what="position", least=1, most=len(tokens) - 1)
    words = [token for token in tokens if token.id != tokens[at].id and not token.special]
    other = words[0] if words else tokens[0]
    source = [token.id for token in trace.tokens("encoder").query] if live.family == "encoder-decoder" else []

    def read(sequence: Sequence[Token]) -> Activations:
        given = _ids(live, [[token.id for token in sequence]])
        arguments = {"input_ids": given}
        if source:
            arguments = {"input_ids": _ids(live, [source]), "decoder_input_ids": given}
        arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        return _at(live, site, lambda: run.forward(live, arguments), np.ones((1, len(sequence)), dtype=bool),
                   [sequence])

    return FutureChange(read(tokens), read([*tokens[:at], other, *tokens[at + 1:]]), at)


def _at(live: Live, site: Site, forward: Callable[[], object], mask: np.ndarray,
        tokens: Sequence[Sequence[Token]]) -> Activations:
    found: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []

    def look(name: str, module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> None:
        if name == site.name and not found:  # a module that is used again is another layer's
            found.append((module, given, output))

    watch(live, forward, look)
    module, given, output = found[0]
    values, outputs = as_array(given), as_array(output)
    gamma, beta, eps, error = fitted(module, site.form, values, outputs)
    return Activations(
        site=site, values=values, outputs=outputs, mask=mask, gamma=gamma, beta=beta, eps=eps, error=error,
        tokens=tuple(tuple(token.text for token in sentence) for sentence in tokens),
    )


def _ids(live: Live, ids: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor([list(each) for each in ids], device=live.model.device)
