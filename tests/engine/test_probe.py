"""The probe accepts only what equals eager, and says plainly why it refuses the rest.

Models are tampered with in small, realistic ways; each must be refused with
the reason. What can't be captured (DeBERTa, BLOOM, Mamba) is refused whole.
"""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
import transformers

from engine import LocalEngine, Prompt, attention, errors, probe
from engine.limits import DEFAULT
from tests.engine import oracle, tiny

FAMILY = {kind: "decoder-only" for kind in oracle.DECODERS + ("bloom", "mamba")}
FAMILY |= {kind: "encoder-only" for kind in (*oracle.ENCODERS, "deberta_v2")}
FAMILY |= {kind: "encoder-decoder" for kind in oracle.ENCODER_DECODERS}


def run_probe(model, kind: str, limits=DEFAULT) -> probe.Plan:
    return probe.probe(model, family=FAMILY[kind], vocab=tiny.D_VOCAB, special_ids=frozenset(range(5)), limits=limits)


@pytest.mark.parametrize("kind", oracle.SHOWN)
def test_every_layer_of_every_stream_is_in_the_plan(kind):
    model = tiny.model(kind)
    plan = run_probe(model, kind)
    wanted = {"encoder-only": ("encoder",), "decoder-only": ("decoder",),
              "encoder-decoder": ("encoder", "decoder", "cross")}[FAMILY[kind]]
    assert plan.streams == wanted
    assert 0 <= plan.error <= DEFAULT.probe_tolerance
    assert model.config._attn_implementation == attention.NAME
    for stream, (n_layers, n_heads) in zip(plan.streams, plan.shape, strict=True):
        assert n_heads == 4
        assert [layer for s, layer in plan.order if s == stream] == list(range(n_layers))
    assert len(plan.order) == sum(n_layers for n_layers, _ in plan.shape)


@pytest.mark.parametrize("kind", oracle.REFUSED)
def test_models_that_cannot_be_captured_are_refused_with_the_reason(kind, tmp_path):
    tiny.save(kind, tmp_path / kind)
    engine = LocalEngine(folder=tmp_path, device="cpu")
    for _ in range(2):  # and again: nothing of a refused model is kept
        with pytest.raises(errors.ModelRefused) as refusal:
            engine.trace(Prompt(kind, "apple"))
    reason = refusal.value
    assert reason.code == ("no_attention" if kind == "mamba" else "attention_not_interfaced")
    assert type(tiny.model(kind)).__name__ in str(reason)
    assert reason.expected and reason.next_step
    assert engine._models.entries() == ()


def tampered(change):
    """Our attention function with its arguments changed on the way in."""
    original = attention._attention

    def forward(module, query, key, value, mask, **rest):
        return original(*change(module, query, key, value, mask), **rest)

    return forward


CHANGES = {
    "keys shifted by one": lambda m, q, k, v, mask: (m, q, k.roll(1, dims=2), v, mask),
    "heads swapped": lambda m, q, k, v, mask: (m, q.flip(1), k, v, mask),
    "queries scaled by 1.001": lambda m, q, k, v, mask: (m, q * 1.001, k, v, mask),
    "not a number": lambda m, q, k, v, mask: (m, q * float("nan"), k, v, mask),
    "not a number in one value": lambda m, q, k, v, mask: (m, q, k, v.index_fill(2, torch.tensor([2]), float("nan")),
                                                           mask),
}


@pytest.mark.parametrize("kind", ["gpt2", "bert", "marian", "t5", "gpt_oss"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_capture_that_differs_is_refused(monkeypatch, kind, change):
    monkeypatch.setitem(attention.AttentionInterface._global_mapping, attention.NAME, tampered(change))
    with pytest.raises(errors.ModelRefused) as refusal:
        run_probe(tiny.model(kind), kind)
    assert refusal.value.code in ("output_changed", "map_differs")


@pytest.mark.parametrize("what", ["pattern off by 1e-4", "not a number", "causal forgotten", "transposed"])
def test_a_recomputed_map_that_differs_is_refused_though_the_output_is_right(monkeypatch, what):
    real = attention.pattern
    wrong = {
        "pattern off by 1e-4": lambda call: real(call) + 1e-4,
        "not a number": lambda call: real(call) * float("nan"),
        "causal forgotten": lambda call: real(replace(call, causal=False)),
        "transposed": lambda call: real(call).mT,
    }[what]
    monkeypatch.setattr(probe.attention, "pattern", wrong)
    with pytest.raises(errors.ModelRefused) as refusal:
        run_probe(tiny.model("gpt2"), "gpt2")
    assert refusal.value.code == "map_differs"
    assert refusal.value.numbers["layer"] == 0


def test_weights_that_are_not_numbers_do_not_pass():
    for kind in ("gpt2", "mistral", "marian"):
        model = tiny.model(kind)
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if "attn" in n and p.ndim == 2).fill_(float("nan"))
        with pytest.raises(errors.ModelRefused):
            run_probe(model, kind)


@pytest.mark.parametrize("forbidden", [-1e4, -float("inf")])
def test_a_huge_constant_in_the_output_does_not_hide_a_difference(monkeypatch, forbidden):
    """Marian models forbid ids by a bias on the logits; a wrong output must not pass for a share of that bias."""
    model = tiny.model("marian")
    model.final_logits_bias[0, :5] = forbidden
    run_probe(model, "marian")
    last = model.model.decoder.layers[-1].encoder_attn  # no map comes after it, so only the output can tell
    monkeypatch.setitem(attention.AttentionInterface._global_mapping, attention.NAME, tampered(
        lambda m, q, k, v, mask: (m, q, k, v * 1.01 if m is last else v, mask)))
    with pytest.raises(errors.ModelRefused) as refusal:
        run_probe(model, "marian")
    assert refusal.value.code == "output_changed"


def test_a_layer_that_skips_the_interface_is_refused():
    model = tiny.model("gpt2")
    block = model.transformer.h[1].attn
    original = block.forward
    uniform = torch.full((1, 4, 11, 11), 1 / 11)
    block.forward = lambda hidden, **rest: (original(hidden, **rest)[0] * 0 + hidden, uniform)
    with pytest.raises(errors.ModelRefused):
        run_probe(model, "gpt2")
    skipped = tiny.model("gpt2")
    real = skipped.transformer.h[1].attn.forward
    skipped.transformer.h[1].attn.forward = lambda hidden, **rest: (
        real(hidden, **rest) if skipped.config._attn_implementation == "eager" else (torch.zeros_like(hidden), None))
    with pytest.raises(errors.ModelRefused) as refusal:
        run_probe(skipped, "gpt2")
    assert refusal.value.code == "attention_not_interfaced"
    assert (refusal.value.numbers["found"], refusal.value.numbers["wanted"]) == (2, 3)


def test_maps_that_are_no_tensors_are_refused():
    """PEGASUS-X's encoder gives each layer's local and global maps in a dictionary."""
    sizes = {**tiny._BART, "block_size": 4, "num_global_tokens": 2, "stagger_local_blocks": False}
    model = transformers.PegasusXForConditionalGeneration(transformers.PegasusXConfig(
        **sizes, decoder_start_token_id=tiny.PAD)).eval()
    with pytest.raises(errors.ModelRefused) as refusal:
        run_probe(model, "bart")
    assert (refusal.value.code, refusal.value.numbers["stream"]) == ("attention_not_everywhere", "encoder")


def test_a_model_that_does_not_run_with_its_own_config_is_refused_with_its_words(monkeypatch):
    helium = transformers.HeliumForCausalLM(transformers.HeliumConfig(**tiny._ROTARY, head_dim=16)).eval()
    with pytest.raises(errors.ModelRefused, match="mat1 and mat2 shapes") as refusal:
        run_probe(helium, "llama")
    assert refusal.value.code == "config_unusable" and "mat1" in refusal.value.numbers["detail"]
    monkeypatch.setattr(helium, "forward", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(errors.ModelRefused, match="ZeroDivisionError"):
        run_probe(helium, "llama")


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), torch.AcceleratorError("lost"),
])
def test_what_the_machine_lacks_is_not_held_against_the_model(monkeypatch, error):
    model = tiny.model("gpt2")
    monkeypatch.setattr(model.transformer.h[1].attn, "forward", Mock(side_effect=error))
    with pytest.raises(type(error), match=str(error)):
        run_probe(model, "gpt2")


def test_a_capture_that_breaks_the_run_is_refused(monkeypatch):
    monkeypatch.setattr(attention, "sdpa_attention_forward", Mock(side_effect=RuntimeError("sizes differ")))
    with pytest.raises(errors.ModelRefused, match="sizes differ") as refusal:
        run_probe(tiny.model("gpt2"), "gpt2")
    assert refusal.value.code == "call_unmatched"


@pytest.mark.parametrize("argument", ["indices", "alibi", "temperature"])
def test_an_argument_that_nobody_taught_us_is_refused(argument):
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(errors.ModelRefused) as refusal, attention.session(lambda call, output: None):
        attention._attention(torch.nn.Module(), q, q, q, None, **{argument: torch.ones(1)})
    assert refusal.value.code == "attention_argument" and refusal.value.numbers["argument"] == argument


def test_a_sliding_window_without_a_mask_is_refused():
    q = torch.zeros(1, 2, 9, 4)
    with pytest.raises(errors.ModelRefused) as refusal, attention.session(lambda call, output: None):
        attention._attention(torch.nn.Module(), q, q, q, None, sliding_window=4)
    assert refusal.value.code == "window_without_mask"


def test_the_probe_reaches_beyond_a_window():
    for window, least in ((4, 11), (100, 105), (10_000, 11)):
        model = tiny.model("mistral")
        model.config.sliding_window = window
        inputs = probe._inputs(model, family="decoder-only", vocab=tiny.D_VOCAB, special_ids=frozenset(range(5)))
        assert inputs["input_ids"].shape[1] >= least
        assert not set(inputs["input_ids"][0].tolist()) & set(range(5))


def test_half_precision_has_its_own_tolerance():
    model = tiny.model("gpt2").bfloat16()
    plan = run_probe(model, "gpt2")
    assert DEFAULT.probe_tolerance < plan.error <= DEFAULT.probe_tolerance_half
    with pytest.raises(errors.ModelRefused):
        run_probe(tiny.model("gpt2").bfloat16(), "gpt2", replace(DEFAULT, probe_tolerance_half=1e-9))
