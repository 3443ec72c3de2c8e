"""Lets a loaded model write, with a cache and without, and watches what each step costs.

After every step the bytes of the real cache object are read off, layer by
layer, beside the formula; the seconds of each step are taken in two passes of
their own; FLOPs are counted by torch on a copy of the model on the meta
device, so that counting costs no time in what is timed. The end of the text is
forbidden, so that the cache keeps growing. It knows one sequence and no beams.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from engine import budget, errors, kv_flops, run
from engine.backends import backend_of, refusing
from engine.kv_config import shape_of
from engine.kv_measure import cache_bytes_of, empty_cache
from engine.kv_shape import KVShape, layer_bytes
from engine.limits import Limits
from engine.run import Live
from engine.types import Progress, Prompt

#: Most steps that one request may watch.
MOST_STEPS = 256
#: Longest text whose tokens are counted, in characters.
BOOK_CHARACTERS = 10_000_000


@dataclass(frozen=True)
class DeviceBytes:
    """What a GPU holds after each step, (n_steps,) int64 each: three numbers that are not the same.

    Attributes:
        live: tensors that are alive.
        reserved: what torch's allocator has taken from the driver, live tensors included.
        device: what the driver has given to everybody, torch's reserve and other processes included.
    """

    live: np.ndarray
    reserved: np.ndarray
    device: np.ndarray


@dataclass(frozen=True)
class Growth:
    """What each step cost. Step 0 reads the prompt; each later one adds a token.

    Attributes:
        shape: of the model's cache, as its configuration says.
        n_source: tokens of an encoder–decoder's source, else 0.
        output: what was written, the end forbidden.
        lengths: (n_steps,) int64: tokens in the cache after the step.
        logical, storage: (n_steps, n_layers) int64 bytes of the real cache object.
        formula: (n_steps, n_layers) int64 bytes, with the slots that transformers keeps of a window.
        seconds_cached, seconds_uncached: (n_steps,) float64 of each step.
        flops_cached, flops_uncached: (n_steps,) float64, or None where the model could not be counted.
        same_output: whether both passes chose the same tokens.
        device, dtype: where and in what it ran.
        dtype_bytes: of one number.
        memory: on CUDA, after each cached step; else None.
        complete: False while some steps are still missing.
    """

    shape: KVShape
    n_source: int
    output: str
    lengths: np.ndarray
    logical: np.ndarray
    storage: np.ndarray
    formula: np.ndarray
    seconds_cached: np.ndarray
    seconds_uncached: np.ndarray
    flops_cached: np.ndarray | None
    flops_uncached: np.ndarray | None
    same_output: bool
    device: str
    dtype: str
    dtype_bytes: int
    memory: DeviceBytes | None
    complete: bool


class Growing:
    """A growth under way. `progress` and `so_far` may be read at any time from any thread."""

    def __init__(self) -> None:
        self.progress = Progress("queued")  # until the model is there
        self.so_far: Growth | None = None
        self.future: Future[Growth] | None = None  # set before this is handed out

    def report_progress(self, progress: Progress) -> None:
        """Called by the worker while the model is fetched and loaded."""
        self.progress = progress

    def report(self, growth: Growth) -> None:
        """Called by the worker after each step."""
        self.so_far = growth

    def wait(self, seconds: float) -> bool:
        """Whether it is done; waits for that at most so long."""
        return bool(futures.wait([self.future], seconds).done)

    def result(self) -> Growth:
        """The whole growth; waits for it. Raises EngineError as the run ended."""
        return self.future.result()


def count_tokens(live: Live, text: str) -> int:
    """Tokens of `text` to the model's tokenizer, without those that frame a text.

    Lines are counted one by one, so that a whole book takes seconds: a line
    break may be joined to what follows it by few tokenizers.

    Raises:
        TextTooLong: more than BOOK_CHARACTERS.
    """
    if len(text) > BOOK_CHARACTERS:
        raise errors.TextTooLong(
            f"at most {BOOK_CHARACTERS:,} characters of text", got=f"{len(text):,}",
            next_step="Shorten it, or show a part.", code="too_many_characters", limit=BOOK_CHARACTERS,
            length=len(text), what="text",
        )
    backend = backend_of(live.tokenizer).as_text
    lines = text.splitlines(keepends=True)
    with refusing():
        return sum(len(encoding.ids) for encoding in backend.encode_batch(lines, add_special_tokens=False))


def grow(live: Live, text: str, *, n_steps: int, limits: Limits,
         report: Callable[[Growth], None] = lambda growth: None) -> Growth:
    """Write `n_steps` tokens after `text`, greedily, with a cache and then without.

    Args:
        live: the loaded model.
        text: the prompt, or the source of an encoder–decoder.
        n_steps: steps, the prompt's included.
        report: told what is known after each step.

    Raises:
        InvalidPrompt: empty or overlong text, or no room for so many steps (code "bad_amount").
        ModelRefused: a model without a cache of keys and values.
        OverBudget: predicted not to fit.
    """
    shape = shape_of(live.model.config)
    source = run.encode(live, Prompt(live.name, text), limits=limits).source
    writer = _writer(live, source)
    room = budget.n_ctx(live.model.config) or limits.tokens
    most = min(MOST_STEPS, room - len(writer.prompt) + 1)
    if not 2 <= n_steps <= most:
        raise errors.InvalidPrompt(
            f"2 to {most} steps within the model's context", got=f"{n_steps}", next_step="Change that number.",
            code="bad_amount", what="n_steps", value=n_steps, least=2, most=most,
        )
    _check_budget(live, len(source), length=len(writer.prompt) + n_steps, n_steps=n_steps, limits=limits)
    # Once unmeasured: a first pass pays for what later ones find ready.
    _forward(live, list(writer.prompt), writer.extra | _encoded(live, writer) | {"use_cache": False})
    growth = _empty(live, shape, writer.n_source)
    growth, written = _cached(live, writer, growth, n_steps=n_steps, report=report)
    growth = _uncached(live, writer, growth, written=written, report=report)
    cached, uncached = kv_flops.per_step(live.model.config, growth.lengths, n_source=writer.n_source,
                                         extra=writer.extra)
    growth = replace(growth, flops_cached=cached, flops_uncached=uncached, complete=True)
    report(growth)
    return growth


@dataclass(frozen=True)
class _Writer:
    """How a model is asked for its next token.

    Attributes:
        prompt: ids that the decoder reads first.
        n_source: tokens of the source, else 0.
        source: (1, n_source) ids, or None.
        forbidden: ids that may not be written: the end, padding, the model's own bad words.
        extra: arguments of every call, such as one row of logits alone.
    """

    prompt: tuple[int, ...]
    n_source: int
    source: torch.Tensor | None
    forbidden: list[int]
    extra: dict[str, Any]


def _writer(live: Live, source: tuple[int, ...]) -> _Writer:
    own = live.model.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    forbidden = {id_ for id_ in (*ends, own.pad_token_id) if id_ is not None}
    forbidden |= {entry[0] for entry in own.bad_words_ids or [] if len(entry) == 1}
    accepted = inspect.signature(live.model.forward).parameters
    if live.family != "encoder-decoder":
        extra = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        return _Writer(source, 0, None, sorted(forbidden), extra)
    start = own.decoder_start_token_id
    if start is None:
        start = live.model.config.decoder_start_token_id
    ids = torch.tensor([source], device=live.model.device)
    return _Writer((start,), len(source), ids, sorted(forbidden), {})


def _check_budget(live: Live, n_source: int, *, length: int, n_steps: int, limits: Limits) -> None:
    lengths = {"encoder": n_source, "decoder": length}
    needed = budget.run_bytes(
        live.model.config, lengths=lengths, shape=dict(zip(live.plan.streams, live.plan.shape, strict=True)),
        element_bytes=live.model.dtype.itemsize, logit_rows=length, beams=1, new_tokens=n_steps,
        device=live.device,
    )
    budget.check(needed, device=live.device, limits=limits)


def _empty(live: Live, shape: KVShape, n_source: int) -> Growth:
    per_layer = np.zeros((0, shape.n_layers), dtype=np.int64)
    none, times = np.zeros(0, dtype=np.int64), np.zeros(0)
    memory = DeviceBytes(none, none, none) if live.device.startswith("cuda") else None
    return Growth(
        shape=shape, n_source=n_source, output="", lengths=none, logical=per_layer, storage=per_layer,
        formula=per_layer, seconds_cached=times, seconds_uncached=times, flops_cached=None, flops_uncached=None,
        same_output=True, device=live.device, dtype=live.dtype, dtype_bytes=live.model.dtype.itemsize, memory=memory,
        complete=False,
    )


def _cached(live: Live, writer: _Writer, growth: Growth, *, n_steps: int,
            report: Callable[[Growth], None]) -> tuple[Growth, list[int]]:
    """One pass with a cache: bytes and seconds of each step, and the ids that were written."""
    cache = empty_cache(live.model)
    written: list[int] = []
    given, extra = list(writer.prompt), dict(writer.extra)
    for step in range(n_steps):
        started = _now(live)
        if step == 0:
            extra |= _encoded(live, writer)
        logits = _forward(live, given, extra | {"past_key_values": cache, "use_cache": True})
        token = _choose(logits, writer)
        seconds = _now(live) - started
        written.append(token)
        given = [token]
        held, length = cache_bytes_of(cache), len(writer.prompt) + step
        formula = layer_bytes(growth.shape, length, dtype_bytes=growth.dtype_bytes, window_slots="hf",
                              source_tokens=writer.n_source or None)
        growth = replace(
            growth, output=live.tokenizer.decode(written, skip_special_tokens=True),
            lengths=np.append(growth.lengths, length), logical=np.vstack([growth.logical, held.logical]),
            storage=np.vstack([growth.storage, held.storage]), formula=np.vstack([growth.formula, formula]),
            seconds_cached=np.append(growth.seconds_cached, seconds),
            memory=_device_bytes(live, growth.memory),
        )
        report(growth)
    return growth, written


def _uncached(live: Live, writer: _Writer, growth: Growth, *, written: list[int],
              report: Callable[[Growth], None]) -> Growth:
    """The same text again, every step reading all of it; the source of an encoder–decoder is read once all the same."""
    extra = dict(writer.extra)
    for step in range(len(written)):
        started = _now(live)
        if step == 0:
            extra |= _encoded(live, writer)
        logits = _forward(live, [*writer.prompt, *written[:step]], extra | {"use_cache": False})
        token = _choose(logits, writer)
        seconds = _now(live) - started
        growth = replace(growth, seconds_uncached=np.append(growth.seconds_uncached, seconds),
                         same_output=growth.same_output and token == written[step])
        report(growth)
    return growth


def _encoded(live: Live, writer: _Writer) -> dict[str, Any]:
    if writer.source is None:
        return {}
    with torch.inference_mode():
        return {"encoder_outputs": (live.model.get_encoder()(writer.source).last_hidden_state,)}


def _forward(live: Live, ids: list[int], arguments: dict[str, Any]) -> torch.Tensor:
    """Logits (d_vocab,) of the last position."""
    given = torch.tensor([ids], device=live.model.device)
    name = "decoder_input_ids" if live.family == "encoder-decoder" else "input_ids"
    with torch.inference_mode():
        return live.model(**{name: given}, **arguments).logits[0, -1]


def _choose(logits: torch.Tensor, writer: _Writer) -> int:
    logits = logits.float().clone()  # an inference tensor may not be written to
    logits[writer.forbidden] = -torch.inf
    return int(logits.argmax())


def _now(live: Live) -> float:
    if live.device.startswith("cuda"):
        torch.cuda.synchronize(live.device)
    return time.perf_counter()


def _device_bytes(live: Live, memory: DeviceBytes | None) -> DeviceBytes | None:
    if memory is None:
        return None
    free, total = torch.cuda.mem_get_info(live.device)
    return DeviceBytes(
        live=np.append(memory.live, torch.cuda.memory_allocated(live.device)),
        reserved=np.append(memory.reserved, torch.cuda.memory_reserved(live.device)),
        device=np.append(memory.device, total - free),
    )
