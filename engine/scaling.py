"""What the scaling of q·k does inside a real model: to its heads, to its output, and to the gradient.

Everything is a multiplier on the model's own scaling, in the attention call:
1 is the model as it is, and the model's own divisor (√d_head in most) takes
the division away. Some models scale their queries before the call and some
never, so no other way means the same in all of them.

It asks `LocalEngine.submit` for the model and leaves plain arrays; it knows no
page. It does not train: a model that had learnt without the division would
have learnt smaller queries (T5 did).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from engine import attention, budget, edits, errors, run, text
from engine.attention import Call
from engine.capture import Key, Recorder
from engine.limits import Limits
from engine.local import LocalEngine
from engine.run import Encoded, Live, Written
from engine.saturation import HeadGradients, HeadSaturation, RescaledOutput, softmax_stats
from engine.types import Prompt, Stream

#: Multipliers that every measure is taken at, besides the model's own divisor.
MULTIPLIERS = tuple(2.0 ** (power / 2) for power in range(-8, 11))
#: Cells of scores measured at most, over all heads, layers and multipliers; longer texts are measured on fewer rows.
MEASURED_CELLS = 2**24
LEAST_ROWS = 4
#: Copies of the hidden state and of the feed-forward activation that a layer keeps for its backward pass, roughly.
HIDDEN_KEPT, WIDE_KEPT, SCORES_KEPT = 20, 4, 8
#: Tokens that a rescaled model may write beyond twice its own output: one that rambles says nothing more.
SPARE_TOKENS = 8


def heads(engine: LocalEngine, prompt: Prompt) -> dict[Stream, HeadSaturation]:
    """How saturated every head is on `prompt`, by stream.

    Raises:
        EngineError: as `LocalEngine.trace`.
    """
    return engine.submit(prompt.model, partial(_heads, prompt, engine.limits)).result()


def outputs(engine: LocalEngine, prompt: Prompt, multipliers: tuple[float, ...]) -> tuple[RescaledOutput, ...]:
    """What the model writes at each multiplier, and the log-probability that it gives to its original output.

    The original output is `prompt.target` where there is one, else what the
    model writes by itself. An encoder's are the tokens it fills its masks with;
    without a mask there is no output, and the result is empty.

    Args:
        multipliers: of the scaling, all > 0.

    Raises:
        EngineError: as `LocalEngine.trace`.
    """
    return engine.submit(prompt.model, partial(_outputs, prompt, multipliers, engine.limits)).result()


def gradients(engine: LocalEngine, prompt: Prompt) -> dict[Stream, HeadGradients]:
    """The gradient of −ln p(output) behind every head's softmax, at every multiplier, by stream.

    An encoder without a mask in its text is asked for the tokens as they stand.

    Raises:
        InvalidPrompt: more than `limits.detail` tokens, or a model without a vocabulary to be right or wrong in.
        EngineError: as `LocalEngine.trace`.
    """
    return engine.submit(prompt.model, partial(_gradients, prompt, engine.limits)).result()


# --- heads -----------------------------------------------------------------------------------------------------------


def _heads(prompt: Prompt, limits: Limits, live: Live) -> dict[Stream, HeadSaturation]:
    encoded, written = _written(live, prompt, limits)
    found: dict[Key, tuple[np.ndarray, np.ndarray, float, int, int, int]] = {}
    divisors: list[float] = []

    def handle(key: Key, call: Call, output: Tensor) -> None:
        if not divisors:
            divisors.append(divisor(call))
        found[key] = _measure(call, (*MULTIPLIERS, divisors[0]), n_layers=len(live.plan.order))

    recorder = Recorder(live.plan, handle)
    with torch.inference_mode(), attention.session(recorder):
        run.forward(live, run.inputs(live, encoded, written))
    recorder.check()
    return {stream: _stream(stream, [found[stream, layer] for layer in range(n_layers)], divisors[0])
            for stream, (n_layers, _) in zip(live.plan.streams, live.plan.shape, strict=True)}


def divisor(call: Call) -> float:
    """What the model divides q·k by in this call, before it (in the queries) and in it together."""
    return 1.0 / (call.scaling * call.query_scaling)


def _measure(call: Call, multipliers: tuple[float, ...], *, n_layers: int) -> tuple:
    """One layer's (3, n_multipliers, n_heads) measures, (n_heads,) variance, uniform entropy, d_head, rows, q_len."""
    most = MEASURED_CELLS // (call.n_heads * call.k_len * len(multipliers) * n_layers)
    step = max(1, -(-call.q_len // max(LEAST_ROWS, most)))
    rows = slice(call.q_len - 1 - (call.q_len - 1) // step * step, None, step)  # with the last row, which sees most
    seen = attention.visible(call, rows=rows).expand(call.n_heads, -1, -1).cpu().numpy()
    keys = seen.sum(-1) + (call.sinks is not None)
    live_rows, choice = keys > 0, keys > 1
    measures = np.empty((3, len(multipliers), call.n_heads))
    for at, multiplier in enumerate(multipliers):
        scores = attention.scores(dataclasses.replace(call, scaling=call.scaling * multiplier), rows=rows)
        if call.sinks is not None:
            scores = torch.cat([scores, call.sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)], dim=-1)
        entropy, largest, norm = softmax_stats(scores.cpu().numpy())
        measures[0, at] = _over(np.mean, entropy, live_rows)
        measures[1, at] = _over(np.mean, largest, live_rows)
        measures[2, at] = _over(np.median, norm, choice)
    bare = dataclasses.replace(call, scaling=1.0 / call.query_scaling, softcap=None, bias=None, sinks=None)
    products = attention.scores(bare, rows=rows).cpu().numpy().astype(np.float64)
    variance = _over(np.var, products, seen)
    uniform = float(np.log(keys[live_rows]).mean()) if live_rows.any() else math.nan
    return measures, variance, uniform, call.query.shape[-1], seen.shape[1], call.q_len


def _over(reduce: Callable, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """`reduce` of each head's values where `which` holds, (n_heads,); NaN where it holds nowhere."""
    return np.array([reduce(of_head[mask]) if mask.any() else np.nan
                     for of_head, mask in zip(values, which, strict=True)])


def _stream(stream: Stream, layers: list[tuple], own_divisor: float) -> HeadSaturation:
    measures, variance, uniform, d_head, rows, q_len = zip(*layers, strict=True)
    entropy, largest, norm = (_fixed(np.stack(part, axis=1)) for part in zip(*measures, strict=True))
    return HeadSaturation(
        stream=stream, multipliers=_fixed(np.array([*MULTIPLIERS, own_divisor])), divisor=own_divisor, entropy=entropy,
        max_probability=largest, jacobian_norm=norm, product_variance=_fixed(np.stack(variance)),
        uniform_entropy=float(np.mean(uniform)), d_head=d_head[0], rows=rows[0], q_len=q_len[0],
    )


# --- output ----------------------------------------------------------------------------------------------------------


def _outputs(prompt: Prompt, multipliers: tuple[float, ...], limits: Limits, live: Live) -> tuple[RescaledOutput, ...]:
    encoded, written = _written(live, prompt, limits)
    item = _item(live, encoded, written, limits, masks_only=True)
    if item is None:
        return ()
    ids = item.reads[0].ids
    # What fills masks stands in no text of its own.
    tokens = tuple(live.tokenizer.decode([id_]) for id_ in ids) if live.family == "encoder-only" else tuple(
        token.text for token in text.decode_tokens(live.tokenizer, ids, output=written.output))
    shorter = dataclasses.replace(
        limits, new_tokens_target=min(limits.new_tokens_target, 2 * len(ids) + SPARE_TOKENS))
    asked = dataclasses.replace(encoded, target=None)
    found = []
    for multiplier in multipliers:
        with attention.rescaling(multiplier):
            outcome = edits.run(live, [item], limits=limits)[0]
            now = run.write(live, asked, report=lambda progress: None, limits=shorter)
        found.append(RescaledOutput(
            multiplier=multiplier, output=now.output, complete=now.complete,
            tokens=tokens, logprobs=_fixed(outcome.logprobs[0]),
        ))
    return tuple(found)


def _written(live: Live, prompt: Prompt, limits: Limits) -> tuple[Encoded, Written]:
    encoded = run.encode(live, prompt, limits=limits)
    run.check_budget(live, encoded, limits=limits)
    return encoded, run.write(live, encoded, report=lambda progress: None, limits=limits)


def _item(live: Live, encoded: Encoded, written: Written, limits: Limits, *, masks_only: bool) -> edits.Item | None:
    """The original output as ids to read at their rows; None where there is none."""
    if live.family == "encoder-decoder":
        return edits.Item(encoded.source, written.consumed,
                          reads=(edits.Read(tuple(range(len(written.predicted))), written.predicted),))
    if live.family == "decoder-only":
        new = run.write_batch(live, [encoded.source], limit=limits.new_tokens_decoder)[0] if written.output else ()
        if not new:
            return None
        first = len(encoded.source) - 1
        return edits.Item(encoded.source + new[:-1], reads=(edits.Read(tuple(range(first, first + len(new))), new),))
    if live.model.get_output_embeddings() is None:
        return None
    rows = tuple(i for i, id_ in enumerate(encoded.source) if id_ == live.tokenizer.mask_token_id)
    if rows:
        ids = edits.run(live, [edits.Item(encoded.source, reads=(edits.Read(rows, (0,) * len(rows)),))],
                        limits=limits)[0].likeliest[0]
    elif masks_only:
        return None
    else:
        rows = tuple(i for i, token in enumerate(encoded.source_tokens) if not token.special)
        ids = tuple(encoded.source[row] for row in rows)
    return edits.Item(encoded.source, reads=(edits.Read(rows, ids),)) if rows else None


# --- gradient --------------------------------------------------------------------------------------------------------


class _Gatherer:
    """An `attention.Editor` that changes nothing and keeps every call with its output, as autograd sees it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.outputs: list[Tensor] = []

    def hidden(self, shape: tuple[int, int, int, int], device: torch.device) -> None:
        """Nothing."""

    def finish(self, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        """Keep the output; the parameters are frozen, so that the first layer's starts the graph."""
        self.calls.append(call_of(0))
        self.outputs.append(output if output.requires_grad else output.requires_grad_())
        return self.outputs[-1]


def _gradients(prompt: Prompt, limits: Limits, live: Live) -> dict[Stream, HeadGradients]:
    encoded, written = _written(live, prompt, limits)
    item = _item(live, encoded, written, limits, masks_only=False)
    if item is None:
        raise errors.InvalidPrompt(
            "a model that gives words a probability, and a text to be right or wrong about", got=live.name,
            next_step="Choose a model with a vocabulary head, or another text.", code="no_loss", model=live.name,
        )
    length = max(len(item.source), len(item.consumed))
    if length > limits.detail:
        raise errors.InvalidPrompt(
            f"at most {limits.detail} tokens for a backward pass", got=f"{length}", next_step="Shorten the text.",
            code="too_long_for_gradient", limit=limits.detail, length=length,
        )
    _check_backward(live, length, limits)
    calls, arriving = _arriving(live, item)
    own = divisor(calls[0])
    multipliers = (*MULTIPLIERS, own)
    norms = {key: np.array([backward(call, gradient, multiplier) for multiplier in multipliers])
             for key, call, gradient in zip(live.plan.order, calls, arriving, strict=True)}
    found = {}
    for stream, (n_layers, _) in zip(live.plan.streams, live.plan.shape, strict=True):
        every = np.stack([norms[stream, layer] for layer in range(n_layers)], axis=2)
        found[stream] = HeadGradients(stream, _fixed(np.array(multipliers)), _fixed(every[:, 0]), _fixed(every[:, 1]))
    return found


def _check_backward(live: Live, length: int, limits: Limits) -> None:
    config = live.model.config
    d_model = budget.first_of(config, "hidden_size", "d_model", "n_embd")
    d_mlp = budget.first_of(config, "intermediate_size", "encoder_ffn_dim", "ffn_dim", "d_ff", "n_inner") or 4 * d_model
    n_heads = max(n for _, n in live.plan.shape)
    layer = length * (HIDDEN_KEPT * d_model + WIDE_KEPT * d_mlp) + SCORES_KEPT * n_heads * length**2
    logits = 4 * length * budget.first_of(config, "vocab_size")
    budget.check(4 * (layer * len(live.plan.order) + logits), device=live.device, limits=limits)


def _arriving(live: Live, item: edits.Item) -> tuple[list[Call], list[Tensor]]:
    """Every attention call, and the gradient of −ln p(output) that arrives at its output, (q_len, n_heads, d_value)."""
    ids = torch.tensor([item.source], device=live.model.device)
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if item.consumed:
        arguments["decoder_input_ids"] = torch.tensor([item.consumed], device=live.model.device)
    if "use_cache" in inspect.signature(live.model.forward).parameters:
        arguments["use_cache"] = False
    gatherer = _Gatherer()
    with torch.enable_grad(), attention.editing(gatherer):
        logits = live.model(**arguments).logits[0]
        rows, targets = list(item.reads[0].rows), torch.tensor(item.reads[0].ids, device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits[rows].float(), targets, reduction="sum")
        found = torch.autograd.grad(loss, gatherer.outputs, allow_unused=True)
    if len(found) != len(live.plan.order):
        raise RuntimeError(f"The model made {len(found)} attention calls; the probe saw {len(live.plan.order)}.")
    return gatherer.calls, [torch.zeros_like(output[0]) if gradient is None else gradient[0]
                            for gradient, output in zip(found, gatherer.outputs, strict=True)]


def backward(call: Call, arriving: Tensor, multiplier: float) -> tuple[np.ndarray, np.ndarray]:
    """Back-propagate `arriving` through one attention layer whose scaling is multiplied.

    Args:
        call: the layer's queries, keys, values.
        arriving: (q_len, n_heads, d_value), the loss's gradient at the layer's output.

    Returns:
        Each head's ‖∂L/∂scores‖_F and ‖∂L/∂q‖_F, (n_heads,) float64, q before any scaling.
    """
    with torch.enable_grad():
        query = call.query.detach().float().requires_grad_()
        changed = dataclasses.replace(call, query=query, key=call.key.detach(), scaling=call.scaling * multiplier)
        scores = attention.scores(changed)
        value = call.value.detach().float().repeat_interleave(call.n_heads // call.value.shape[0], dim=0)
        output = attention.softmax(changed, scores) @ value
        at_scores, at_query = torch.autograd.grad(output, (scores, query), arriving.float().transpose(0, 1))
    norms = (at_scores, at_query * call.query_scaling)
    return tuple(part.flatten(1).double().norm(dim=1).cpu().numpy() for part in norms)


def _fixed(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
