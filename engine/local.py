"""The engine that runs on this machine: models in a cache, one worker a model, traces by prompt.

A question about a prompt finds its trace in the cache or runs it: the job
waits in the model's queue, holds the model for one forward pass, and leaves
plain arrays. Questions about a kept trace never touch the model. Where a trace
was too long to keep, the layer asked for is captured again, alone.

It does not know pages or sessions: what it returns depends on the arguments
only, so any number of threads may ask at once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from engine import attention, budget, catalogue, errors, limits, loading, memory, pooled, run, source, text, tracing
from engine.attention import Call
from engine.capture import Captured, Checks, Key, Recorder, Reducer
from engine.checks import amount, of_type
from engine.evidence.asking import EvidenceMethods
from engine.model_cache import ModelCache
from engine.probe import probe
from engine.run import Live, Report
from engine.running import Running
from engine.slots import Slot
from engine.types import (
    Head,
    HeadSummary,
    ModelCard,
    Pictures,
    Pooled,
    Progress,
    Prompt,
    QueryKeyValue,
    Stream,
    Trace,
)

T = TypeVar("T")


class LocalEngine(EvidenceMethods):
    """Runs models on this machine and answers questions about their attention.

    Args:
        assets: directory of the embedded models.
        folder: the models folder; default `catalogue.models_folder()`.
        device: "cpu", "cuda" or "cuda:0"; default cuda when there is one, else cpu.
        bounds: what one request may ask for.

    Raises:
        InvalidPrompt: a device that torch does not have here (code "no_such_device").
    """

    def __init__(self, *, assets: Path = catalogue.EMBEDDED, folder: Path | None = None, device: str | None = None,
                 bounds: limits.Limits = limits.DEFAULT) -> None:
        self.device = memory.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.limits = bounds
        self._assets = Path(assets)
        self._folder = Path(folder) if folder is not None else catalogue.models_folder()
        self._models: ModelCache[Live] = ModelCache(bounds.model_cache_bytes)
        self._slots: dict[str, Slot] = {}
        self._captured: OrderedDict[Prompt, Captured] = OrderedDict()
        self._running: dict[Prompt, Running] = {}
        self._lock = threading.RLock()

    # --- models ------------------------------------------------------------------------------------------------------

    def models(self) -> tuple[ModelCard, ...]:
        """The embedded models and those of the models folder; hub ids may be asked for besides."""
        return catalogue.models(self._assets, self._folder)

    def broken_models(self) -> tuple[catalogue.Broken, ...]:
        """Folders that look like models and cannot be read, with the reason."""
        return catalogue.broken(self._assets, self._folder)

    def config(self, model: str) -> dict[str, Any]:
        """The parsed config.json of a model; of one on the hub nothing else is downloaded.

        Raises:
            EngineError: no such model, no such name, or no answer from the hub.
        """
        return source.config(source.resolve(model, assets=self._assets, folder=self._folder))

    # --- running -----------------------------------------------------------------------------------------------------

    def start(self, prompt: Prompt) -> Running:
        """Begin a trace, or join the one under way for the same prompt; returns at once.

        Raises:
            InvalidPrompt: what can be told without the model (no Prompt, name, empty or overlong text).
            Busy: the model's queue is full.
        """
        of_type(prompt, Prompt)
        text.prepare(prompt.text, limit=self.limits.text_characters, what="text")
        if prompt.target is not None:
            text.prepare(prompt.target, limit=self.limits.text_characters, what="target")
        source.resolve(prompt.model, assets=self._assets, folder=self._folder)
        with self._lock:
            if prompt in self._running:
                return self._running[prompt]
            running = Running()
            if prompt in self._captured:
                self._captured.move_to_end(prompt)
                running.progress = Progress("done")
                running.future = Future()
                running.future.set_result(self._captured[prompt])
                return running
            running.future = self._slot(prompt.model).submit(partial(self._run, prompt, running.report))
            self._running[prompt] = running
        running.future.add_done_callback(lambda _: self._forget(prompt))
        return running

    def trace(self, prompt: Prompt) -> Trace:
        """Run `prompt` (or find its run) and return its trace: tokens, output, provenance.

        Raises:
            EngineError: any of the tree in `engine.errors`.
        """
        return self.start(prompt).result()

    def submit(self, model: str, job: Callable[[Live], T], *, report: Report = lambda progress: None) -> Future[T]:
        """Queue `job`, which gets the loaded model to itself in its worker; returns at once. For the engine's labs.

        Raises:
            InvalidPrompt, ModelNotFound, ModelRefused: what can be told from the name.
            Busy: the model's queue is full.
        """
        source.resolve(model, assets=self._assets, folder=self._folder)
        with self._lock:  # an idle slot may be closed at any other time
            future = self._slot(model).submit(partial(self._with_model, model, report, job))
        future.add_done_callback(lambda _: self._close_idle())
        return future

    # --- one head ----------------------------------------------------------------------------------------------------

    def pattern(self, prompt: Prompt, head: Head) -> np.ndarray:
        """Attention weights of one head, (q_len, k_len) float32.

        Rows sum to 1, less the share of a learned sink (GPT-OSS); a row that
        sees no key is all zeros.

        Raises:
            InvalidPrompt: no such stream, layer or head.
        """
        call = self._call(prompt, head)
        return self._within_memory(lambda: _array(attention.pattern(call, heads=slice(head.head, head.head + 1))[0]))

    def scores(self, prompt: Prompt, head: Head) -> np.ndarray:
        """Scaled and masked scores before softmax, (q_len, k_len) float32; masked = −inf."""
        call = self._call(prompt, head)
        return self._within_memory(lambda: _array(attention.scores(call, heads=slice(head.head, head.head + 1))[0]))

    def visible(self, prompt: Prompt, head: Head) -> np.ndarray:
        """Which keys each query may see, (q_len, k_len) bool."""
        seen = attention.visible(self._call(prompt, head))
        return _array(seen[head.head if seen.shape[0] > 1 else 0].contiguous())

    def query_key_value(self, prompt: Prompt, head: Head) -> QueryKeyValue:
        """Queries, keys, values and scaling that one head computed with, float32."""
        call = self._call(prompt, head)
        kv_head = call.kv_head(head.head)
        return QueryKeyValue(
            q=_array(call.query[head.head].float()), k=_array(call.key[kv_head].float()),
            v=_array(call.value[kv_head].float()), scaling=call.scaling,
        )

    def pooled(self, prompt: Prompt, head: Head, *, size: int = 512, rows: tuple[int, int] | None = None,
               columns: tuple[int, int] | None = None) -> Pooled:
        """One head's pattern reduced to at most (size, size) blocks, never through an n×n array.

        Args:
            rows, columns: a region [start, end) of query and key positions; default everything.

        Raises:
            InvalidPrompt: a size below 1, an empty region, or one outside of the pattern.
        """
        amount(size, what="size", least=1)
        call = self._call(prompt, head)
        q0, q1 = pooled.region(rows, call.q_len, what="rows")
        k0, k1 = pooled.region(columns, call.k_len, what="columns")
        pooler, seen = (pooled.Pooler(1, q1 - q0, k1 - k0, size=size) for _ in range(2))
        step = max(1, attention.TILE_BYTES // (4 * call.k_len))
        for start in range(q0, q1, step):
            at = slice(start, min(start + step, q1))
            tile = attention.pattern(call, heads=slice(head.head, head.head + 1), rows=at)
            pooler.add(tile[:, :, k0:k1], start - q0)
            visible = attention.visible(call, rows=at)
            seen.add(visible[head.head if len(visible) > 1 else 0][None, :, k0:k1], start - q0)
        mean, largest = pooler.result()
        return Pooled(mean=mean[0], max=largest[0], visible=seen.result()[1][0] > 0, q_edges=pooler.q_edges + q0,
                      k_edges=pooler.k_edges + k0)

    # --- all heads ---------------------------------------------------------------------------------------------------

    def summaries(self, prompt: Prompt, stream: Stream) -> HeadSummary:
        """Statistics and labels of every head of `stream`, arrays (n_layers, n_heads)."""
        return self._reduced(prompt, stream).summaries[stream]

    def pictures(self, prompt: Prompt, stream: Stream) -> Pictures:
        """Small pictures of every head of `stream`; exact while no axis is longer than `limits.thumbnail`."""
        return self._reduced(prompt, stream).pictures[stream]

    def patterns(self, prompt: Prompt, stream: Stream) -> np.ndarray:
        """Every head's pattern, (n_layers, n_heads, q_len, k_len) float32, for short runs.

        Raises:
            InvalidPrompt: an axis is longer than `limits.exact_grid`; ask for `pictures` instead.
        """
        trace = self.trace(prompt)
        n_layers, _ = trace.layers_heads(stream)
        axes = trace.tokens(stream)
        longest = max(len(axes.query), len(axes.key))
        if longest > self.limits.exact_grid:
            raise errors.InvalidPrompt(
                f"at most {self.limits.exact_grid} tokens for all maps at once", got=f"{longest}",
                next_step="Ask for pictures, which are pooled.", code="too_long_for_grid",
                limit=self.limits.exact_grid, length=longest,
            )
        layers = [attention.pattern(self._call(prompt, Head(stream, layer, 0))) for layer in range(n_layers)]
        return _array(torch.stack(layers))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _slot(self, model: str) -> Slot:
        with self._lock:
            if model not in self._slots:
                self._slots[model] = Slot(model, queue_length=self.limits.queue_length)
            return self._slots[model]

    def _forget(self, prompt: Prompt) -> None:
        with self._lock:
            self._running.pop(prompt, None)
        self._close_idle()

    def _close_idle(self) -> None:
        """End the idle workers whose model is gone: each is a thread, and names are free to make up."""
        with self._lock:
            loaded = {entry.name for entry in self._models.entries()}
            for name in [name for name, slot in self._slots.items() if slot.idle and name not in loaded]:
                self._slots.pop(name).close()

    def _find(self, prompt: Prompt) -> Captured:
        """The captured run of `prompt`, which is run if need be."""
        return self.start(prompt).future.result()

    def _call(self, prompt: Prompt, head: Head) -> Call:
        of_type(head, Head)
        captured = self._find(prompt)
        n_layers, n_heads = captured.trace.layers_heads(head.stream)
        if not (0 <= head.layer < n_layers and 0 <= head.head < n_heads):
            raise errors.InvalidPrompt(
                f"a layer in 0…{n_layers - 1} and a head in 0…{n_heads - 1} of stream {head.stream}",
                got=f"layer {head.layer}, head {head.head}", next_step="Choose one of the model's heads.",
                code="no_such_head", n_layers=n_layers, n_heads=n_heads, layer=head.layer, head=head.head,
            )
        key = (head.stream, head.layer)
        with captured.lock:
            if key in captured.calls:
                captured.calls.move_to_end(key)
                return captured.calls[key]
        return self._again(prompt.model, partial(self._capture_layer, captured, key))

    def _reduced(self, prompt: Prompt, stream: Stream) -> Captured:
        captured = self._find(prompt)
        captured.trace.tokens(stream)  # raises for a stream that the model lacks
        with captured.lock:
            if stream in captured.summaries:
                return captured
            if captured.complete:
                reducer = Reducer(captured.trace, size=self.limits.thumbnail)
                for key in sorted(key for key in captured.calls if key[0] == stream):  # kept in order of use
                    reducer.add(key, captured.calls[key])
                captured.summaries[stream], captured.pictures[stream] = reducer.result(stream)
                return captured
        return self._again(prompt.model, partial(self._reduce_all, captured))

    def _again(self, model: str, job: Callable[[Live], T]) -> T:
        return self.submit(model, job).result()

    def _with_model(self, model: str, report: Report, job: Callable[[Live], T]) -> T:
        """Hold the model for `job`; whatever the device could not hold is freed before the error leaves."""
        def held() -> T:
            with self._models.lease(model, partial(self._load, model, report)) as live:
                return job(live)

        return self._within_memory(held)

    def _within_memory(self, job: Callable[[], T]) -> T:
        return budget.within_memory(job, device=self.device)

    def _load(self, name: str, report: Report) -> Live:
        found = source.resolve(name, assets=self._assets, folder=self._folder)
        path = source.fetch(found, on_progress=report)
        report(Progress("loading"))
        loaded = loading.load(path, device=self.device, on_progress=report, headroom=self.limits.memory_headroom)
        run.settle(loaded.model)
        report(Progress("probing"))
        plan = probe(
            loaded.model, family=loaded.family, vocab=min(len(loaded.tokenizer), loaded.config.vocab_size),
            special_ids=frozenset(loaded.tokenizer.all_special_ids), limits=self.limits,
        )
        return Live(
            name=name, model=loaded.model, tokenizer=loaded.tokenizer, family=loaded.family, plan=plan,
            revision=loaded.revision, device=loaded.device, dtype=loaded.dtype, bytes=loaded.bytes,
            fallback_ids=loaded.fallback_ids,
        )

    def _run(self, prompt: Prompt, report: Report) -> Captured:
        captured = self._with_model(prompt.model, report, partial(self._trace, prompt, report))
        with self._lock:
            self._captured[prompt] = captured
            held = sum(c.bytes for c in self._captured.values())
            while held > self.limits.trace_cache_bytes and len(self._captured) > 1:
                _, dropped = self._captured.popitem(last=False)
                held -= dropped.bytes
        report(Progress("done"))
        return captured

    def _trace(self, prompt: Prompt, report: Report, live: Live) -> Captured:
        encoded = run.encode(live, prompt, limits=self.limits)
        complete = run.check_budget(live, encoded, limits=self.limits)
        report(Progress("writing"))
        written = run.write(live, encoded, report=report, limits=self.limits)
        report(Progress("capturing", output=written.output))
        arguments = run.inputs(live, encoded, written)
        calls: OrderedDict[Key, Call] = OrderedDict()
        checks = Checks()

        def handle(key: Key, call: Call, output: torch.Tensor) -> None:
            checks.add(key, call, output)
            if complete:
                calls[key] = attention.compact(call)

        started = time.perf_counter()
        logits = _pass(live, arguments, handle)
        seconds = time.perf_counter() - started
        trace = tracing.build(prompt, live, encoded, written, logits, checks=checks, seconds=seconds)
        return Captured(trace=trace, arguments=arguments, calls=calls, complete=complete)

    def _capture_layer(self, captured: Captured, wanted: Key, live: Live) -> Call:
        kept = {}
        _pass(live, captured.arguments, lambda key, call, output: kept.update({key: call} if key == wanted else {}))
        call = kept[wanted]
        with captured.lock:
            captured.calls[wanted] = call = attention.compact(call)
            while captured.bytes > self.limits.capture_bytes and len(captured.calls) > 1:
                captured.calls.popitem(last=False)
        return call

    def _reduce_all(self, captured: Captured, live: Live) -> Captured:
        with captured.lock:
            if captured.summaries:  # another request was quicker
                return captured
        reducer = Reducer(captured.trace, size=self.limits.thumbnail)
        _pass(live, captured.arguments, lambda key, call, output: reducer.add(key, call))
        with captured.lock:
            for stream in captured.trace.streams:
                captured.summaries[stream], captured.pictures[stream] = reducer.result(stream)
        return captured


def _pass(live: Live, arguments: dict[str, torch.Tensor],
          handle: Callable[[Key, Call, torch.Tensor], None]) -> torch.Tensor:
    recorder = Recorder(live.plan, handle)
    with torch.inference_mode(), attention.session(recorder):
        logits = run.forward(live, arguments)
    recorder.check()
    return logits


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A read-only numpy copy (float32, or bool)."""
    array = tensor.cpu().numpy()
    if not array.flags.owndata:
        array = array.copy()
    array.setflags(write=False)
    return array
