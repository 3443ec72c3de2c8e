"""Ready questions are whole and ask of words that are there; words become references and back."""

from __future__ import annotations

import pytest

from engine import LocalEngine, Prompt
from engine.evidence_types import VERDICTS
from pages.widgets import evidence_compare, evidence_question, evidence_questions, language
from pages.widgets.evidence_question import Question, Side, span_of
from pages.widgets.word_pair import Pair, _pair
from tests.engine import tiny

SIDE = Side("苹果和苹果", ("苹果", "和", "苹果"), ("", "", ""), ((0, 2), (2, 3), (3, 5)))


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("gpt2", "marian", "bert"):
        tiny.save(kind, folder / kind)
    return LocalEngine(folder=folder, device="cpu")


def test_there_are_ten_and_each_is_whole():
    ready = evidence_questions.load()
    assert len(ready) == 10
    assert len({(each.text, each.query, each.key, each.query_in) for each in ready}) == 10
    for each in ready:
        assert each.key in each.text and each.query_in in ("source", "output")
        assert each.query in each.text or each.query_in == "output"
        assert (each.second == "") == (each.second_key == "") and each.second_key in each.second
        for spoken in language.LANGUAGES:
            assert each.ask(spoken).strip() and each.teaches(spoken).strip()
        assert each.ask_zh != each.ask_en and each.teaches_zh != each.teaches_en


def test_no_ready_question_says_its_answer():
    for each in evidence_questions.load():
        for verdict in ("attends and is used", "attends but is not used", "without direct attention", "no evidence"):
            assert verdict not in each.teaches_en and verdict not in each.ask_en


@pytest.fixture(scope="module")
def answers(ask):
    """Ready question → the embedded model's evidence, in order."""
    return {each: ask(each.text, each.query, each.key, query_in=each.query_in, contrast=each.contrast or None)
            for each in evidence_questions.load()}


def test_the_decoder_itself_uses_the_verb_and_the_encoders_edge_does_next_to_nothing(answers):
    """What the question on apples → 吃 tells of the embedded model."""
    found = {evidence.stream: evidence for each, evidence in answers.items()
             if (each.text, each.key) == ("我喜欢吃苹果", "吃")}
    cross, encoder = found["cross"], found["encoder"]
    assert cross.margin_delta == pytest.approx(cross.margin_hide_delta, rel=0.25) and cross.margin_delta < -1
    assert abs(encoder.margin_delta) < 0.1 * abs(encoder.margin_hide_delta)


def test_all_four_verdicts_occur_on_the_embedded_model(answers):
    given = [evidence.verdict for evidence in answers.values()]
    assert set(given) == set(VERDICTS), given


def test_the_question_of_attention_that_explains_nothing_is_there():
    keys = [each.key for each in evidence_questions.load() if each.text == "我买了苹果的股票"]
    assert keys == ["买", "股票"]


def test_a_reference_covers_its_words():
    assert span_of("苹果", SIDE.text) == (0, 2) and span_of((3, 5), SIDE.text) == (3, 5)
    assert span_of("梨", SIDE.text) is None and span_of(None, SIDE.text) is None
    assert SIDE.covered((3, 5)) == [2] and SIDE.covered((1, 4)) == [0, 1, 2] and SIDE.covered(None) == []


@pytest.mark.parametrize("model", ["marian", "gpt2", "bert"])
def test_words_that_can_be_clicked_are_the_texts_own(engine, model):
    trace = engine.trace(Prompt(model, "the cat, 喜欢 苹果.", target="a dog" if model == "marian" else None))
    for side in (evidence_question.source_side(trace), evidence_question.output_side(trace)):
        assert all(side.text[slice(*span)].strip() == side.text[slice(*span)] != "" for span in side.spans)
        assert list(side.spans) == sorted(side.spans)
    source = evidence_question.source_side(trace)
    assert source.text == trace.source_text and {"cat", "苹果"} <= {source.text[slice(*span)] for span in source.spans}
    assert bool(evidence_question.output_side(trace).labels) == (model != "bert" and bool(trace.output.strip()))


@pytest.mark.parametrize(("sent", "expected"), [
    ({"side": "source", "query": 2, "key": 1}, Pair("source", 2, 1)),
    ({"side": "output", "query": 1, "key": 1}, Pair("output", 1, 1)),
    ({"side": "source", "query": 1, "key": 1}, None), ({"side": "output", "query": 2, "key": 0}, None),
    ({"side": "source", "query": 3, "key": 0}, None), ({"side": "source", "query": -1, "key": 0}, None),
    ({"side": "source", "query": True, "key": 0}, None), ({"side": "up", "query": 0, "key": 1}, None),
    ({"side": "source"}, None), ("0-1", None), (None, None),
])
def test_a_browser_may_send_anything(sent, expected):
    assert _pair(sent, 3, 2) == expected


@pytest.mark.parametrize(("key", "second", "expected"), [
    ("吃", "我喜欢用苹果", "用"), ("吃", "我喜欢吃梨", "吃"), ((3, 4), "我喜欢用苹果", "用"),
    ("喜欢", "我讨厌吃苹果", "讨厌"), ("吃", "完全不同的句子", "吃"),
])
def test_b_in_the_second_sentence_is_what_stands_in_its_place(key, second, expected):
    assert evidence_compare._in_its_place(key, "我喜欢吃苹果", second) == expected


def test_a_question_is_a_value():
    one, two = (Question(Prompt("zh-en", "我喜欢吃苹果"), "苹果", (3, 4), replacements=("用",)) for _ in range(2))
    assert one == two and hash(one) == hash(two)
