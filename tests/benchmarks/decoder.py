"""A random decoder of GPT-2's shape (12 layers × 12 heads × d_model 768), and the passes that are compared on it.

The vocabulary is small, so that the logits don't hide what attention costs.
Run as a program, `python -m tests.benchmarks.decoder <pass> <n>` makes one
pass in a process of its own and prints its peak memory as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from engine import attention, limits, run
from engine.capture import Checks, Recorder, Reducer
from engine.probe import probe
from engine.run import Live
from engine.types import Prompt, Provenance, StreamTokens, Token, Trace
from tests.benchmarks.measure import peak_bytes

N_LAYERS = N_HEADS = 12
D_VOCAB = 2_000
N_CTX = 4_096
STREAM = "decoder"


def build() -> Live:
    """The model as the engine holds it after the probe; without a tokenizer, which nothing here needs."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=D_VOCAB, n_positions=N_CTX, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    plan = probe(model, family="decoder-only", vocab=D_VOCAB, special_ids=frozenset(), limits=limits.DEFAULT)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    return Live(name="random", model=model, tokenizer=None, family="decoder-only", plan=plan, revision="", device="cpu",
                dtype="float32", bytes=held)


def arguments(n: int) -> dict[str, torch.Tensor]:
    """Arguments of a forward pass over `n` random tokens, as `engine.run.inputs` makes them."""
    ids = torch.randint(D_VOCAB, (1, n), generator=torch.Generator().manual_seed(n))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def trace(live: Live, n: int) -> Trace:
    """What the reducer needs of a trace: tokens and shapes."""
    tokens = tuple(Token(f"t{i}", i, None, False) for i in range(n))
    return Trace(
        prompt=Prompt("random", "t"), family=live.family, streams=live.plan.streams,
        axes=(StreamTokens(tokens, tokens, tokens, (), ()),), source_text="", output="", output_is_given=False,
        output_complete=True, shape=live.plan.shape, notes=(),
        provenance=Provenance("random", "", "cpu", "float32", "", (), 0.0, 0.0, 0.0, 0.0, ()),
    )


def plain(live: Live, n: int) -> Callable[[], object]:
    """A forward pass with transformers' own SDPA, unobserved."""
    given = arguments(n)
    return lambda: _forward(live, given, "sdpa")


def captured(live: Live, n: int, *, keep: int | None = None) -> Callable[[], object]:
    """The engine's captured pass, with its checks; it keeps the calls if all of them fit `limits.capture_bytes`.

    Args:
        keep: keep this layer's call besides, and return head 0's pattern from it, (n, n) float32.
    """
    given = arguments(n)
    complete = 3 * 4 * n * live.model.config.n_embd * N_LAYERS <= limits.DEFAULT.capture_bytes

    def job():
        checks, kept = Checks(), {}

        def handle(key, call, output) -> None:
            checks.add(key, call, output)
            if complete or key == (STREAM, keep):
                kept[key] = call

        _observe(live, given, handle)
        return kept if keep is None else attention.pattern(kept[STREAM, keep], heads=slice(0, 1))

    return job


def reduced(live: Live, n: int) -> Callable[[], object]:
    """The engine's reducing pass: summaries and pictures of every head, nothing kept."""
    given, shapes = arguments(n), trace(live, n)

    def job():
        reducer = Reducer(shapes, size=limits.DEFAULT.thumbnail)
        _observe(live, given, lambda key, call, output: reducer.add(key, call))
        return reducer.result(STREAM)

    return job


def eager(live: Live, n: int) -> Callable[[], object]:
    """transformers' own way to the maps: eager attention that returns every layer's, (1, n_heads, n, n) each."""
    given = arguments(n)
    return lambda: _forward(live, given, "eager", output_attentions=True).attentions


PASSES = {"plain": plain, "captured": captured, "reduced": reduced, "eager": eager,
          "one map": lambda live, n: captured(live, n, keep=0)}


def _forward(live: Live, given: dict, backend: str, **extra):
    live.model.set_attn_implementation(backend)
    with torch.inference_mode():
        return live.model(**given, use_cache=False, logits_to_keep=1, **extra)


def _observe(live: Live, given: dict, handle) -> None:
    live.model.set_attn_implementation(attention.NAME)
    recorder = Recorder(live.plan, handle)
    with torch.inference_mode(), attention.session(recorder):
        run.forward(live, given)
    recorder.check()


def main(name: str, n: str) -> None:
    """One pass; prints the bytes resident at most: before the model was built, and in the end."""
    before = peak_bytes()
    live = build()
    PASSES[name](live, int(n))()
    print(json.dumps({"before": before, "peak": peak_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
