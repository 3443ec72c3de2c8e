"""The evidence page as a person uses it: two clicks to a verdict, whose numbers are the engine's."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
import pytest
import safetensors.torch
import torch

from engine import LocalEngine, Prompt
from pages.widgets import evidence_emergence, evidence_texts, language
from pages.widgets.evidence_texts import plain
from pages.widgets.texts import signed
from tests.engine import oracle, tiny

SENTENCE = "我喜欢吃苹果"
ENGLISH, CHINESE = (language.translator(each) for each in (language.ENGLISH, language.CHINESE))


@pytest.fixture(scope="module")
def engine(app) -> Iterator[LocalEngine]:
    """An engine of the test's own, to hold the page's numbers against; it may read the app's reference statistics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_CACHE", str(app.models.parent / "references"))
        yield LocalEngine(device="cpu")


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"lang": "en", **parameters}.items())
    page.goto(f"{app_url}/evidence?{query}")
    settled(page)


def word(page, text: str, side: str = "Sentence"):
    return page.get_by_role("toolbar", name=side).get_by_role("button", name=re.compile(rf"^([AB]: )?{text}$"))


def verdict(page, evidence, *, key: str = "verdict") -> str:
    """Waits until the verdict's box holds the three numbers of `evidence`; returns its text."""
    box = page.locator(f".st-key-{key}")
    cut, _control, hide, _hidden = evidence_texts.judged(evidence)
    box.get_by_text(evidence_texts.name(evidence, ENGLISH)[0], exact=True).wait_for()
    box.get_by_text(signed(cut), exact=True).first.wait_for()
    box.get_by_text(signed(hide), exact=True).first.wait_for()
    return box.inner_text()


def in_address(page, **values: str) -> None:
    for name, value in values.items():
        page.wait_for_function("([name, value]) => new URLSearchParams(location.search).get(name) === value",
                               arg=[name, value])


def download(page, name: str):
    with page.expect_download() as started:
        page.get_by_role("button", name=name).click()
    return started.value


def test_two_clicks_ask_other_words_are_tried_and_the_keyboard_asks_of_the_output(page, app_url, settled, engine):
    visit(page, app_url, settled, text=SENTENCE)
    page.get_by_text("Click two words").wait_for()
    two_clicks_ask_and_the_answer_is_the_engines(page, engine)
    a_word_is_swapped_for_another(page, engine)
    the_keyboard_asks_too_and_the_output_may_look(page, engine)


def two_clicks_ask_and_the_answer_is_the_engines(page, engine) -> None:
    word(page, "苹果").click()
    page.get_by_text("Now click B").wait_for()
    word(page, "吃").click()
    evidence = engine.evidence(Prompt("zh-en", SENTENCE), "苹果", "吃")
    text = verdict(page, evidence)
    mass = (evidence.carriers_mass if evidence.carriers_attend and not evidence.attending.any()
            else evidence.attention[evidence_texts.strongest_head(evidence)])
    assert plain(mass) in text and '"苹果"' in text and '"吃"' in text
    in_address(page, query="苹果", key="吃", text=SENTENCE)
    pair = page.locator(".st-key-pair .am-pair")
    start_x, start_y, end_x, end_y = map(int, pair.get_attribute("data-arrow").split(","))
    assert start_x > end_x and start_y == end_y, "from 苹果, on the right, to 吃"


def a_word_is_swapped_for_another(page, engine) -> None:
    field = page.get_by_role("textbox", name="Put in B's place")
    field.fill("用，卖")
    field.press("Enter")
    in_address(page, instead="用，卖")
    evidence = engine.evidence(Prompt("zh-en", SENTENCE), "苹果", "吃", replacements=("用", "卖"))
    chosen = [f"{each.word} → {each.output}" for each in evidence.replacements if each.origin == "chosen"]
    chart = page.locator(".st-key-evidence-needed")
    chart.get_by_text(chosen[0][:4]).first.wait_for()
    labels = [text.strip("\u2068\u2069") for text in chart.locator(".ytick text").all_text_contents()]
    assert labels[0].startswith("吃 → ")
    for full, shown in zip(chosen, labels[1:], strict=False):  # what a long one leaves out, "…" stands for
        assert re.fullmatch(".*".join(map(re.escape, shown.split("…"))), full), (full, shown)
    page.get_by_role("button", name="⇄").click()
    in_address(page, query="吃", key="苹果")
    page.get_by_role("textbox", name="Put in B's place").fill("")
    page.get_by_role("textbox", name="Put in B's place").press("Enter")
    verdict(page, engine.evidence(Prompt("zh-en", SENTENCE), "吃", "苹果"))


def the_keyboard_asks_too_and_the_output_may_look(page, engine) -> None:
    output = page.get_by_role("toolbar", name="Output")
    output.get_by_role("button").first.focus()
    for key in ["ArrowRight"] * 4 + ["Enter"]:
        page.keyboard.press(key)
    assert word(page, "I", "Output").is_disabled(), "B is a word of the sentence"
    word(page, "我").focus()
    for key in ["End", "Enter"]:
        page.keyboard.press(key)
    trace = engine.trace(Prompt("zh-en", SENTENCE))
    asked = trace.tokens("cross").query_words[4].text
    in_address(page, query=asked, key="苹果", query_in="output")
    verdict(page, engine.evidence(Prompt("zh-en", SENTENCE), asked, "苹果", query_in="output"))


def test_a_permalink_in_the_other_language_and_when_the_model_learnt_it(page, app_url, settled, engine):
    visit(page, app_url, settled, text="我买了苹果的股票", query="苹果", key="股票", contrast="apple", lang="zh")
    evidence = engine.evidence(Prompt("zh-en", "我买了苹果的股票"), "苹果", "股票", contrast="apple")
    box = page.locator(".st-key-verdict")
    box.get_by_text(evidence_texts.name(evidence, CHINESE)[0], exact=True).wait_for()
    box.get_by_text(signed(evidence.margin_delta), exact=True).first.wait_for()
    in_address(page, contrast="apple")
    again = page.context.new_page()
    again.goto(page.url.replace("lang=zh", "lang=en"))
    settled(again)
    verdict(again, evidence)
    the_snapshots_say_when_it_was_learnt(again, engine.emergence, evidence)


def the_snapshots_say_when_it_was_learnt(page, emergence, evidence) -> None:
    page.get_by_text("Ask the snapshots of its training").click()
    found = emergence(evidence)
    page.get_by_text(evidence_emergence.headline(found, ENGLISH).replace("**", "")[:60]).wait_for(timeout=60_000)
    in_address(page, snapshots="True")
    rows = page.get_by_role("table").last.get_by_role("row")
    assert rows.count() == len(found.moments) + 1
    for row, moment in zip(rows.all()[1:], found.moments, strict=True):
        cells = row.get_by_role("cell").all_inner_texts()
        assert cells[0] == f"{moment.step:,}" and cells[3:] == [
            signed(moment.value), signed(moment.hide), signed(moment.cut)]
    page.get_by_role("button", name="Export").click()
    table = list(csv.DictReader(io.StringIO(
        download(page, "Every snapshot as CSV").path().read_text(encoding="utf-8-sig"))))
    for row, moment in zip(table, found.moments, strict=True):
        assert float(row["hide"]) == pytest.approx(moment.hide, abs=2e-4)
        assert float(row["mass_L2_H0"]) == pytest.approx(moment.attention[2, 0], abs=1e-5)


def test_two_sentences_are_downloaded_and_a_ready_question_is_one_click(page, app_url, settled, engine, tmp_path):
    visit(page, app_url, settled, text=SENTENCE, query="苹果", key="吃", compare="sentence", second="我喜欢用苹果")
    first = engine.evidence(Prompt("zh-en", SENTENCE), "苹果", "吃")
    second = engine.evidence(Prompt("zh-en", "我喜欢用苹果"), "苹果", "用")
    verdict(page, first, key="verdict-first")
    verdict(page, second, key="verdict-second")
    the_numbers_are_downloaded(page, first, second)
    the_report_opens_offline(page, first, second, tmp_path / "report.html")
    page.get_by_role("button", name="Does 苹果 need 我").or_(
        page.get_by_role("radio", name="Does 苹果 need 我")).first.click()
    in_address(page, query="苹果", key="我")
    verdict(page, engine.evidence(Prompt("zh-en", SENTENCE), "苹果", "我"))
    page.get_by_text("A control").wait_for()


def the_numbers_are_downloaded(page, first, second) -> None:
    given = json.loads(download(page, "Every number as JSON").path().read_text(encoding="utf-8"))
    for name, evidence in (("evidence", first), ("compared_with", second)):
        assert given[name]["verdict"] == evidence.verdict
        np.testing.assert_allclose(given[name]["attention"], evidence.attention, atol=1e-6)
        np.testing.assert_allclose(given[name]["delta_logprob"], evidence.delta_logprob, atol=1e-5)
        np.testing.assert_allclose(given[name]["delta_by_head"], evidence.delta_by_head, atol=1e-5)


def the_report_opens_offline(page, first, second, report) -> None:
    download(page, "Report as HTML").save_as(report)
    offline = page.context.new_page()
    requests: list[str] = []
    offline.on("request", lambda request: requests.append(request.url))
    offline.goto(report.as_uri())
    offline.locator(".js-plotly-plot .main-svg").nth(7).wait_for(state="attached")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    text = offline.inner_text("body")
    assert signed(first.delta_logprob) in text and signed(second.hide_delta) in text and "我喜欢用苹果" in text
    offline.close()


def test_an_absent_word_is_told_and_other_models_stand_beside_the_first(page, app, app_url, settled, engine):
    tiny.save("marian", app.models / "evidence-marian")
    save_twin(app.models / "evidence-twin")
    visit(page, app_url, settled, text=SENTENCE, query="苹果", key="香蕉")
    alert = page.get_by_test_id("stAlert").filter(has_text="香蕉")
    alert.wait_for()
    assert "What to do" in alert.inner_text() and "Traceback" not in page.content()
    word(page, "苹果").click()
    word(page, "吃").click()
    first = engine.evidence(Prompt("zh-en", SENTENCE), "苹果", "吃")
    verdict(page, first)
    others = LocalEngine(folder=app.models, device="cpu")
    page.get_by_text("Beside another model", exact=True).click()
    settled(page)
    another_shape_stands_beside_the_first(page, first, beside(page, others, first, "evidence-marian"))
    models_of_one_shape_are_subtracted_head_by_head(page, first, beside(page, others, first, "evidence-twin"))


def beside(page, engine, first, name: str):
    """Chooses the model `name` from the list as a person would; returns its evidence once both verdicts are shown."""
    field = page.get_by_role("combobox", name="Second model")
    field.click()
    field.fill(name)
    page.get_by_role("option", name=name).first.click()
    in_address(page, compare="model", second_model=name)
    second = engine.evidence(Prompt(name, SENTENCE), "苹果", "吃")
    verdict(page, first, key="verdict-first")
    verdict(page, second, key="verdict-second")
    return second


def another_shape_stands_beside_the_first(page, first, second) -> None:
    row = page.locator("tr").filter(has_text="Edge cut, nats")
    assert row.locator("td").all_inner_texts()[1:] == [signed(each.delta_logprob) for each in (first, second)]
    assert first.attention.shape != second.attention.shape
    page.get_by_text("do not pair up").wait_for()
    assert page.locator(".st-key-columns-difference").count() == 0


def models_of_one_shape_are_subtracted_head_by_head(page, first, second) -> None:
    """The second is the first with noise on its weights; the maps hold the second's numbers less the first's."""
    maps = page.locator(".st-key-columns-difference .js-plotly-plot")
    maps.nth(1).wait_for()
    for at, wanted in enumerate((second.attention - first.attention, second.delta_by_head - first.delta_by_head)):
        shown = maps.nth(at).evaluate("plot => plot.calcdata[0][0].z.map(row => Array.from(row))")
        np.testing.assert_allclose(np.array(shown, float), wanted, atol=1e-4)
        assert np.abs(wanted).max() > 1e-3


def save_twin(folder) -> None:
    """The embedded model with noise on its weights."""
    shutil.copytree(oracle.ASSETS / "zh-en", folder, ignore=shutil.ignore_patterns("snapshots"))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    noise = torch.Generator().manual_seed(0)
    safetensors.torch.save_file({
        name: weight + (0.02 * torch.randn(weight.shape, generator=noise)).to(weight.dtype)
        for name, weight in weights.items()
    }, folder / "model.safetensors", metadata={"format": "pt"})
