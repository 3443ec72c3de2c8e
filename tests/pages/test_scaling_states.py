"""The scaling page on models of other kinds: no division, an encoder without a mask, a decoder, a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import LocalEngine, errors
from engine import scaling as lab
from pages.widgets import runtime
from tests.engine import oracle
from tests.engine.bounds import BRIEF

APP = str(Path(__file__).resolve().parents[2] / "app.py")
KINDS = ("t5", "bert", "gpt2")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> LocalEngine:
    return LocalEngine(folder=oracle.save_tiny(tmp_path_factory.mktemp("models"), KINDS), device="cpu",
                       bounds=BRIEF)


@pytest.fixture
def opened(engine, monkeypatch):
    """Opens the page on a model and a text, in English, and returns what stands on it as one text."""
    monkeypatch.setattr(runtime, "engine", lambda: engine)

    def open_page(model: str, text: str) -> str:
        test = AppTest.from_file(APP, default_timeout=60)
        for name, value in {"lang": "en", "model": model, "text": text}.items():
            test.query_params[name] = value
        page = test.switch_page("pages/scaling.py").run()
        assert not page.exception
        return "\n".join(element.value for kind in (page.markdown, page.info, page.error, page.warning)
                         for element in kind)

    return open_page


def test_a_model_that_never_divides_has_no_state_without_division(opened):
    shown = opened("t5", "I like the apple")
    model = shown[shown.index("This model never divides"):]
    assert "without division" not in model and "At the chosen multiplier the model writes" in model


def test_an_encoder_without_a_mask_keeps_heads_and_gradient(opened):
    shown = opened("bert", "I like the apple")
    assert "An encoder writes no text" in shown and "Behind layer 0's softmax the gradient is" in shown


def test_an_encoder_with_a_mask_has_an_output(opened):
    assert "ln p of the original output" in opened("bert", "I like the <mask>")


def test_a_decoder_is_judged_by_its_continuation(opened):
    shown = opened("gpt2", "I like the apple")
    assert "This model divides" in shown and "by 2.83 (" in shown and "ln p of the original output" in shown


def test_a_refused_gradient_leaves_the_rest_of_the_page(opened, monkeypatch):
    def refuse(engine, prompt):
        raise errors.InvalidPrompt("at most 8 tokens for a backward pass", got="9", next_step="Shorten the text.",
                                   code="too_long_for_gradient", limit=8, length=9)

    monkeypatch.setattr(lab, "gradients", refuse)
    shown = opened("gpt2", "I like the other apple")
    assert "at most 8 tokens for a backward pass" in shown and "ln p of the original output" in shown
