"""Every number of a walk equals the model's own: hooks on the named modules of a second, eager copy are the judge.

The walk finds modules without names; here they are named, by architecture, and
the rest of each layer is run by hand from the walk's last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from engine import Head, LocalEngine, Prompt, errors, walk_modules
from engine.limits import Limits
from engine.walk import walk
from engine.walk_types import STEPS
from tests.engine import oracle

EXACT = 1e-5
ZH, EN = "我喜欢吃苹果", "the cat sat on it"


def asked(model: str) -> Prompt:
    return Prompt(model, ZH if model == "zh-en" else EN)


@dataclass
class Layer:
    """The real modules of one attention layer: the three projections, the output's, and the rest of the block.

    `rest` takes what `Walk.total` claims to be, and gives what the block gives next.
    """

    query: torch.nn.Module
    key: torch.nn.Module
    value: torch.nn.Module
    output: torch.nn.Module
    block: torch.nn.Module
    rest: Callable[[torch.Tensor], torch.Tensor]
    fused: bool = False


def marian(model, stream: str, layer: int) -> Layer:
    block = (model.model.encoder if stream == "encoder" else model.model.decoder).layers[layer]
    attn = block.encoder_attn if stream == "cross" else block.self_attn
    norm = block.encoder_attn_layer_norm if stream == "cross" else block.self_attn_layer_norm

    def rest(total: torch.Tensor) -> torch.Tensor:
        after = norm(total)
        if stream == "decoder":  # cross-attention comes next, and reads this
            return after
        return block.final_layer_norm(after + block.fc2(block.activation_fn(block.fc1(after))))

    return Layer(attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj,
                 block.encoder_attn.q_proj if stream == "decoder" else block, rest)


def gpt2(model, stream: str, layer: int) -> Layer:
    block = model.transformer.h[layer]
    attn = block.attn
    return Layer(attn.c_attn, attn.c_attn, attn.c_attn, attn.c_proj, block,
                 lambda total: total + block.mlp(block.ln_2(total)), fused=True)


def llama(model, stream: str, layer: int) -> Layer:
    block = model.model.layers[layer]
    attn = block.self_attn
    return Layer(attn.q_proj, attn.k_proj, attn.v_proj, attn.o_proj, block,
                 lambda total: total + block.mlp(block.post_attention_layernorm(total)))


def bert(model, stream: str, layer: int) -> Layer:
    block = model.bert.encoder.layer[layer]
    attn = block.attention.self

    def rest(total: torch.Tensor) -> torch.Tensor:
        after = block.attention.output.LayerNorm(total)
        return block.output(block.intermediate(after), after)

    return Layer(attn.query, attn.key, attn.value, block.attention.output.dense, block, rest)


LAYERS = {"zh-en": marian, "gpt2": gpt2, "llama": llama, "bert": bert}
CASES = [("zh-en", "encoder"), ("zh-en", "decoder"), ("zh-en", "cross"), ("gpt2", "decoder"), ("llama", "decoder"),
         ("bert", "encoder")]


class Judge:
    """An eager copy of a model, run once with every module of interest hooked."""

    def __init__(self, folder, engine: LocalEngine, name: str) -> None:
        self.copy = oracle.Oracle(oracle.ASSETS / name if name == "zh-en" else folder / name)
        self.seen: dict[torch.nn.Module, tuple[tuple, object]] = {}
        for module in self.copy.model.modules():
            module.register_forward_hook(self._keep)
        arguments = engine.start(asked(name)).future.result().arguments
        with torch.no_grad():
            self.out = self.copy.model(**arguments, output_attentions=True)

    def _keep(self, module, args, output) -> None:
        self.seen[module] = (args, output)

    def given(self, module) -> np.ndarray:
        return self.seen[module][0][0][0].numpy()

    def made(self, module) -> np.ndarray:
        output = self.seen[module][1]
        output = output[0] if isinstance(output, tuple) else output
        return (output[0] if output.ndim == 3 else output).numpy()

    def maps(self, stream: str):
        names = {"encoder": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
        return getattr(self.out, names[stream]) if self.copy.family == "encoder-decoder" else self.out.attentions


@pytest.fixture(scope="module")
def judges(folder, engine):
    return {name: Judge(folder, engine, name) for name in LAYERS}


@pytest.mark.parametrize(("name", "stream"), CASES)
def test_every_step_is_the_models_own(engine, judges, name, stream):
    prompt, judge = asked(name), judges[name]
    for layer in range(engine.trace(prompt).layers_heads(stream)[0]):
        real = LAYERS[name](judge.copy.model, stream, layer)
        for index in range(engine.trace(prompt).layers_heads(stream)[1]):
            found = walk(engine, prompt, Head(stream, layer, index))
            d, kv = found.query.after.shape[1], index // (found.n_heads // found.n_kv_heads)
            for at, (module, part, head) in enumerate([
                    (real.query, found.query, index), (real.key, found.key, kv), (real.value, found.value, kv)]):
                np.testing.assert_allclose(part.input, judge.given(module), atol=EXACT)
                whole = judge.made(module)
                if real.fused:
                    whole = np.split(whole, 3, axis=1)[at]
                np.testing.assert_allclose(part.projected, whole[:, head * d:(head + 1) * d], atol=EXACT)
            np.testing.assert_allclose(found.input, judge.given(real.query), atol=EXACT)
            np.testing.assert_allclose(
                found.weights, judge.maps(stream)[layer][0, index].numpy(), atol=EXACT)
            mixed = judge.given(real.output)
            np.testing.assert_allclose(found.mixed, mixed[:, index * d:(index + 1) * d], atol=EXACT)
            np.testing.assert_allclose(found.heads.transpose(1, 0, 2).reshape(mixed.shape), mixed, atol=EXACT)
            np.testing.assert_allclose(found.output, judge.made(real.output), atol=EXACT)
            np.testing.assert_array_equal(found.output_bias, real.output.bias.detach().numpy()
                                          if real.output.bias is not None else np.zeros(found.d_model))
            np.testing.assert_allclose(found.total, found.residual + found.output, atol=EXACT)
        # From the last head's seventh step on, the layer's own modules; all heads agree on it above.
        with torch.no_grad():
            composed = real.rest(torch.tensor(found.total)[None])[0].numpy()
        judged = judge.given(real.block) if stream == "decoder" and name == "zh-en" else judge.made(real.block)
        np.testing.assert_allclose(composed, judged, atol=EXACT)


def test_scores_are_products_scaled_and_masked(engine):
    for name, stream in CASES:
        found = walk(engine, asked(name), Head(stream, 1, 1))
        q, k = found.query.after.astype(np.float64), found.key.after.astype(np.float64)
        products = np.array([[float(np.dot(a, b)) for b in k] for a in q])
        np.testing.assert_allclose(found.products, products, atol=EXACT)
        np.testing.assert_allclose(found.scaled, products / np.sqrt(q.shape[1]), atol=EXACT)
        hidden = np.triu(np.ones_like(found.terms.visible), 1) & (stream == "decoder")
        np.testing.assert_array_equal(found.terms.visible, ~hidden)
        assert np.isneginf(found.scores[hidden]).all() and np.isfinite(found.scores[~hidden]).all()


def test_rope_turns_what_the_projections_gave(engine, judges):
    judge = judges["llama"]
    for index in range(4):
        found = walk(engine, asked("llama"), Head("decoder", 1, index))
        cos, sin = judge.seen[judge.copy.model.model.rotary_emb][1]
        q, k = (torch.tensor(part.before)[None, None] for part in (found.query, found.key))
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        np.testing.assert_allclose(found.query.after, q[0, 0].numpy(), atol=EXACT)
        np.testing.assert_allclose(found.key.after, k[0, 0].numpy(), atol=EXACT)
        assert found.query.rotated and found.key.rotated and not found.value.rotated
        np.testing.assert_allclose(np.linalg.norm(found.query.before, axis=1),
                                   np.linalg.norm(found.query.after, axis=1), rtol=1e-5)
        assert np.abs(found.query.before[1:] - found.query.after[1:]).max() > 0.1
        assert found.sharing == ((0, 1) if index < 2 else (2, 3))


def test_the_entrance_is_token_plus_position(engine, judges):
    model = judges["zh-en"].copy.model.model
    found = walk(engine, asked("zh-en"), Head("encoder", 0, 0))
    parts = {part.kind: part for part in found.parts}
    ids = engine.start(asked("zh-en")).future.result().arguments["input_ids"][0]
    np.testing.assert_array_equal(parts["token"].vectors, model.encoder.embed_tokens.weight[ids].detach().numpy())
    np.testing.assert_allclose(parts["position"].vectors, model.encoder.embed_positions.weight[:len(ids)].detach(),
                               atol=1e-7)
    assert parts["token"].scale == pytest.approx(16.0, abs=1e-4)  # √256
    np.testing.assert_allclose(16 * parts["token"].vectors + parts["position"].vectors, found.residual, atol=EXACT)
    assert [part.kind for part in walk(engine, asked("bert"), Head("encoder", 0, 0)).parts] == [
        "token", "type", "position"]
    assert [part.kind for part in walk(engine, asked("llama"), Head("decoder", 0, 0)).parts] == ["token"]


@pytest.mark.parametrize("name", oracle.SHOWN)
def test_every_architecture_shown_can_be_walked(engine, folder, name):
    prompt = asked(name)
    arguments = engine.start(prompt).future.result().arguments
    copy = oracle.Oracle(folder / name)
    with torch.no_grad():
        out = copy.model(**arguments, output_attentions=True)
    trace = engine.trace(prompt)
    for stream, (n_layers, n_heads) in zip(trace.streams, trace.shape, strict=True):
        maps = getattr(out, oracle.NAMES[stream]) if trace.family == "encoder-decoder" else out.attentions
        for layer in range(n_layers):
            found = walk(engine, prompt, Head(stream, layer, n_heads - 1))
            np.testing.assert_allclose(found.weights, maps[layer][0, n_heads - 1].numpy(), atol=EXACT)
            steps = [step for step, _ in found.checks]
            assert steps == [step for step in STEPS if step in steps] and "output" in steps
            assert max(error for _, error in found.checks) < EXACT
            assert ("input" in steps) == (layer == 0 and stream != "cross")


def test_arrays_cannot_be_written_to(engine):
    found = walk(engine, asked("gpt2"), Head("decoder", 0, 0))
    arrays = [value for value in vars(found).values() if isinstance(value, np.ndarray)]
    arrays += [value for part in (found.query, found.terms) for value in vars(part).values()
               if isinstance(value, np.ndarray)]
    assert len(arrays) > 15 and not any(array.flags.writeable for array in arrays)


def test_hooks_are_gone_after_a_walk(engine):
    def hooks(live) -> int:  # transformers has some of its own
        return sum(len(module._forward_hooks) for module in live.model.modules())

    walk(engine, asked("gpt2"), Head("decoder", 0, 0))
    before = engine.submit("gpt2", hooks).result()
    walk(engine, asked("gpt2"), Head("decoder", 1, 0))
    assert engine.submit("gpt2", hooks).result() == before < 20


def test_what_cannot_be_walked_is_refused(folder, engine):
    short = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=Limits(detail=3))
    with pytest.raises(errors.TextTooLong) as caught:
        walk(short, asked("gpt2"), Head("decoder", 0, 0))
    assert caught.value.numbers["limit"] == 3
    with pytest.raises(errors.InvalidPrompt):
        walk(engine, asked("gpt2"), Head("decoder", 0, 99))

    def gated(live):  # something between the heads and the output projection: no step 7 to show
        module = live.model.transformer.h[0].attn.c_proj
        return module.register_forward_pre_hook(lambda module, args: (args[0] * 1.0,))

    own = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")
    own.submit("gpt2", gated).result()
    with pytest.raises(errors.ModelRefused) as refused:
        walk(own, asked("gpt2"), Head("decoder", 0, 0))
    assert refused.value.code == "walk_not_followed" and refused.value.numbers == {"part": "W_O"}


def test_projections_side_by_side_in_each_head_are_told_apart():
    # GPT-NeoX's layout: [q k v] of head 0, then of head 1, copied, so that no memory is shared.
    linear = torch.nn.Linear(8, 24)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = linear(x)
    timeline = walk_modules.Timeline(0, 0)
    timeline.before.append(walk_modules.Event(linear, (x[None],), y[None]))
    by_head = y.reshape(5, 2, 3, 4)
    for what in range(3):
        target = by_head[:, :, what].transpose(0, 1).clone()
        found = walk_modules.projection(timeline, target, groups=(8, 8, 8), what=what)
        expected = [[head * 12 + what * 4 + i for i in range(4)] for head in range(2)]
        assert found.columns.tolist() == expected and not found.rotated
    with pytest.raises(errors.ModelRefused):
        walk_modules.projection(timeline, torch.ones(2, 5, 4), groups=(8, 8, 8), what=0)
