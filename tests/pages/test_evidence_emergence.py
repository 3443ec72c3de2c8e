"""When the model learnt it, in words: what is said of each course that a question can take over the training."""

from __future__ import annotations

import json
from concurrent.futures import Future

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import Emergence, LocalEngine, Progress, errors
from engine.emergence_types import Moment
from engine.evidence.emergence import since
from pages.widgets import evidence_emergence, evidence_report, evidence_run, language
from tests.evidence_value import make
from tests.pages.test_evidence_states import answered, shown, visit

ENGLISH = language.translator(language.ENGLISH)


def moment(step: int, *, hide: float = 0.0, cut: float = 0.0, mass: float = .2, output: str = "I like.") -> Moment:
    attention = np.full((3, 4), .1, np.float32)
    attention[2, 1] = mass
    return Moment(
        step=step, epoch=step / 100, output=output, value=-1.5, cut=cut, hide=hide,
        control_deltas=(("我", -.01), ("喜欢", .03)), hide_control_deltas=(("我", -.1), ("喜欢", .3)),
        cut_counts=cut <= -.1, hide_counts=hide <= -.6, attention=attention)


def course(*moments: Moment) -> Emergence:
    return Emergence(make(), moments, cut_since=since([one.cut_counts for one in moments]),
                     hide_since=since([one.hide_counts for one in moments]))


def test_what_came_to_stay_is_dated():
    told = evidence_emergence.headline(course(
        moment(0), moment(100, mass=.87), moment(1200, hide=-1.26, mass=.5), moment(8000, hide=-2.74, mass=.46),
    ), ENGLISH)
    assert told.startswith('**Hiding "吃" counts from step 1,200 on** (epoch 12.0)')
    assert "by −1.26 nats (other words: 0.20)" in told and "in the finished model by −2.74 (other words: 0.20)" in told
    assert "moves log p(apples) from −0.05 to −2.45" in told
    assert "alone does not count in the finished model: 0.00 nats (other words: 0.02)" in told
    assert "0.20 at step 0, 0.87 at step 100, 0.50 at step 1,200, 0.46 at step 8,000 (uniform: 0.20)" in told


def test_the_edge_has_a_date_of_its_own():
    told = evidence_emergence.headline(course(
        moment(0), moment(100, hide=-1.0), moment(1200, hide=-1.2, cut=-.9)), ENGLISH)
    assert "from step 100 on" in told and "Cutting the edge A → B alone counts from step 1,200 on." in told


@pytest.mark.parametrize(("hide", "why"), [
    (-.59, "Hiding \"吃\" does not count in the finished model: −0.59 nats, less than 3 times the other words' 0.20."),
    (-.05, 'Hiding "吃" does not count in the finished model: −0.05 nats.'),
    (.3, 'Hiding "吃" does not count in the finished model: +0.30 nats.'),
])
def test_a_cut_that_counts_is_dated_though_hiding_does_not_count(hide, why):
    """As in the verdict, either is use; without the cut this headline would deny what the table prints in bold."""
    told = evidence_emergence.headline(course(
        moment(0), moment(1200, cut=-.9), moment(8000, cut=-3.06, hide=hide)), ENGLISH)
    assert told.startswith("**Cutting the edge A → B counts from step 1,200 on** (epoch 12.0)")
    assert "in the finished model by −3.06 (other words: 0.02)" in told and why in told and "Neither" not in told


@pytest.mark.parametrize(("early", "said"), [({}, False), ({"hide": -1.0}, True), ({"cut": -1.0}, True)])
def test_what_did_not_stay_is_denied_and_what_went_is_told(early, said):
    told = evidence_emergence.headline(course(moment(0), moment(100, **early), moment(8000, hide=.3)), ENGLISH)
    assert told.startswith('**Neither cutting the edge nor hiding "吃" counts in the finished model**')
    assert "by 0.00 nats (other words: 0.02), hiding by +0.30 (other words: 0.20)" in told and "alone" not in told
    assert ("Earlier it did count, at 1 of the 3 snapshots, the last time at step 100." in told) is said


def test_the_report_holds_the_snapshots_that_were_asked():
    found = course(moment(0, output="two <b>"), moment(1200, hide=-1.26))
    asked, unasked = (evidence_report.html(found.evidence, None, one, measure="logprob", language=language.ENGLISH,
                                           theme="light", _=ENGLISH) for one in (found, None))
    assert asked.count('class="plotly-graph-div"') == unasked.count('class="plotly-graph-div"') + 2
    for words in ("<h2>When did the model learn it?</h2>", "<td>1,200</td>", "<td><b>−1.26</b></td>",
                  "<td>two &lt;b&gt;</td>", "counts from step 1,200 on"):
        assert words in asked and words not in unasked, words
    given = [json.loads(evidence_report.json(found.evidence, None, one))["snapshots"] for one in (found, None)]
    assert [one["step"] for one in given[0]] == [0, 1200] and given[0][1]["hide"] == -1.26 and given[1] is None


def answering(value) -> object:
    """A start_emergence that answers `value` at once, or raises it."""
    def start(self, evidence, *, on_progress):
        on_progress(Progress("snapshots", 1, 10))
        future: Future = Future()
        if isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)
        return future

    return start


@pytest.fixture
def page(monkeypatch) -> AppTest:
    evidence_run.answers.clear()
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make()))
    return visit()


def test_it_is_asked_on_request_and_the_table_holds_every_snapshot(page, monkeypatch):
    assert not page.exception and "counts from step" not in shown(page)
    monkeypatch.setattr(LocalEngine, "start_emergence", answering(course(
        moment(0, output="| <b>two</b> " + "two " * 40), moment(1200, hide=-1.26))))
    page.toggle(key="snapshots").set_value(True).run()
    assert not page.exception and not page.error and '**Hiding "吃" counts from step' in shown(page)
    table = next(box.value for box in page.markdown if "Training step" in box.value).splitlines()
    assert len(table) == 4 and table[2].endswith("… | −1.50 | 0.00 | 0.00 |")
    assert table[2].count("|") - table[2].count("\\|") == 7 and "<b>" not in table[2].replace("\\<b", "")
    assert "**−1.26**" in table[3]
    assert page.query_params["snapshots"] in ("True", ["True"])


def test_a_failure_is_told_and_the_rest_of_the_page_stays(page, monkeypatch):
    monkeypatch.setattr(LocalEngine, "start_emergence", answering(errors.Busy(
        "few", got="many", next_step="Wait.", code="busy", limit=2, waiting=2, model="zh-en")))
    page.toggle(key="snapshots").set_value(True).run()
    assert not page.exception and "The model is busy" in shown(page) and "How this was decided" in {
        box.label for box in page.expander}
    monkeypatch.setattr(LocalEngine, "start_emergence", answering(course(moment(0), moment(100, hide=-1.0))))
    page.run()
    assert "from step 100 on" in shown(page)


def test_a_model_without_snapshots_is_not_asked(monkeypatch):
    evidence_run.answers.clear()
    monkeypatch.setattr(LocalEngine, "start_evidence", answered(make()))
    monkeypatch.setattr(LocalEngine, "has_snapshots", lambda self, model: False)
    page = visit(snapshots="True")
    assert not page.exception and not [box for box in page.toggle if box.key == "snapshots"]
