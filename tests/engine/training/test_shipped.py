"""The model that ships: it loads clean, is small, and translates the four sentences of the first page."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from engine.training.corpus import SHOWN
from engine.training.evaluate import sense_scores, translate
from engine.training.handwritten import BLIND, KNOWN, read_checks
from engine.training.snapshots import load_snapshot, read_index

FOLDER = Path(__file__).parents[3] / "assets" / "models" / "zh-en"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    model, info = AutoModelForSeq2SeqLM.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model


@pytest.fixture(scope="module")
def metrics():
    return json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))


def test_it_is_a_stock_model_of_the_size_promised(model):
    assert type(model).__name__ == "MarianMTModel" and not model.training
    assert model.config.max_position_embeddings >= 128 and model.generation_config.num_beams == 4
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 56e6
    assert sum(p.stat().st_size for p in files if p.parent == FOLDER) <= 25e6
    assert sum(p.stat().st_size for p in files if p.parent.name == "snapshots") <= 38e6


def test_the_four_sentences_are_translated_right(model, tokenizer):
    right = {
        "我喜欢吃苹果": {"I like eating apples.", "I like to eat apples.", "I like apples."},
        "他每天吃一个苹果": {"He eats an apple every day."},
        "苹果发布了新手机": {"Apple released a new phone.", "Apple has released a new phone."},
        "我买了苹果的股票": {"I bought Apple stock.", "I bought Apple's stock."},
    }
    assert set(right) == set(SHOWN)
    for text, output in zip(SHOWN, translate(model, tokenizer, SHOWN)):
        assert output in right[text], (text, output)


def test_traditional_script_and_missing_full_stop_make_no_difference(model, tokenizer):
    assert len(set(translate(model, tokenizer, ["蘋果發布了新手機", "苹果发布了新手机"]))) == 1


def test_output_is_english_only(model, tokenizer):
    bias = model.final_logits_bias[0]
    assert bias.shape[0] == len(tokenizer) == model.config.vocab_size
    allowed = tokenizer.convert_ids_to_tokens(torch.nonzero(bias == 0).flatten().tolist())
    assert not any("\u3400" <= c <= "\u9fff" for token in allowed for c in token)
    assert bias[[0, 2, 3]].max() < -1000 and bias[1] == 0


def test_words_of_the_shown_sentences_are_single_tokens(tokenizer):
    assert tokenizer.tokenize("我喜欢吃苹果") == ["我", "喜欢", "吃", "苹果"]
    assert tokenizer.tokenize("我爱你") == ["我", "爱", "你"]


def test_numbers_reach_what_the_card_promises(metrics):
    assert metrics["tatoeba_test"]["n_pairs"] >= 1000
    assert metrics["tatoeba_test"]["bleu"] >= 30 and metrics["tatoeba_test"]["chrf"] >= 46
    assert metrics["template_held_out"]["accuracy"] >= 0.97 and metrics["template_held_out"]["n"] >= 1000
    for name in ("handwritten", "handwritten_blind"):
        assert metrics[name]["n"] >= 60 and metrics[name]["accuracy"] >= 0.85, name
    assert metrics["bytes"]["model.safetensors"] == (FOLDER / "model.safetensors").stat().st_size


def test_steps_count_on_through_both_runs(metrics):
    assert metrics["snapshots"][-1]["step"] == metrics["start"]["training"]["steps"] + metrics["training"]["steps"]


@pytest.mark.parametrize(("name", "file"), [("handwritten", KNOWN), ("handwritten_blind", BLIND)])
def test_hand_written_sentences_come_out_as_the_metrics_say(model, tokenizer, metrics, name, file):
    checks = read_checks(file)
    found = sense_scores(translate(model, tokenizer, [check.chinese for check in checks]), checks)
    assert found["n"] == metrics[name]["n"]
    # Another processor's rounding may flip one sentence.
    assert found["accuracy"] == pytest.approx(metrics[name]["accuracy"], abs=1.5 / found["n"])


def test_ten_snapshots_load_and_show_the_sense_emerge(model):
    index = read_index(FOLDER)
    assert len(index) == 10 and [e["step"] for e in index] == sorted(e["step"] for e in index)
    names = {n for n in model.state_dict() if "embed_positions" not in n}
    for entry in (index[0], index[4], index[-1]):
        state = load_snapshot(entry["step"], FOLDER)
        assert set(state) <= names and "model.shared.weight" in state
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and all("embed" in n or n == "lm_head.weight" for n in missing)
    assert index[0]["sense_accuracy"] < 0.6 < 0.95 < index[-1]["sense_accuracy"]
