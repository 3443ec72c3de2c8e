"""What a page sends to a browser's controls: its values once, then nothing that could undo what a hand has moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine.streaming import Workbench

PAGE = str(Path(__file__).resolve().parents[2] / "app.py")
SENTENCE = "我喜欢吃苹果"
#: Page → what its address says beside the sentence.
ADDRESSES = {
    "attention": {"layer": "1", "unit": "tokens"},
    "qkv": {"step": "dot", "part": "walk", "neurons": "size", "row": "3", "column": "2"},
    "positions": {"order": "reverse", "encoding": "alibi", "n": "128"},
    "normalization": {"norm_axis": "batch", "norm_width": "128"},
    "evidence": {"query": "苹果", "key": "吃", "compare": "sentence"},
    "memory": {"kv_tokens": "4096", "kv_kind": "paged", "kv_from": "number"},
    "scaling": {},
}


@pytest.fixture(autouse=True)
def nothing_left_running(monkeypatch):
    """Ends what a page still builds networks for: they share torch's random numbers with other tests' models."""
    begun, start = [], Workbench.start

    def noted(bench: Workbench, values):
        begun.append(start(bench, values))
        return begun[-1]

    monkeypatch.setattr(Workbench, "start", noted)
    yield
    for streaming in begun:
        streaming.stop()
    assert all(streaming.wait(110) for streaming in begun)


def opened(page: str, address: dict[str, str]) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=110)
    for name, value in {"lang": "en", "text": SENTENCE, **address}.items():
        test.query_params[name] = value
    test.switch_page(f"pages/{page}.py").run()
    assert not test.exception and not test.error
    return test


def sent(test: AppTest) -> set[str]:
    """Keys of the controls that the last run told the browser to change."""
    found = set()
    for block in (test.main, test.sidebar):
        for element in block:
            if getattr(getattr(element, "proto", None), "set_value", False):
                found.add(element.proto.id.rsplit("-", 1)[-1])
    return found


@pytest.mark.parametrize("page", ADDRESSES)
def test_values_are_sent_with_the_first_run_only(page):
    address = ADDRESSES[page]
    test = opened(page, address)
    assert {"text", *address} & sent(test)
    assert sent(test.run()) == set()


def test_a_page_that_stops_for_want_of_a_sentence_sends_its_values_once_too():
    test = opened("scaling", {"text": " "})
    assert {"d_k", "n", "text"} <= sent(test)
    assert sent(test.run()) == set()


def test_a_slider_of_another_length_stands_where_the_one_before_it_stood():
    test = opened("positions", {})

    def move(label: str, value: int) -> None:
        next(one for one in test.slider if one.label == label).set_value(value).run()
        assert not test.error

    def at() -> int:
        return next(one for one in test.slider if one.label == "Position i").value

    move("Position i", 20)
    move("Positions n", 128)
    move("Position i", 5)
    move("Positions n", 8)  # positions 0 to 7: the last one of another length stood at 20
    assert at() == 5
    move("Positions n", 64)
    assert at() == 5


def test_a_second_press_of_forward_counts_though_the_browser_still_shows_the_step_before():
    test = opened("qkv", {"step": "dot"})
    before = test.session_state["step"]
    test.button(key="step-forward").click().run()
    assert test.session_state["step"] == "mask" and before == "dot"
    test.button_group(key="step").set_value(before)
    test.button(key="step-forward").click().run()
    assert test.session_state["step"] == "softmax"
