"""Runs a model on a prompt with some heads' outputs replaced, its mask lifted, or padding added; and reads its output.

Each question is one job in the model's worker: the edited copies of the
sentence go through as batches beside an unedited one, and every row of the
output is held against the unedited run's. It does not know what a replacement
means: `engine.circuits` makes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engine import attention, budget, errors
from engine.attention import Call
from engine.capture import Captured, Key, Recorder
from engine.edits import BATCH_BYTES
from engine.limits import Limits
from engine.run import Live
from engine.types import Head, Prompt

if TYPE_CHECKING:
    from engine.local import LocalEngine

#: Replaced outputs of one layer: head → (q_len, d_value).
Replacement = Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Effects:
    """What edits did to a model's output.

    Attributes:
        unit: "nats": KL divergence of the row's next-token probabilities from the unedited run's; "relative", for a
            model without a vocabulary on top: length of the row's change over the row's length.
        change: (n_runs, rows) float64.
        tokens: (rows,) what the unedited run finds likeliest in each row; () without a vocabulary.
        edited_tokens: the same of every run.
        logprob: (n_runs, rows) change of the log-probability of `tokens`, nats; empty without a vocabulary.
    """

    unit: str
    change: np.ndarray
    tokens: tuple[str, ...]
    edited_tokens: tuple[tuple[str, ...], ...]
    logprob: np.ndarray

    def mean(self) -> np.ndarray:
        """(n_runs,) change, mean over rows."""
        return self.change.mean(axis=1)

    def flipped(self) -> np.ndarray:
        """(n_runs,) how many rows' likeliest token is another one."""
        return np.array([sum(a != b for a, b in zip(self.tokens, run, strict=True)) for run in self.edited_tokens], int)


@dataclass(frozen=True, eq=False)
class Padded:
    """One head on the sentence with padding after it.

    Attributes:
        n_pads: tokens of padding.
        weights: (q_len, k_len) float32 with the mask that hides the padding.
        unhidden: the same where nobody says what is padding.
        mass: mean share of the real rows' weight on padding, unhidden.
        change: (2,) mean change of the real rows' output, hidden and unhidden, in `Effects`' unit.
        unit: "nats" or "relative".
    """

    n_pads: int
    weights: np.ndarray
    unhidden: np.ndarray
    mass: float
    change: tuple[float, float]
    unit: str


def replace_outputs(engine: LocalEngine, prompt: Prompt, head: Head, runs: Sequence[Replacement]) -> Effects:
    """The effect of each of `runs`, which replace outputs of heads of the layer of `head`.

    Raises:
        OverBudget: not even one sequence fits.
        EngineError: as for any run.
    """
    return _submit(engine, prompt, partial(_replace_outputs, head, runs, engine.limits))


def leak(engine: LocalEngine, prompt: Prompt) -> tuple[Effects, int] | None:
    """What changing the last token that a decoder reads does to the rows before it: with its mask, and without.

    Returns:
        Effects of two runs, masked and unmasked, over the earlier rows; and the position of the changed token. None
        where there is no decoder, or nothing before the last token.
    """
    return _submit(engine, prompt, partial(_leak, engine.limits))


def pad(engine: LocalEngine, prompt: Prompt, head: Head, *, n_pads: int = 3) -> Padded:
    """One head with `n_pads` tokens of padding after the text, hidden by the mask and not.

    Raises:
        TextTooLong: the model's context leaves no room for them.
        EngineError: as for any run.
    """
    return _submit(engine, prompt, partial(_pad, head, n_pads))


def _submit(engine: LocalEngine, prompt: Prompt, job: Callable[[Captured, Live], object]):
    captured = engine.start(prompt).future.result()
    return engine.submit(prompt.model, lambda live: job(captured, live)).result()


class _Editor:
    """An `attention.Editor` that hands each call's output to `change(key, call_of, output)`."""

    def __init__(self, order: Sequence[Key], change: Callable[[Key, Callable[[int], Call], Tensor], Tensor]) -> None:
        self._order, self._change, self._count = order, change, 0

    def hidden(self, shape: tuple[int, int, int, int], device: torch.device) -> None:
        """Hides nothing."""

    def finish(self, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        """What `change` makes of the call."""
        key = self._order[self._count]
        self._count += 1
        return self._change(key, call_of, output)


def _replace_outputs(head: Head, runs: Sequence[Replacement], limits: Limits, captured: Captured,
                     live: Live) -> Effects:
    arguments = captured.arguments
    one = _bytes(live, arguments)
    size = max(1, BATCH_BYTES // one)
    budget.check(one * min(size, len(runs)), device=live.device, limits=limits)
    base = _rows(live, arguments)[0]
    read: list[_Reading] = []
    for start in range(0, len(runs), size):
        batch = runs[start:start + size]

        def change(key: Key, call_of, output: Tensor, batch: Sequence[Replacement] = batch) -> Tensor:
            if key != (head.stream, head.layer):
                return output
            output = output.clone()
            for item, replacement in enumerate(batch):
                for index, values in replacement.items():
                    output[item, :, index] = torch.from_numpy(np.array(values)).to(output)
            return output

        repeated = {name: value.expand(len(batch), *value.shape[1:]) for name, value in arguments.items()}
        with attention.editing(_Editor(live.plan.order, change)):
            rows = _rows(live, repeated)
        read += [_read(live, base, edited) for edited in rows]
    return _effects(live, base, read)


def _leak(limits: Limits, captured: Captured, live: Live) -> tuple[Effects, int] | None:
    name = "decoder_input_ids" if "decoder_input_ids" in captured.arguments else "input_ids"
    ids = captured.arguments[name]
    if "decoder" not in live.plan.streams or ids.shape[1] < 2:
        return None
    last = ids.shape[1] - 1
    other = ids.clone()
    # Any other token of the sequence will do; a repeated one needs a stranger.
    different = [id_ for id_ in ids[0].tolist() if id_ != int(ids[0, last])]
    other[0, last] = different[-1] if different else (int(ids[0, last]) + 1) % len(live.tokenizer)
    budget.check(4 * _bytes(live, captured.arguments), device=live.device, limits=limits)

    def unmask(key: Key, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        if key[0] != "decoder":
            return output
        call = replace(call_of(0), mask=None, causal=False)
        value = call.value.float().repeat_interleave(call.n_heads // call.value.shape[0], dim=0)
        return (attention.pattern(call) @ value).transpose(0, 1)[None].to(output).contiguous()

    def keep(key: Key, call_of: Callable[[int], Call], output: Tensor) -> Tensor:
        return output

    read = []
    for change in (keep, unmask):
        before, after = (_edited(live, {**captured.arguments, name: given}, change)[:last] for given in (ids, other))
        if change is keep:
            base = before
        read.append(_read(live, before, after))
    return _effects(live, base, read), last


def _edited(live: Live, arguments: dict[str, Tensor], change) -> Tensor:
    with attention.editing(_Editor(live.plan.order, change)):
        return _rows(live, arguments)[0]


def _pad(head: Head, n_pads: int, captured: Captured, live: Live) -> Padded:
    arguments = captured.arguments
    pad_id = live.tokenizer.pad_token_id
    if pad_id is None:
        pad_id = live.tokenizer.eos_token_id or 0
    ids, mask = arguments["input_ids"], arguments["attention_mask"]
    bound = budget.n_ctx(live.model.config)
    if bound and ids.shape[1] + n_pads > bound:
        raise errors.TextTooLong(
            f"at most {bound - n_pads} tokens of text for {live.name}, with room for padding", got=f"{ids.shape[1]}",
            next_step="Shorten it.", code="too_many_tokens", limit=bound - n_pads, length=ids.shape[1],
            model=live.name, what="text",
        )
    longer = {**arguments, "input_ids": torch.nn.functional.pad(ids, (0, n_pads), value=pad_id)}
    base = _rows(live, arguments)[0]
    maps, changes, unit = [], [], "nats"
    for value in (0, 1):
        kept: dict[Key, Call] = {}
        wanted = (head.stream, head.layer)
        recorder = Recorder(live.plan, lambda key, call, output, kept=kept: kept.update({key: call}))
        with attention.session(recorder):
            rows = _rows(live, {**longer, "attention_mask": torch.nn.functional.pad(mask, (0, n_pads), value=value)})
        recorder.check()
        maps.append(attention.pattern(kept[wanted])[head.head].cpu().numpy())
        read = _read(live, base, rows[0][:len(base)])
        changes.append(float(read.change.mean()))
        unit = "nats" if read.logprob is not None else "relative"
    # An encoder–decoder's own decoder never reads the text.
    padded_keys = 0 if head.stream == "decoder" and "decoder_input_ids" in arguments else n_pads
    real = maps[1][:len(maps[1]) - (n_pads if head.stream == live.plan.streams[0] else 0)]
    mass = float(real[:, real.shape[1] - padded_keys:].sum(1).mean()) if padded_keys else 0.0
    for array in maps:
        array.setflags(write=False)
    return Padded(n_pads, maps[0], maps[1], mass, (changes[0], changes[1]), unit)


@dataclass(frozen=True, eq=False)
class _Reading:
    change: np.ndarray
    logprob: np.ndarray | None
    likeliest: list[int]


def _rows(live: Live, arguments: dict[str, Tensor]) -> Tensor:
    """(batch, rows, d_vocab) log-probabilities, or (batch, rows, d_model) vectors without a vocabulary."""
    extra = {"use_cache": False} if "use_cache" in inspect.signature(live.model.forward).parameters else {}
    with torch.inference_mode():
        output = live.model(**arguments, **extra)
    rows = output.logits if getattr(output, "logits", None) is not None else output[0]
    return rows.float().log_softmax(-1) if _has_vocabulary(live) else rows.float()


def _has_vocabulary(live: Live) -> bool:
    return live.model.get_output_embeddings() is not None


def _read(live: Live, base: Tensor, edited: Tensor) -> _Reading:
    if not _has_vocabulary(live):
        change = (edited - base).norm(dim=-1) / base.norm(dim=-1)
        return _Reading(change.double().cpu().numpy(), None, [])
    probability = base.double().exp()
    difference = torch.where(probability > 0, base.double() - edited.double(), 0.0)
    likeliest = base.argmax(-1)
    gained = (edited - base).gather(-1, likeliest[:, None])[:, 0]
    return _Reading((probability * difference).sum(-1).clamp(min=0).cpu().numpy(), gained.double().cpu().numpy(),
                    edited.argmax(-1).tolist())


def _effects(live: Live, base: Tensor, read: list[_Reading]) -> Effects:
    vocabulary = _has_vocabulary(live)
    return Effects(
        unit="nats" if vocabulary else "relative", change=np.stack([one.change for one in read]),
        tokens=_texts(live, base.argmax(-1).tolist()) if vocabulary else (),
        edited_tokens=tuple(_texts(live, one.likeliest) for one in read),
        logprob=np.stack([one.logprob for one in read]) if vocabulary else np.zeros((len(read), 0)),
    )


def _texts(live: Live, ids: list[int]) -> tuple[str, ...]:
    return tuple(live.tokenizer.decode([id_], clean_up_tokenization_spaces=False) for id_ in ids)


def _bytes(live: Live, arguments: dict[str, Tensor]) -> int:
    """Bytes that one sequence takes, roughly: its logits four times, and every layer's working set."""
    config = live.model.config.get_text_config()
    rows = max(value.shape[1] for value in arguments.values())
    vocab = getattr(config, "vocab_size", 0)
    heads = max(heads for _, heads in live.plan.shape)
    return 4 * rows * (4 * vocab + 24 * config.hidden_size) + 8 * heads * rows * rows
