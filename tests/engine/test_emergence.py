"""A question put to the model's snapshots: the last is the model itself, and any other is held against eager."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import LocalEngine, Prompt, errors
from engine.evidence.emergence import since
from engine.training import snapshots
from tests.engine import oracle, tiny

TEXT, QUERY, KEY, CONTRAST = "我喜欢吃苹果", "苹果", "吃", "Apple"
#: Places of A and B in the encoder's sequence: 我 喜欢 吃 苹果 </s>.
A, B = 3, 2
MIDDLE = 4


@pytest.fixture(scope="module")
def found(embedded, ask):
    stages = []
    value = embedded.emergence(ask(TEXT, QUERY, KEY, contrast=CONTRAST), on_progress=stages.append)
    assert [(stage.done, stage.total) for stage in stages if stage.stage == "snapshots"] == [(i, 10) for i in range(10)]
    return value


def test_the_last_moment_is_the_finished_model(found):
    evidence, last = found.evidence, found.moments[-1]
    np.testing.assert_allclose(last.attention, evidence.attention, atol=1e-5)
    told = (last.value, last.cut, last.hide, *(delta for _, delta in last.control_deltas + last.hide_control_deltas))
    expected = (evidence.margin, evidence.margin_delta, evidence.margin_hide_delta, *(
        delta for _, delta in evidence.margin_control_deltas + evidence.margin_hide_control_deltas))
    np.testing.assert_allclose(told, expected, atol=2e-4)
    assert last.output == evidence.output and dict(last.control_deltas).keys() == {"我", "喜欢"}
    codes = {reason.code for reason in evidence.reasons}
    assert last.cut_counts == bool(codes & {"cut_matters", "cut_uncompared"})
    assert last.hide_counts == bool(codes & {"hide_matters", "hide_uncompared"})


def test_moments_stand_in_the_order_of_training(found):
    index = snapshots.read_index(oracle.ASSETS / "zh-en")
    assert [(moment.step, moment.epoch) for moment in found.moments] == [(e["step"], e["epoch"]) for e in index]
    assert len({moment.value for moment in found.moments}) == len(index)  # each with weights of its own
    assert found.hide_since == since([moment.hide_counts for moment in found.moments])
    assert found.cut_since == since([moment.cut_counts for moment in found.moments])
    # Untrained, nothing is looked for and nothing lost; what the table of the model card says it learns comes later.
    assert abs(found.moments[0].hide) < 0.1 and not found.moments[0].hide_counts
    assert found.moments[0].attention.std() < 0.05 < found.moments[MIDDLE].attention.std()


def test_a_snapshot_in_the_middle_equals_eager(embedded, found):
    """Mass, margin, its change with the edge cut, and with B hidden, by transformers alone with the same weights."""
    moment = found.moments[MIDDLE]
    reference = oracle.Oracle(oracle.ASSETS / "zh-en")
    reference.model.load_state_dict(snapshots.load_snapshot(moment.step, oracle.ASSETS / "zh-en"), strict=False)
    written = [*(token.id for token in embedded.trace(found.evidence.prompt).tokens("decoder").consumed),
               *(token.id for token in embedded.trace(found.evidence.prompt).tokens("decoder").query[-1:])]
    eager = reference.maps(TEXT, written=written)
    np.testing.assert_allclose(moment.attention, eager.maps["encoder"][:, :, A, B], atol=1e-5)

    word = embedded.trace(found.evidence.prompt).tokens("decoder").query
    row = next(at for at, token in enumerate(word) if token.text.strip() == found.evidence.target)
    contrast = reference.tokenizer(text_target=f"I like to eat {CONTRAST}.").input_ids[row]

    def margin(hidden: set[tuple[int, int]], crossed: set[int]) -> float:
        ids, n = reference.ids(TEXT), len(eager.source)
        blocked = torch.zeros(1, 1, n, n)
        for at in hidden:
            blocked[0, 0][at] = torch.finfo(torch.float32).min
        seen = torch.tensor([[at not in crossed for at in range(n)]], dtype=torch.long)
        with torch.no_grad():
            encoded = reference.model.get_encoder()(input_ids=ids, attention_mask=blocked)
            logits = reference.model(encoder_outputs=encoded, attention_mask=seen,
                                     decoder_input_ids=torch.tensor([eager.consumed])).logits[0, row].double()
        return float(logits[word[row].id] - logits[contrast])

    plain = margin(set(), set())
    assert moment.value == pytest.approx(plain, abs=1e-4)
    assert moment.cut == pytest.approx(margin({(A, B)}, set()) - plain, abs=1e-4)
    everyone = {(row, B) for row in range(len(eager.source)) if row != B}
    assert moment.hide == pytest.approx(margin(everyone, {B}) - plain, abs=1e-4)


def test_the_finished_model_is_as_before(embedded, found):
    again = LocalEngine(assets=oracle.ASSETS, device="cpu")
    prompt = Prompt("zh-en", "他打开了门")  # a trace that neither has kept
    assert embedded.trace(prompt).output == again.trace(prompt).output
    np.testing.assert_array_equal(embedded.summaries(prompt, "cross").entropy, again.summaries(prompt, "cross").entropy)


@pytest.mark.parametrize(("counts", "first"), [
    ([False, True, True], 1), ([True, True], 0), ([True, False, True], 2), ([True, True, False], None), ([], None),
])
def test_since(counts, first):
    assert since(counts) == first


def test_a_model_without_snapshots_is_told_apart(embedded, found, tmp_path):
    tiny.save("marian", tmp_path / "small")
    other = LocalEngine(assets=oracle.ASSETS, folder=tmp_path, device="cpu")
    assert embedded.has_snapshots("zh-en")
    assert not any(other.has_snapshots(name) for name in ("small", "../zh-en", "zh-en/snapshots", "some/model", ""))
    with pytest.raises(errors.InvalidPrompt) as refused:
        LocalEngine(assets=tmp_path, folder=tmp_path, device="cpu").emergence(found.evidence)
    assert refused.value.code == "no_snapshots"


def test_snapshots_of_another_model_are_refused(found, tmp_path):
    """A tensor that is missing would keep the weights of the step before."""
    folder = tmp_path / "zh-en"
    shutil.copytree(oracle.ASSETS / "zh-en", folder, ignore=shutil.ignore_patterns("snapshots"))
    (folder / "snapshots").mkdir()
    tensors = load_file(oracle.ASSETS / "zh-en" / "snapshots" / "step-000000.safetensors")
    absent = "model.encoder.layers.0.self_attn.k_proj.weight"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith(absent)},
              folder / "snapshots" / "step-0.safetensors")
    (folder / "snapshots" / "index.json").write_text(json.dumps(
        {"snapshots": [{"step": 0, "epoch": 0.0, "file": "step-0.safetensors"}]}))
    with pytest.raises(errors.ModelRefused) as refused:
        LocalEngine(assets=tmp_path, folder=tmp_path / "none", device="cpu").emergence(found.evidence)
    assert refused.value.code == "foreign_snapshot"
