"""What a model really uses for positions, and the model without them, on every tiny architecture.

Oracles: the weights and buffers of the modules themselves, transformers' own
functions, and models whose position weights were set to zero by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import transformers
from transformers.models.bloom import modeling_bloom
from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from engine import position_modules, positions
from tests.engine import tiny

ROTARY = ("llama", "mistral", "qwen3", "gemma2", "gpt_oss")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


# --- what a model really uses ----------------------------------------------------------------------------------------


def of(kind: str, n_positions: int = 40):
    return positions.of_model(tiny.model(kind), n_positions=n_positions)


@pytest.mark.parametrize("kind", ROTARY)
def test_rotations_are_read_from_the_module(kind):
    (found,) = of(kind).sources
    model = tiny.model(kind)
    d_head = getattr(model.config, "head_dim", None) or 8
    np.testing.assert_allclose(found.frequencies, positions.rope_frequencies(d_head), rtol=1e-5)
    assert found.module == "model.rotary_emb" and found.attention_factor == pytest.approx(1.0, abs=1e-6)
    assert found.layout == ("one a pair" if kind == "gpt_oss" else "half split")
    assert found.error < 1e-4 and found.formula_error < 1e-5


def test_each_kind_of_layer_has_its_own_rotation():
    found = {source.layers: source for source in of("modernbert").sources}
    assert set(found) == {"full_attention", "sliding_attention"}
    for name, base in (("full_attention", 160_000.0), ("sliding_attention", 10_000.0)):
        np.testing.assert_allclose(found[name].frequencies, positions.rope_frequencies(8, base), rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "bert", "bart", "opt"])
def test_learned_tables_are_read_from_the_module(kind):
    model = tiny.model(kind)
    found = positions.of_model(model, n_positions=40)
    skipped = 2 if kind in ("bart", "opt") else 0  # these tables keep two rows before position 0
    for source in found.sources:
        weight = model.get_submodule(source.module).weight.detach().numpy()
        np.testing.assert_array_equal(source.values, weight[skipped:skipped + 40])
        assert source.layout == "learned" and source.error > 0.1 and source.rows == 256 + skipped
    assert len(found.sources) == (2 if kind == "bart" else 1)


def test_sinusoids_are_known_by_their_numbers():
    for source in of("marian").sources:
        assert source.layout == "concatenated" and source.error < 1e-6
        expected = positions.sinusoidal(40, 32)
        np.testing.assert_allclose(source.values[:, :16], expected[:, 0::2], atol=1e-6)
        np.testing.assert_allclose(source.values[:, 16:], expected[:, 1::2], atol=1e-6)
    model = tiny.model("marian")
    with torch.no_grad():
        model.model.encoder.embed_positions.weight.add_(0.1)
    assert positions.of_model(model).sources[0].layout == "learned"  # whatever its class is called


class Only(torch.nn.Module):
    """A "model" of one table."""

    def __init__(self, table: torch.nn.Module) -> None:
        super().__init__()
        self.table = table
        self.config = transformers.PretrainedConfig(pad_token_id=1)
        self.device = torch.device("cpu")

    def forward(self, input_ids, attention_mask):
        return self.table(input_ids)


def test_tensor2tensors_steps_are_told_from_the_papers():
    table = M2M100SinusoidalPositionalEmbedding(64, 16, padding_idx=1)
    (found,) = positions.of_model(Only(table), n_positions=20).sources
    assert found.layout == "tensor2tensor" and found.error < 1e-5
    marian = MarianSinusoidalPositionalEmbedding(64, 16)
    with torch.no_grad():
        marian.weight.copy_(marian.create_weight())
        marian.weight.copy_(torch.stack([marian.weight[:, :8], marian.weight[:, 8:]], dim=-1).flatten(1))

    class Interleaved(torch.nn.Module):
        def forward(self, ids):
            return marian.weight[:ids.shape[1]]

    (found,) = positions.of_model(Only(Interleaved()), n_positions=20).sources
    assert found.layout == "interleaved" and found.error < 1e-5


def test_relative_biases_are_read_from_the_module():
    model = tiny.model("t5")
    encoder, decoder = positions.of_model(model, n_positions=40).sources
    for source, bidirectional in ((encoder, True), (decoder, False)):
        expected = positions.t5_bucket(source.offsets, bidirectional=bidirectional, n_buckets=8, max_distance=16)
        np.testing.assert_array_equal(source.buckets, expected)
        weight = model.get_submodule(source.module).weight.detach().numpy()
        np.testing.assert_array_equal(source.bias, weight[expected].T)
        assert source.bidirectional is bidirectional and source.error == 0.0
        assert source.offsets.tolist() == list(range(-39, 40)) and source.n_buckets == 8


@pytest.mark.parametrize("n_heads", [4, 6])
def test_slopes_are_read_from_the_argument(n_heads):
    config = transformers.BloomConfig(vocab_size=50, hidden_size=24, n_layer=2, n_head=n_heads)
    found = positions.of_model(transformers.BloomForCausalLM(config).eval(), n_positions=12)
    (source,) = found.sources
    theirs = modeling_bloom._get_alibi_slopes(n_heads, torch.device("cpu")).numpy()
    np.testing.assert_allclose(source.slopes, theirs, rtol=1e-6)
    assert source.error < 1e-6


def test_dynamic_frequencies_are_those_of_the_length():
    """`inv_freq` of a model at rest would be wrong beyond its trained length."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **{**tiny._ROTARY, "max_position_embeddings": 32},
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0})).eval()
    at_rest = model.model.rotary_emb.inv_freq.double().numpy().copy()
    short, long = (positions.of_model(model, n_positions=n).sources[0] for n in (16, 128))
    np.testing.assert_allclose(short.frequencies, at_rest, rtol=1e-5)
    assert np.abs(long.frequencies / at_rest - 1).max() > 0.1
    scaling = {"rope_type": "dynamic", "factor": 2.0, "max_position_embeddings": 32}
    expected = positions.rope_frequencies(8, scaling=scaling, n_positions=128)
    np.testing.assert_allclose(long.frequencies, expected, rtol=1e-5)
    assert long.formula_error < 1e-4 and dict(long.parameters)["rope_type"] == "dynamic"


def test_yarns_temperature_is_read_off_the_cosines():
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **tiny._ROTARY, rope_parameters={**YARN, "rope_theta": 10_000.0})).eval()
    (found,) = positions.of_model(model, n_positions=30).sources
    assert found.attention_factor == pytest.approx(0.1 * math.log(4) + 1, rel=1e-6)
    assert found.formula_error < 1e-5


def test_a_table_bounds_the_length():
    assert of("gpt2", 1000).n_positions == 256 == of("gpt2", 1000).n_ctx
    assert of("llama", 300).n_positions == 300  # a rotation goes on


# --- positions off ---------------------------------------------------------------------------------------------------

INPUTS = torch.tensor([[60, 70, 61, 62, 71, 63]])


def arguments(model) -> dict:
    extra = {"decoder_input_ids": INPUTS[:, :3]} if model.config.is_encoder_decoder else {}
    return {"input_ids": INPUTS, "attention_mask": torch.ones_like(INPUTS), **extra}


def logits(model) -> np.ndarray:
    with torch.no_grad():
        return model(**arguments(model)).logits[0].numpy()


def zeroed(kind: str, monkeypatch) -> torch.nn.Module:
    """The same model with its positions taken out by hand, by name: the oracle."""
    model = tiny.model(kind)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(("wpe", "position_embeddings", "embed_positions", "relative_attention_bias")):
                module.weight.zero_()
            if name.endswith("rotary_emb"):
                for buffer in module.buffers():
                    buffer.zero_()
    if kind == "bloom":
        monkeypatch.setattr(modeling_bloom, "_get_alibi_slopes", lambda n_heads, device: torch.zeros(n_heads))
    return model


@pytest.mark.parametrize("kind", [*ROTARY, "gpt2", "opt", "bert", "modernbert", "t5", "bart", "marian", "bloom"])
def test_switched_off_is_what_zero_by_hand_gives(kind, monkeypatch):
    model = tiny.model(kind)
    before = logits(model)
    with position_modules.switched_off(position_modules.find(model)):
        off = logits(model)
    np.testing.assert_array_equal(logits(model), before)  # undone
    expected = logits(zeroed(kind, monkeypatch))
    np.testing.assert_allclose(off, expected, atol=1e-4)
    assert np.abs(off - before).max() > 1e-2


def test_hooks_are_undone_after_an_error():
    model = tiny.model("bert")
    with pytest.raises(ValueError), position_modules.switched_off(position_modules.find(model)):
        raise ValueError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_yarns_temperature_stays_when_its_turns_go():
    """The temperature is no position: cosines become its value, not 1."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **tiny._ROTARY, rope_parameters={**YARN, "rope_theta": 10_000.0})).eval()
    with position_modules.switched_off(position_modules.find(model)):
        cos, sin = model.model.rotary_emb(torch.zeros(1), torch.arange(9)[None])
    np.testing.assert_allclose(cos, 0.1 * math.log(4) + 1, rtol=1e-6)
    assert not sin.any()
