"""Runs a model of the engine's on a sentence and on the same tokens in another order, with positions and without.

Everything happens in the model's own worker, in one job: the sites are found,
the runs made, the hooks taken off again, so no other request ever meets a model
without its positions. The other order permutes the tokens themselves; special
tokens stay in their places.

It does not know pages. A causal or windowed mask tells the order by itself;
that is reported, not removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from engine import attention, errors, position_modules, positions_of_model, run, text
from engine.capture import Key, Recorder
from engine.limits import Limits
from engine.local import LocalEngine
from engine.position_types import ModelPositions, OrderComparison, OrderRun
from engine.run import Encoded, Live
from engine.types import Prompt, Stream, Token

Order = Literal["swap ends", "reverse", "shuffle"]
#: Share of the largest value below which a difference is rounding, float32.
ROUNDING = 1e-4
ORDERS: tuple[Order, ...] = ("swap ends", "reverse", "shuffle")


def read(engine: LocalEngine, model: str, *, n_positions: int) -> ModelPositions:
    """What a model uses for positions when called at `n_positions` tokens; see `engine.positions.of_model`.

    Args:
        engine: runs it in the model's worker.
        model: as in `Prompt.model`.
        n_positions: from `position_modules.PROBE_LENGTH` to the engine's limit of tokens.

    Raises:
        InvalidPrompt: another length (code "bad_length").
        EngineError: as for any run.
    """
    if not position_modules.PROBE_LENGTH <= n_positions <= engine.limits.tokens:
        raise errors.InvalidPrompt(
            f"a length from {position_modules.PROBE_LENGTH} to {engine.limits.tokens}", got=f"{n_positions}",
            next_step="Choose a length in between.", code="bad_length", least=position_modules.PROBE_LENGTH,
            most=engine.limits.tokens, length=n_positions,
        )
    return engine.submit(model, partial(_read, n_positions, engine.limits)).result()


def compare_orders(engine: LocalEngine, prompt: Prompt, *, order: Order = "swap ends",
                   seed: int = 0) -> OrderComparison:
    """Two orders of a sentence's tokens, with the model's positions on and off.

    Args:
        engine: runs them in the model's worker.
        prompt: the sentence; its target is not used.
        order: how the tokens between the special ones are put: first and last swapped, reversed, or shuffled.
        seed: of "shuffle".

    Raises:
        InvalidPrompt: fewer than two tokens to put in order (code "nothing_to_permute").
        TextTooLong: more tokens than `limits.exact_grid`.
        EngineError: as for any run.
    """
    if order not in ORDERS:
        raise errors.InvalidPrompt(f"an order out of {', '.join(ORDERS)}", got=repr(order),
                                   next_step="Choose one of them.", code="unknown_order", order=str(order))
    return engine.submit(prompt.model, partial(_compare, prompt, order, seed, engine.limits)).result()


def _read(n_positions: int, limits: Limits, live: Live) -> ModelPositions:
    ids = (0,) * n_positions
    run.check_budget(live, Encoded(ids, (), "", ids, "", ()), limits=limits)
    return positions_of_model.of_model(live.model, n_positions=n_positions)


def _compare(prompt: Prompt, order: Order, seed: int, limits: Limits, live: Live) -> OrderComparison:
    encoded = run.encode(live, replace(prompt, target=None), limits=limits)
    encoded, by_character = _with_tokens_to_permute(encoded, live)
    permutation = _permutation(encoded.source_tokens, order, seed)
    if len(permutation) > limits.exact_grid:
        raise errors.TextTooLong(
            f"at most {limits.exact_grid} tokens of text to compare two orders", got=f"{len(permutation)}",
            next_step="Shorten it.", code="too_many_tokens", limit=limits.exact_grid, length=len(permutation),
            model=live.name, what="text",
        )
    run.check_budget(live, encoded, limits=limits)
    other = replace(
        encoded, source=tuple(encoded.source[i] for i in permutation),
        source_tokens=tuple(encoded.source_tokens[i] for i in permutation))
    sites = position_modules.find(live.model)
    runs, told = {}, False
    for state, context in (("on", contextlib.nullcontext()), ("off", position_modules.switched_off(sites))):
        with context:
            first, told = _run(live, encoded, limits)
            runs[state] = (first, _run(live, other, limits)[0])
    residuals = {state: _residuals(*pair, permutation) for state, pair in runs.items()}
    return OrderComparison(
        stream=live.plan.streams[0], permutation=permutation, on=runs["on"], off=runs["off"],
        vector_residual_on=residuals["on"][0], vector_residual_off=residuals["off"][0],
        pattern_residual_on=residuals["on"][1], pattern_residual_off=residuals["off"][1],
        rounding=ROUNDING if live.model.dtype == torch.float32 else limits.probe_tolerance_half,
        removed=tuple(dict.fromkeys((site.kind, site.name) for site in sites)), mask_tells_order=told,
        by_character=by_character,
    )


def _run(live: Live, encoded: Encoded, limits: Limits) -> tuple[OrderRun, bool]:
    """One run in the state the model is in, and whether any of its masks hides a key."""
    written = run.write(live, encoded, report=lambda progress: None, limits=limits)
    stream: Stream = live.plan.streams[0]
    maps: list[np.ndarray] = []
    hidden = []

    def handle(key: Key, call: attention.Call, output: torch.Tensor) -> None:
        if key[0] == stream:
            seen = attention.visible(call)
            hidden.append(not bool(seen.all()))
            maps.append(attention.pattern(call).masked_fill(~seen, float("nan")).cpu().numpy())

    recorder = Recorder(live.plan, handle)
    with torch.inference_mode(), attention.session(recorder):
        output = live.model(**run.inputs(live, encoded, written), output_hidden_states=True)
    recorder.check()
    layers = getattr(output, "encoder_hidden_states", None) or output.hidden_states
    return OrderRun(
        tokens=encoded.source_tokens, output=written.output, patterns=_read_only(np.stack(maps)),
        vectors=_read_only(layers[-1][0].float().cpu().numpy().copy()),
    ), any(hidden)


def _residuals(first: OrderRun, other: OrderRun, permutation: Sequence[int]) -> tuple[float, float]:
    """How far the other order's vectors (as a share of the largest) and weights are from the permuted first's."""
    at = np.asarray(permutation)
    vectors = np.abs(other.vectors - first.vectors[at]).max() / np.abs(first.vectors).max()
    # Under a mask the permuted cell may be hidden: a hidden weight is 0.
    weights = np.nan_to_num(other.patterns) - np.nan_to_num(first.patterns)[..., at[:, None], at]
    return float(vectors), float(np.abs(weights).max())


def _permutation(tokens: Sequence[Token], order: Order, seed: int) -> tuple[int, ...]:
    """Where each place takes its token from; special tokens stay."""
    free = np.array([i for i, token in enumerate(tokens) if not token.special])
    if len(free) < 2:
        raise errors.InvalidPrompt(
            "at least two tokens to put in another order", got=f"{len(free)}", next_step="Type a longer sentence.",
            code="nothing_to_permute", found=len(free),
        )
    if order == "swap ends":
        taken = np.concatenate([free[-1:], free[1:-1], free[:1]])
    elif order == "reverse":
        taken = free[::-1]
    else:
        taken = np.random.default_rng(seed).permutation(free)
    places = np.arange(len(tokens))
    places[free] = taken
    return tuple(places.tolist())


def _with_tokens_to_permute(encoded: Encoded, live: Live) -> tuple[Encoded, bool]:
    """A sentence that is a single token of the vocabulary, read character by character; any other as it is."""
    ordinary = [token for token in encoded.source_tokens if not token.special]
    if len(ordinary) != 1:
        return encoded, False
    pieces = [_ordinary(live, character) for character in encoded.text if not character.isspace()]
    at = encoded.source_tokens.index(ordinary[0])
    ids = [*encoded.source[:at], *(i for piece, _ in pieces for i in piece), *encoded.source[at + 1:]]
    tokens = [*encoded.source_tokens[:at], *(t for _, piece in pieces for t in piece), *encoded.source_tokens[at + 1:]]
    return replace(encoded, source=tuple(ids), source_tokens=tuple(tokens)), True


def _ordinary(live: Live, character: str) -> tuple[list[int], list[Token]]:
    alone = text.tokenise(live.tokenizer, character)
    kept = [(id_, token) for id_, token in zip(alone.ids, alone.tokens, strict=True) if not token.special]
    return [id_ for id_, _ in kept], [token for _, token in kept]


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
