"""The evidence page's states that a browser seldom meets: busy, a fault, an address of nonsense, no second word."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest
from streamlit.testing.v1 import AppTest

from engine import LocalEngine, Progress, Prompt, errors
from engine.evidence_types import OutputWord
from pages.widgets import evidence_run, evidence_texts, language, runtime
from pages.widgets.evidence_question import Question
from tests.engine import tiny
from tests.evidence_value import make, with_contrast

PAGE = str(Path(__file__).resolve().parents[2] / "app.py")


@pytest.fixture(autouse=True)
def empty_store():
    """No answers of other tests."""
    evidence_run.answers.clear()


def visit(**address) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in {"lang": "en", **address}.items():
        test.query_params[name] = value
    return test.switch_page("pages/evidence.py").run()


def shown(page: AppTest) -> str:
    return " ".join(box.value for box in (*page.markdown, *page.error, *page.warning, *page.info, *page.caption))


def answered(evidence, asked: list | None = None):
    """A start_evidence that answers `evidence` at once, and notes what it was asked."""
    def start(self, prompt, query, key, *, on_progress, **options):
        if asked is not None:
            asked.append({"prompt": prompt, "query": query, "key": key, **options})
        on_progress(Progress("cutting", 1, 2))
        future: Future = Future()
        future.set_result(evidence)
        return future

    return start


def test_the_verdict_comes_first_with_the_engines_numbers(monkeypatch):
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make()))
    page = visit()
    assert not page.exception and not page.error
    first = next(box.value for box in page.markdown if "nats" in box.value)
    assert "Judged on" not in shown(page)
    assert first.startswith("**Yes.**") and "**−0.83**" in first and "**−2.40**" in first and "**0.61**" in first


def test_a_verdict_on_the_margin_says_so_whatever_is_shown(monkeypatch):
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(with_contrast()))
    page = visit(measure="logprob")
    assert 'Judged on the margin of "apples" over "Apple"' in shown(page)


@pytest.mark.parametrize("chosen", [False, True])
def test_the_word_shown_as_measured_is_the_one_that_is(monkeypatch, chosen):
    """By cutting "an" comes first; the noun that it announces loses nearly as much, looks more, and is measured."""
    words = (OutputWord("an", (0, 2), (1,), -.1, -3.2, .1), OutputWord("apples", (3, 9), (2,), -.05, -3.0, .5))
    evidence = make(output_words=words, output_word=0 if chosen else 1, output_word_by_cut=0, output_word_chosen=chosen)
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(evidence))
    page = visit()
    box = next(box for box in page.selectbox if box.label == "Output word that stands for A")
    assert box.options[0].startswith("apples ") and "found by cutting" in box.options[1]


def test_what_the_address_says_is_what_is_asked(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(with_contrast(), asked))
    page = visit(text="苹果和苹果", query="苹果", query_at="3-5", key="和", contrast="Apple", instead="或，与")
    assert not page.exception and not page.error
    assert asked == [{"prompt": asked[0]["prompt"], "query": (3, 5), "key": "和", "query_in": "source",
                      "contrast": "Apple", "output_word": None, "replacements": ("或", "与")}]
    assert asked[0]["prompt"].text == "苹果和苹果"


def test_the_same_question_is_not_asked_twice(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make(), asked))
    page = visit()
    page.run()
    assert len(asked) == 1


def asked_at_once(begin, n: int) -> list[evidence_run.Asked | Exception]:
    """What `n` threads get that ask the same question together, which `begin` begins."""
    store, question, together = evidence_run.Answers(), Question(Prompt("zh-en", "我"), "我", "我"), Barrier(n)

    def ask():
        together.wait()
        try:
            return store.ask(question, begin)
        except errors.Busy as error:
            return error

    with ThreadPoolExecutor(n) as pool:
        return [future.result() for future in [pool.submit(ask) for _ in range(n)]]


def test_the_same_question_of_many_at_once_is_begun_once():
    begun: list[Future] = []

    def begin(report):
        begun.append(Future())
        sleep(.2)
        return begun[-1]

    given = asked_at_once(begin, 4)
    assert len(begun) == 1 and len(set(map(id, given))) == 1
    begun[0].set_result("evidence")
    assert given[0].future.result(1) == "evidence"


def test_those_who_joined_a_question_that_cannot_begin_are_told():
    def begin(report):
        sleep(.2)
        raise errors.Busy("few", got="many", next_step="Wait.", code="busy")

    given = asked_at_once(begin, 3)
    assert [isinstance(one, errors.Busy) for one in given].count(True) == 1
    assert all(isinstance(one.future.exception(1), errors.Busy) for one in given if not isinstance(one, errors.Busy))


@pytest.mark.parametrize(("error", "heading"), [
    (errors.Busy("few", got="many", next_step="Wait.", code="busy", limit=2, waiting=2, model="zh-en"),
     "The model is busy"),
    (errors.InvalidPrompt("a word", got="香蕉", next_step="Choose.", code="word_absent", text="香蕉", side="source"),
     "This request cannot be run"),
    (errors.OutOfMemory("a fit", got="none", next_step="Shorten.", code="out_of_memory", device="cuda"),
     "The memory ran out"),
])
def test_refusals_are_told_and_are_not_kept(monkeypatch, error, heading):
    def fail(self, *given, **options):
        future: Future = Future()
        future.set_exception(error)
        return future

    monkeypatch.setattr(LocalEngine, "start_evidence", fail)
    page = visit()
    assert heading in shown(page) and not page.exception
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make()))
    assert not page.run().error


def test_a_fault_shows_an_id_and_no_traceback(monkeypatch, caplog):
    def fail(self, *given, **options):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(LocalEngine, "start_evidence", fail)
    page = visit()
    assert "Something went wrong here" in shown(page) and "secret detail" not in shown(page)
    assert "secret detail" in caplog.text


def test_one_word_is_no_question_yet(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make(), asked))
    page = visit(text="我喜欢吃苹果", query="苹果")
    assert "Click two words" in shown(page) and not asked and not page.error


def test_no_sentence_says_what_to_do(monkeypatch):
    page = visit(text=" ")
    assert "pick a ready question" in shown(page) and not page.exception


def test_an_address_of_nonsense_falls_back(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make(), asked))
    page = visit(text="我喜欢吃苹果", query="苹果", key="吃", query_in="sideways", query_at="9-1", key_at="x",
                 output_word="1-2-3", compare="everything", measure="furlongs")
    assert not page.exception and not page.error
    assert (asked[0]["query"], asked[0]["query_in"], asked[0]["output_word"]) == ("苹果", "source", None)


def test_another_output_word_is_asked_for(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make(), asked))
    page = visit()
    page.selectbox(key="output_word").set_value("10-13").run()
    assert asked[-1]["output_word"] == (10, 13)


def test_two_sentences_stand_side_by_side(monkeypatch):
    asked: list = []
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make(), asked))
    page = visit(text="我喜欢吃苹果", query="苹果", key="吃", compare="sentence", second="我喜欢用苹果")
    assert not page.exception and not page.error
    assert [(one["prompt"].text, one["key"]) for one in asked] == [("我喜欢吃苹果", "吃"), ("我喜欢用苹果", "用")]
    assert sum(box.value.startswith("**Yes.**") for box in page.markdown) == 2


def test_a_second_sentences_own_run_is_shown_before_it_is_asked(monkeypatch):
    """`start_evidence` waits for it in silence; the page follows it first."""
    order: list[str] = []
    start, answer = LocalEngine.start, answered(make())

    def noted(self, prompt):
        order.append(f"run {prompt.text}")
        return start(self, prompt)

    def asked(self, prompt, *given, **options):
        order.append(f"ask {prompt.text}")
        return answer(self, prompt, *given, **options)

    monkeypatch.setattr(LocalEngine, "start", noted)
    monkeypatch.setattr(LocalEngine, "start_evidence", asked)
    visit(text="我喜欢吃苹果", query="苹果", key="吃", compare="sentence", second="我喜欢用苹果")
    assert order[-2:] == ["run 我喜欢用苹果", "ask 我喜欢用苹果"]


@pytest.mark.parametrize(("model", "query", "key"), [("gpt2", "苹果", "吃"), ("bert", "苹果", "吃")])
def test_other_families_are_asked_for_real(monkeypatch, tmp_path, model, query, key):
    tiny.save(model, tmp_path / model)
    monkeypatch.setenv("ATTENTION_MODELS", str(tmp_path))
    monkeypatch.setenv("ATTENTION_CACHE", str(tmp_path / "references"))
    runtime.engine.clear()
    try:
        page = visit(model=model, text="我喜欢吃苹果", query=query, key=key)
        assert not page.exception and not page.error, shown(page)
        evidence = runtime.engine().evidence(Prompt(model, "我喜欢吃苹果"), query, key)
        said = next(box.value for box in page.markdown if "nats" in box.value)
        assert evidence_texts.sentence(evidence, language.translator(language.ENGLISH)) == said
    finally:
        runtime.engine.clear()
