"""The attention page's states that a browser seldom meets: busy, out of memory, a fault of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import LocalEngine, errors

PAGE = str(Path(__file__).resolve().parents[2] / "app.py")


def opened() -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=60)
    test.query_params["lang"] = "en"
    return test.run()


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


def test_an_address_of_nonsense_falls_back(monkeypatch):
    test = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in {"lang": "en", "stream": "sideways", "layer": "999", "head": "x", "row": "-5",
                        "unit": "furlongs"}.items():
        test.query_params[name] = value
    page = test.run()
    assert not page.exception and not page.error
    assert any("Encoder self-attention · layer 0, head 0" in heading.value for heading in page.subheader)
