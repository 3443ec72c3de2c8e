"""The home page's sentences carry the engine's numbers."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Head, LocalEngine, Prompt
from engine.kv_presets import PRESETS
from pages.widgets import home_cards, positions_order, runtime
from pages.widgets.texts import signed

APP = str(Path(__file__).resolve().parents[2] / "app.py")
_ = gettext.NullTranslations().gettext


@pytest.fixture(scope="module")
def engine(embedded) -> LocalEngine:
    return embedded


def test_the_head_shown_is_the_one_that_looks_most(engine):
    prompt = Prompt(home_cards.MODEL, home_cards.FLAGSHIP.text)
    texts = [token.text for token in engine.trace(prompt).tokens("encoder").key]
    row, column = texts.index(home_cards.FLAGSHIP.query), texts.index(home_cards.FLAGSHIP.key)
    n_layers, n_heads = engine.trace(prompt).layers_heads("encoder")
    every = {(layer, head): engine.pattern(prompt, Head("encoder", layer, head))[row, column]
             for layer in range(n_layers) for head in range(n_heads)}
    (layer, head), weight = max(every.items(), key=lambda item: item[1])
    told = home_cards.query_key_value(engine, "light", _).sentence
    assert f"layer {layer}, head {head}" in told and f"**{weight:.2f}**" in told
    score = engine.scores(prompt, Head("encoder", layer, head))[row, column]
    assert f"**{signed(score)}**" in told


def test_the_answer_on_the_verb_says_where_the_lead_starts_and_ends(engine, ask):
    """And the picture draws what its words say: two effects with their signs, the other words' sizes without."""
    asked = home_cards.FLAGSHIP
    found = ask(asked.text, asked.query, asked.key, contrast=asked.contrast)
    home_cards._evidence.clear()
    answer = home_cards.evidence(engine, "light", _)
    ends = found.margin, found.margin + found.margin_hide_delta
    assert ends[1] > 2, "the sense does not flip, whatever is hidden"
    assert f"from {ends[0]:.2f} to {ends[1]:.2f} nats; the sense does not flip" in answer.sentence
    effects = found.margin_delta, found.margin_hide_delta
    others = [np.median([abs(delta) for _word, delta in controls])
              for controls in (found.margin_control_deltas, found.margin_hide_control_deltas)]
    np.testing.assert_allclose(answer.figure.data[0].x, effects)
    np.testing.assert_allclose([[band.x0, band.x1] for band in answer.figure.layout.shapes], [[-x, x] for x in others])
    assert answer.figure.data[0].text == tuple(signed(effect) for effect in effects)
    assert f"other words, {others[0]:.2f} and {others[1]:.2f}." in answer.sentence


def test_without_positions_the_order_is_lost_and_layernorm_keeps_to_itself(engine):
    assert not positions_order.compared(engine, Prompt(home_cards.MODEL, home_cards.ORDER)).same_text
    card = home_cards.positions(engine, "light", _)
    on, off = card.figure.data[0].x
    assert on > 0.01 and off < 1e-4
    told = [float(number) for number in re.findall(r"\*\*([\d.]+)\*\*", card.sentence)]
    assert told == pytest.approx([on, off], rel=0.5) and "%" not in card.sentence and "e-" not in card.sentence
    layer, batch = home_cards.normalization(engine, "light", _).figure.data[0].x
    assert layer == 0 and batch > 0.01


def test_the_norms_card_says_what_its_page_opens_with(engine, monkeypatch):
    layer, batch = home_cards.normalization(engine, "light", _).figure.data[0].x
    monkeypatch.setattr(runtime, "engine", lambda: engine)
    test = AppTest.from_file(APP, default_timeout=120)
    test.query_params["lang"] = "en"
    page = test.switch_page("pages/normalization.py").run()
    said = f"**Your sentence changes by {layer:g} under LayerNorm and by {batch:.2f} under BatchNorm with this batch's "
    assert [text.value for text in page.markdown if said in text.value]


def test_the_books_bytes_follow_the_formula(engine):
    shape = PRESETS[home_cards.BOOK_MODEL]
    each = 2 * shape.n_layers * shape.n_kv_heads * shape.d_head * 2
    figure = home_cards.memory(engine, "light", _).figure
    np.testing.assert_allclose(figure.data[0].y[-1], each * home_cards.BOOK_TOKENS / 2**30)
