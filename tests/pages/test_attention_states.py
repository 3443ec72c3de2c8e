"""The attention page's states that a browser seldom meets: busy, out of memory, a fault of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from streamlit.testing.v1 import AppTest

from engine import LocalEngine, errors
from pages.widgets import runtime
from tests.engine import tiny

PAGE = str(Path(__file__).resolve().parents[2] / "app.py")
ATTENTION = "pages/attention.py"


def opened() -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=60)
    test.query_params["lang"] = "en"
    return test.switch_page(ATTENTION).run()


@pytest.mark.parametrize(("error", "heading"), [
    (errors.Busy("few", got="many", next_step="Wait.", code="busy", limit=2, waiting=2, model="zh-en"),
     "The model is busy"),
    (errors.OverBudget("1 MiB", got="9 MiB", next_step="Shorten.", code="over_budget", needed_bytes=9, allowed_bytes=1,
                       free_bytes=1, device="cpu"), "This needs more memory than is free"),
    (errors.OutOfMemory("a fit", got="none", next_step="Shorten.", code="out_of_memory", device="cuda"),
     "The memory ran out"),
])
def test_refusals_are_told_and_the_page_survives(monkeypatch, error, heading):
    def refuse(self, prompt):
        raise error

    monkeypatch.setattr(LocalEngine, "start", refuse)
    page = opened()
    shown = [box.value for box in (*page.error, *page.warning)]
    assert any(heading in text for text in shown), shown
    monkeypatch.undo()
    assert not page.run().error


def test_a_fault_shows_an_id_and_no_traceback(monkeypatch, caplog):
    def fail(self, prompt):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(LocalEngine, "start", fail)
    page = opened()
    shown = " ".join(box.value for box in page.error)
    assert "Something went wrong here" in shown and "secret detail" not in shown
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(("page", "shown"), [(ATTENTION, True), ("pages/qkv.py", False), ("pages/scaling.py", False)])
def test_what_to_look_for_among_the_heads_stands_where_the_heads_are(page, shown):
    test = AppTest.from_file(PAGE, default_timeout=60)
    test.query_params["lang"], test.query_params["text"] = "en", "我喜欢吃苹果"
    captions = [caption.value for caption in test.switch_page(page).run().caption]
    assert any("Which encoder heads let 苹果 look at 吃" in text for text in captions) is shown


def test_an_address_of_nonsense_falls_back(monkeypatch):
    test = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in {"lang": "en", "stream": "sideways", "layer": "999", "head": "x", "row": "-5",
                        "unit": "furlongs"}.items():
        test.query_params[name] = value
    page = test.switch_page(ATTENTION).run()
    assert not page.exception and not page.error
    assert any("Encoder self-attention · layer 0, head 0" in heading.value for heading in page.subheader)


@pytest.fixture
def long_model(tmp_path, monkeypatch):
    """The app with one more model, whose context holds two thousand tokens."""
    folder = tmp_path / "long"
    config = transformers.LlamaConfig(
        vocab_size=tiny.D_VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, bos_token_id=tiny.BOS, eos_token_id=tiny.EOS)
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer("<s> $A").save_pretrained(folder)
    monkeypatch.setenv("ATTENTION_MODELS", str(tmp_path))
    runtime.engine.clear()
    yield "long"
    runtime.engine.clear()


def test_two_thousand_tokens_are_pooled_until_the_ranges_are_narrow(long_model):
    test = AppTest.from_file(PAGE, default_timeout=120)
    test.query_params["lang"] = "en"
    test.query_params["model"] = long_model
    test.session_state["text"] = "a b " * 500
    page = test.switch_page(ATTENTION).run()
    assert not page.error and not page.exception
    told = [caption.value for caption in page.caption]
    assert any("each block shows its largest weight" in text for text in told)
    assert any("too long for the address" in text for text in told)
    rows, columns = (slider for slider in page.slider if slider.value == (0, 2001))
    rows.set_value((1900, 1950))
    columns.set_value((1800, 1850))
    page.run()
    assert not page.error and any("looks at" in text.value for text in page.markdown)
