"""Every map, score, query, key and value equals transformers' own eager attention, on every kind of model.

The oracle loads the saved checkpoint anew, tokenises and generates with
transformers alone. Tolerance 1e-5 at float32, the bound that the app claims.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import Head, LocalEngine, Prompt, attention, errors
from tests.engine import oracle, tiny
from tests.engine.bounds import BRIEF

TEXT = "我喜欢吃苹果, the apple every day."
TOLERANCE = 1e-5
MODELS = ("zh-en", *oracle.SHOWN)
#: A limit below what any run keeps: every answer about it has to be captured again.
KEEPS_NOTHING = replace(BRIEF, capture_bytes=1, exact_grid=1_000)


@pytest.fixture(scope="module")
def forgetful(folder):
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu", bounds=KEEPS_NOTHING)


def reference(of: oracle.Oracle, text: str) -> oracle.Reference:
    """Eager's run, the decoder's part on what generation writes; each run once."""
    if text not in of.kept:
        written = of.generate(text, new_tokens=BRIEF.new_tokens_target) if of.family == "encoder-decoder" else None
        of.kept[text] = of.maps(text, written=written)
    return of.kept[text]


def heads(trace, stream):
    n_layers, n_heads = trace.layers_heads(stream)
    return [Head(stream, layer, head) for layer in range(n_layers) for head in range(n_heads)]


@pytest.mark.parametrize("text", [TEXT, "a", "ab", "abc"], ids=["sentence", "one", "two", "three"])
@pytest.mark.parametrize("name", MODELS)
def test_every_head_equals_eager(engine, oracles, name, text):
    expected = reference(oracles(name), text)
    prompt = Prompt(name, text)
    trace = engine.trace(prompt)
    assert set(trace.streams) == expected.maps.keys()
    for stream, maps in expected.maps.items():
        assert trace.layers_heads(stream) == maps.shape[:2]
        for head in heads(trace, stream):
            got = engine.pattern(prompt, head)
            assert got.dtype == np.float32 and not got.flags.writeable
            assert got.shape == maps.shape[2:]
            np.testing.assert_allclose(got, maps[head.layer, head.head], atol=TOLERANCE, rtol=0, err_msg=str(head))


def test_the_maps_are_far_from_uniform_so_that_a_wrong_one_shows(oracles):
    for name in oracle.SHOWN:
        for stream, maps in reference(oracles(name), TEXT).maps.items():
            visible = (maps > 0).sum(-1)
            over_uniform = maps.max(-1) * visible
            assert np.median(over_uniform[visible > 2]) > 1.5, (name, stream)
            first = maps[0, 0]
            others = [maps[0, head] for head in range(1, maps.shape[1])]
            assert min(np.abs(first - other).max() for other in others) > 0.01, (name, stream)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_logarithm_of_the_pattern_and_hide_what_eager_hides(engine, oracles, name):
    of = oracles(name)
    expected = reference(of, TEXT)
    prompt = Prompt(name, TEXT)
    for stream, maps in expected.maps.items():
        for head in heads(engine.trace(prompt), stream):
            scores = engine.scores(prompt, head)
            assert scores.dtype == np.float32
            eager = maps[head.layer, head.head]
            np.testing.assert_array_equal(np.isneginf(scores), eager == 0)
            np.testing.assert_array_equal(engine.visible(prompt, head), eager > 0)
            if name == "gpt_oss":
                sink = float(of.model.model.layers[head.layer].self_attn.sinks[head.head].detach())
                scores = np.concatenate([scores, np.full((len(scores), 1), sink, np.float32)], axis=1)
            weights = torch.tensor(scores).double().softmax(-1).numpy()[:, :eager.shape[1]]
            np.testing.assert_allclose(weights, eager, atol=TOLERANCE, rtol=0)


def attend(q, k, v, scaling, *, causal):
    """Attention by hand, float64, one row at a time: (pattern, output)."""
    pattern, output = np.zeros((len(q), len(k))), np.zeros((len(q), v.shape[1]))
    for i, query in enumerate(q.astype(np.float64)):
        seen = k[:i + 1] if causal else k
        weights = np.exp(scaling * (seen.astype(np.float64) @ query))
        pattern[i, :len(seen)] = weights / weights.sum()
        output[i] = pattern[i, :len(seen)] @ v[:len(seen)].astype(np.float64)
    return pattern, output


#: The module whose input is the attention's output, heads side by side.
PROJECTIONS = {
    "gpt2": {"decoder": "transformer.h.{}.attn.c_proj"},
    "llama": {"decoder": "model.layers.{}.self_attn.o_proj"},
    "marian": {"encoder": "model.encoder.layers.{}.self_attn.out_proj",
               "decoder": "model.decoder.layers.{}.self_attn.out_proj",
               "cross": "model.decoder.layers.{}.encoder_attn.out_proj"},
}
PROJECTIONS["zh-en"] = PROJECTIONS["marian"]


@pytest.mark.parametrize("name", PROJECTIONS)
def test_queries_keys_and_values_reproduce_the_model_by_hand(engine, oracles, name):
    of = oracles(name)
    seen, hooks = {}, []
    for stream, path in PROJECTIONS[name].items():
        layer = 0
        while path.format(layer) in dict(of.model.named_modules()):
            module = of.model.get_submodule(path.format(layer))
            hooks.append(module.register_forward_pre_hook(
                lambda _, args, key=(stream, layer): seen.update({key: args[0][0].numpy()})))
            layer += 1
    of.kept.clear()
    expected = reference(of, TEXT)
    for hook in hooks:
        hook.remove()
    prompt = Prompt(name, TEXT)
    trace = engine.trace(prompt)
    assert seen.keys() == {(s, layer) for s in trace.streams for layer in range(trace.layers_heads(s)[0])}
    for stream in trace.streams:
        for head in heads(trace, stream):
            q, k, v, scaling = engine.query_key_value(prompt, head)
            pattern, output = attend(q, k, v, scaling, causal=stream == "decoder")
            np.testing.assert_allclose(pattern, expected.maps[stream][head.layer, head.head], atol=TOLERANCE, rtol=0)
            d_value = v.shape[1]
            theirs = seen[stream, head.layer][:, head.head * d_value:(head.head + 1) * d_value]
            np.testing.assert_allclose(output, theirs, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
def test_all_patterns_at_once_and_pictures_are_the_same_maps(engine, oracles, name):
    expected = reference(oracles(name), TEXT)
    prompt = Prompt(name, TEXT)
    for stream, maps in expected.maps.items():
        np.testing.assert_allclose(engine.patterns(prompt, stream), maps, atol=TOLERANCE, rtol=0)
        pictures = engine.pictures(prompt, stream)
        assert pictures.cells.shape == maps.shape and not pictures.cells.flags.writeable
        np.testing.assert_array_equal(np.isnan(pictures.cells), maps == 0)
        np.testing.assert_allclose(np.nan_to_num(pictures.cells), maps, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "stream"), [("gpt2", "decoder"), ("t5", "encoder")])
def test_all_patterns_of_a_longer_text_are_refused(engine, name, stream):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.patterns(Prompt(name, LONG), stream)
    assert refusal.value.code == "too_long_for_grid"


def blocks(eager, q_edges, k_edges, reduce):
    """Block by block, by slicing."""
    return np.array([[reduce(eager[q0:q1, k0:k1]) for k0, k1 in zip(k_edges, k_edges[1:], strict=False)]
                     for q0, q1 in zip(q_edges, q_edges[1:], strict=False)])


@pytest.mark.parametrize("size", [1, 5, 7, 512])
@pytest.mark.parametrize("name", ["gpt2", "mistral", "gpt_oss", "modernbert", "t5", "layoutlm"])
def test_pooled_is_the_mean_and_the_maximum_of_each_block(engine, oracles, name, size):
    expected = reference(oracles(name), TEXT)
    prompt = Prompt(name, TEXT)
    for stream, maps in expected.maps.items():
        head = Head(stream, maps.shape[0] - 1, 2)
        eager = maps[head.layer, head.head]
        pooled = engine.pooled(prompt, head, size=size)
        assert pooled.mean.shape == tuple(min(size, n) for n in eager.shape)
        assert (pooled.q_edges[0], pooled.q_edges[-1]) == (0, eager.shape[0])
        assert (pooled.k_edges[0], pooled.k_edges[-1]) == (0, eager.shape[1])
        for got, reduce in ((pooled.mean, np.mean), (pooled.max, np.max)):
            theirs = blocks(eager, pooled.q_edges, pooled.k_edges, reduce)
            np.testing.assert_allclose(got, theirs, atol=TOLERANCE, rtol=0)


def test_pooled_zooms_into_a_region(engine, oracles):
    eager = reference(oracles("mistral"), TEXT).maps["decoder"][1, 3]
    pooled = engine.pooled(Prompt("mistral", TEXT), Head("decoder", 1, 3), size=4, rows=(3, 14), columns=(1, 10))
    assert (pooled.q_edges[0], pooled.q_edges[-1], pooled.k_edges[0], pooled.k_edges[-1]) == (3, 14, 1, 10)
    np.testing.assert_allclose(pooled.max, blocks(eager, pooled.q_edges, pooled.k_edges, np.max), atol=TOLERANCE)


def test_a_mask_of_one_row_hides_the_same_keys_from_every_query(folder, oracles, monkeypatch):
    """LayoutLM's masks are (1, 1, 1, k_len): regions, tiles and sums over rows must find all rows in them."""
    maps = reference(oracles("layoutlm"), TEXT).maps["encoder"]
    prompt, engine = Prompt("layoutlm", TEXT), LocalEngine(folder=folder, device="cpu")
    monkeypatch.setattr(attention, "TILE_BYTES", 3 * 4 * 4 * maps.shape[-1])  # three rows of four heads
    pooled = engine.pooled(prompt, Head("encoder", 1, 3), rows=(3, 6))
    np.testing.assert_allclose(pooled.mean, maps[1, 3, 3:6], atol=TOLERANCE, rtol=0)
    assert pooled.visible.all()
    kept = engine._captured[prompt]
    assert all(call.mask.shape == (1, *maps.shape[2:]) for call in kept.calls.values())
    assert sum({c.mask.untyped_storage().data_ptr(): c.mask.untyped_storage().nbytes()
                for c in kept.calls.values()}.values()) == 4 * maps.shape[-1]  # a view: one row of float32
    summary = engine.summaries(prompt, "encoder")
    entropy = -(maps * np.log(np.where(maps > 0, maps, 1))).sum(-1).mean(-1)
    np.testing.assert_allclose(summary.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(engine.pictures(prompt, "encoder").cells, maps, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("region", [(5, 5), (-1, 4), (0, 10_000), (7, 2)])
def test_pooled_refuses_a_region_outside(engine, region):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.pooled(Prompt("gpt2", TEXT), Head("decoder", 0, 0), rows=region)
    assert refusal.value.code == "bad_region"


LONG = (TEXT + " ") * 6 + "odd"  # 171 tokens of the tiny tokenizer


@pytest.mark.parametrize("name, text", [(n, TEXT) for n in MODELS] + [(n, LONG) for n in ("gpt2", "mistral", "t5")])
def test_a_run_too_long_to_keep_answers_the_same(engine, forgetful, name, text):
    prompt = Prompt(name, text)
    kept, again = engine.trace(prompt), forgetful.trace(prompt)
    assert (kept.axes, kept.output, kept.shape) == (again.axes, again.output, again.shape)
    captured = forgetful._captured[prompt]
    assert not captured.complete and not captured.calls
    for stream in kept.streams:
        for head in heads(kept, stream)[::3]:
            for ask in ("pattern", "scores", "visible"):
                theirs, ours = (getattr(e, ask)(prompt, head) for e in (engine, forgetful))
                np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=f"{ask} {head}")
            for ours, theirs in zip(*(e.query_key_value(prompt, head) for e in (forgetful, engine)), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
            ours, theirs = (e.pooled(prompt, head, size=9) for e in (forgetful, engine))
            np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-6)
        for field in ("entropy", "mean_distance", "max", "sink_mass", "label", "label_score"):
            ours, theirs = (getattr(e.summaries(prompt, stream), field) for e in (forgetful, engine))
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=field)
        ours, theirs = (e.pictures(prompt, stream) for e in (forgetful, engine))
        np.testing.assert_allclose(ours.cells, theirs.cells, atol=1e-6)
        np.testing.assert_array_equal(ours.q_edges, theirs.q_edges)
    assert len(captured.calls) <= 1  # one layer at a time, whatever was asked


@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma2", "modernbert"])
def test_long_inputs_equal_eager_beyond_the_window_and_the_probe(forgetful, oracles, name):
    expected = reference(oracles(name), LONG)
    for stream, maps in expected.maps.items():
        assert maps.shape[-1] > 150
        np.testing.assert_allclose(forgetful.patterns(Prompt(name, LONG), stream), maps, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["t5", "bart", "marian"])
def test_a_long_output_equals_eager_in_every_stream(forgetful, oracles, name):
    of = oracles(name)
    maps = of.maps(TEXT, written=[of.model.config.decoder_start_token_id, *of.tokenizer(LONG).input_ids]).maps
    assert maps["decoder"].shape[-1] > 150
    for stream, expected in maps.items():
        got = forgetful.patterns(Prompt(name, TEXT, target=LONG), stream)
        np.testing.assert_allclose(got, expected, atol=TOLERANCE, rtol=0)


@pytest.fixture
def wide_window(tmp_path):
    """A Mistral whose window is longer than any text here: every causal key is visible."""
    model = tiny.model("mistral")
    model.config.sliding_window = 200
    model.save_pretrained(tmp_path / "wide")
    tiny.tokenizer("<s> $A").save_pretrained(tmp_path / "wide")
    return tmp_path


def test_a_window_longer_than_the_text_hides_nothing(wide_window):
    prompt = Prompt("wide", TEXT)
    engine = LocalEngine(folder=wide_window, device="cpu")
    expected = oracle.Oracle(wide_window / "wide").maps(TEXT).maps["decoder"]
    assert (expected[0, 0] > 0).sum() == np.tri(expected.shape[-1]).sum()
    np.testing.assert_allclose(engine.patterns(prompt, "decoder"), expected, atol=TOLERANCE, rtol=0)
    assert engine.trace(prompt).provenance.masks == (("decoder", "causal"),)


def test_half_precision_sums_do_not_leave_float32(engine):
    for name in ("gpt2", "zh-en"):
        assert engine.trace(Prompt(name, TEXT)).provenance.dtype == "float32"


@pytest.mark.parametrize("head", [Head("decoder", 3, 0), Head("decoder", 0, 4), Head("decoder", -1, 0)])
def test_a_head_that_is_not_there_is_refused(engine, head):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.pattern(Prompt("gpt2", TEXT), head)
    assert refusal.value.code == "no_such_head" and refusal.value.numbers["n_layers"] == 3


@pytest.mark.parametrize("stream", ["encoder", "cross", "neither"])
def test_a_stream_that_is_not_there_is_refused(engine, stream):
    for ask in (lambda: engine.summaries(Prompt("gpt2", TEXT), stream),
                lambda: engine.pattern(Prompt("gpt2", TEXT), Head(stream, 0, 0))):
        with pytest.raises(errors.InvalidPrompt) as refusal:
            ask()
        assert refusal.value.code == "unknown_stream"
