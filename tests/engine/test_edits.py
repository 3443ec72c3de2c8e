"""Cuts and patches against transformers' eager attention with the same masks.

The oracle loads each checkpoint anew, with eager attention, and adds the cuts
to the 4-D masks of its calls, one sentence at a time; the engine runs all of
them as one batch through SDPA.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from engine import edits
from engine.edits import Cut, Item, Patch, Read
from tests.engine import oracle, tiny

TEXT = "我喜欢吃苹果, the apple."
#: Log-probabilities agree to this, and to float32's rounding over the layers as a share of their size, which reaches 30
#: in these models: eager in float32 is up to 4e-5 off eager in float64 (ModernBERT, one kind of processor).
TOLERANCE, ROUNDING = 1e-5, 1e-5
ENCODERS = {"encoder-decoder": "encoder", "encoder-only": "encoder", "decoder-only": "decoder"}


@dataclass(frozen=True)
class Eager:
    """A checkpoint under eager attention, whose masks can be added to."""

    of: oracle.Oracle

    def logprobs(self, item: Item, order) -> np.ndarray:
        """(rows of the first read,) log-probabilities of the first read, with the item's cuts."""
        module = sys.modules[type(self.of.model).__module__]
        original, count = module.eager_attention_forward, iter(order)

        def with_cuts(attention, query, key, value, attention_mask, *args, **kwargs):
            stream, layer = next(count)
            mask = torch.zeros(1, query.shape[1], query.shape[2], key.shape[2])
            if attention_mask is not None:
                mask = mask + attention_mask[..., :key.shape[2]]
            for cut in item.edits:
                if cut.stream == stream and cut.layer in (None, layer):
                    heads = slice(None) if cut.head is None else slice(cut.head, cut.head + 1)
                    for row in cut.rows:
                        mask[:, heads, row, list(cut.columns)] = torch.finfo(torch.float32).min
            return original(attention, query, key, value, mask, *args, **kwargs)

        module.eager_attention_forward = with_cuts
        try:
            ids = torch.tensor([item.source])
            extra = {"decoder_input_ids": torch.tensor([item.consumed])} if item.consumed else {}
            if self.of.family != "encoder-only":
                extra["use_cache"] = False
            with torch.no_grad():
                logits = self.of.model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0]
        finally:
            module.eager_attention_forward = original
        assert next(count, None) is None
        read = item.reads[0]
        return logits[list(read.rows)].double().log_softmax(-1)[range(len(read.rows)), list(read.ids)].numpy()


def items(of: oracle.Oracle, text: str = TEXT) -> list[Item]:
    """One sentence with no edit and with cuts of every kind."""
    source = tuple(of.ids(text)[0].tolist())
    stream = ENCODERS[of.family]
    n = len(source)
    consumed = (tiny.BOS, *source[2:8]) if of.family == "encoder-decoder" else ()
    rows = tuple(range(len(consumed) or n))
    reads = (Read(rows, tuple((7 * row + 11) % tiny.D_VOCAB for row in rows)),)
    others = tuple(at for at in range(n) if at not in (2, 3))
    kinds = [
        (), (Cut(stream, (6,), (2,)),), (Cut(stream, (6, 7), (2, 3), layer=1),),
        (Cut(stream, (5,), (1, 4), layer=0, head=2),), (Cut(stream, (n - 1,), tuple(range(1, n - 1)), head=1),),
        (Cut(stream, others, (2, 3)),), (Cut(stream, (6,), (2,), layer=0), Cut(stream, (7,), (3,), layer=1, head=0)),
    ]
    if of.family == "encoder-decoder":
        kinds += [(Cut("cross", (3, 4), (2,)),), (Cut("cross", (3,), (0, 1, 2), layer=1, head=3),),
                  (Cut("decoder", (4,), (1, 2)),), (Cut("encoder", others, (2, 3)), Cut("cross", rows, (2, 3)))]
    return [Item(source, consumed, edits_, reads) for edits_ in kinds]


@pytest.mark.parametrize("name", oracle.SHOWN)
def test_a_batch_of_cuts_equals_eager_with_the_same_masks(engine, folder, name):
    of = oracle.Oracle(folder / name)
    batch = items(of)

    def job(live):
        return edits.run(live, batch, limits=engine.limits), live.plan.order

    outcomes, order = engine.submit(name, job).result()
    eager = Eager(of)
    moved = 0.0
    for item, outcome in zip(batch, outcomes, strict=True):
        expected = eager.logprobs(item, order)
        np.testing.assert_allclose(outcome.logprobs[0], expected, atol=TOLERANCE, rtol=ROUNDING)
        moved = max(moved, np.abs(outcome.logprobs[0] - outcomes[0].logprobs[0]).max())
    assert moved > 0.01  # the cuts did something


@pytest.mark.parametrize("name", oracle.SHOWN)
def test_a_cut_of_nothing_changes_nothing(engine, folder, name):
    of = oracle.Oracle(folder / name)
    plain, cut = items(of)[:2]
    nothing = Item(plain.source, plain.consumed, (Cut(ENCODERS[of.family], (), (2,)),), plain.reads)

    def job(live):
        with torch.inference_mode():
            extra = {"decoder_input_ids": torch.tensor([plain.consumed])} if plain.consumed else {}
            logits = live.model(input_ids=torch.tensor([plain.source]), **extra).logits[0]
        alone = edits.run(live, [nothing], limits=engine.limits)[0]
        together = edits.run(live, [cut, nothing, cut], limits=engine.limits)[1]
        return logits.double().log_softmax(-1).numpy(), alone.logprobs[0], together.logprobs[0]

    logprobs, alone, together = engine.submit(name, job).result()
    read = plain.reads[0]
    expected = logprobs[list(read.rows), list(read.ids)]
    np.testing.assert_allclose(alone, expected, atol=1e-12, rtol=0)  # the same logits, to the last bit of float32
    scale = max(1.0, np.abs(expected).max())  # float32 has 1.2e-7 of its size
    assert np.abs(together - expected).max() <= 5e-7 * scale


@pytest.mark.parametrize("name", ["llama", "bert", "bart", "t5", "gemma2", "gpt_oss"])
def test_a_row_left_with_nothing_stays_finite_and_brings_nothing(engine, folder, name):
    of = oracle.Oracle(folder / name)
    plain = items(of)[0]
    stream, row = ENCODERS[of.family], 4
    blind = Item(plain.source, plain.consumed, (Cut(stream, (row,), tuple(range(len(plain.source)))),), plain.reads)
    outputs = []

    def job(live):
        return edits.run(live, [plain, blind], limits=engine.limits,
                         observe=lambda index, key, call, output: outputs.append((index, key[0], output[row]))
                         if key[0] == stream else None)

    outcomes = engine.submit(name, job).result()
    assert all(np.isfinite(outcome.logprobs[0]).all() for outcome in outcomes)
    assert all(float(output.abs().max()) == 0 for index, _, output in outputs if index == 1)
    assert all(float(output.abs().max()) > 0 for index, _, output in outputs if index == 0)


@pytest.mark.parametrize("name", ["bert", "modernbert", "llama", "gpt2", "gemma2"])
def test_a_patched_row_becomes_the_other_sentences(engine, folder, name):
    """Attention is all that mixes rows: patched in every layer, a row's logits are those of the other sentence."""
    of = oracle.Oracle(folder / name)
    plain = items(of)[0]
    stream, row = ENCODERS[of.family], 6
    other = Item((*plain.source[:2], tiny.VOCABULARY["买"], *plain.source[3:]), (), (), plain.reads)
    assert other.source[2] != plain.source[2] and other.source[row] == plain.source[row]

    def job(live):
        brought = []
        there = edits.run(live, [other], limits=engine.limits,
                          observe=lambda index, key, call, output: brought.append(output[[row]].clone()))
        patched = Item(plain.source, (), (Patch(stream, (row,), tuple(brought)),), plain.reads)
        return edits.run(live, [plain, patched], limits=engine.limits), there[0]

    (before, patched), there = engine.submit(name, job).result()
    assert abs(before.logprobs[0][row] - there.logprobs[0][row]) > 1e-3
    assert patched.logprobs[0][row] == pytest.approx(there.logprobs[0][row], abs=TOLERANCE)
    if stream == "decoder":  # rows before it never saw it
        np.testing.assert_allclose(patched.logprobs[0][:row], before.logprobs[0][:row], atol=TOLERANCE, rtol=ROUNDING)


def test_batches_keep_within_their_bytes_and_their_order(engine, folder, monkeypatch):
    of = oracle.Oracle(folder / "bart")
    long, short = items(of), items(of, "我吃苹果 and the apple")
    mixed = [item for pair in zip(long, short, strict=True) for item in pair]
    done = []
    together = engine.submit("bart", lambda live: edits.run(live, mixed, limits=engine.limits)).result()
    monkeypatch.setattr(edits, "BATCH_BYTES", 1)
    alone = engine.submit("bart", lambda live: edits.run(live, mixed, limits=engine.limits,
                                                         on_done=done.append)).result()
    assert done == list(range(1, len(mixed) + 1))
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.logprobs[0], b.logprobs[0], atol=TOLERANCE, rtol=ROUNDING)


def test_edits_end_with_their_run(engine, folder):
    of = oracle.Oracle(folder / "gpt2")
    plain, cut = items(of)[:2]

    def job(live):
        before = edits.run(live, [plain], limits=engine.limits)[0]
        with pytest.raises(RuntimeError):
            edits.run(live, [cut], limits=engine.limits, observe=_raise)
        return before, edits.run(live, [plain], limits=engine.limits)[0]

    before, after = engine.submit("gpt2", job).result()
    np.testing.assert_array_equal(before.logprobs[0], after.logprobs[0])


def _raise(*_):
    raise RuntimeError("seen")
