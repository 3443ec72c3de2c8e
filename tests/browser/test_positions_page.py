"""The positions page as a person uses it: two orders, every control of every encoding, the model's own, files."""

from __future__ import annotations

import csv
import io
import re
from urllib.parse import quote

import numpy as np
import pytest

from engine import LocalEngine, Prompt, positions, positions_lab
from pages.figures.frame import compact
from tests.engine import tiny

SENTENCE = "我喜欢吃苹果"
#: Every slider of every encoding, by its label in English.
SLIDERS = {
    "Sinusoids": ("Positions n", "Position i", "Width d", "Dimension", "Base", "Trained length"),
    "Learned table": ("Positions n", "Position i", "Width d", "Dimension"),
    "Rotation (RoPE)": ("Positions n", "Head width d", "Base", "Position i", "Trained length",
                        "Asked length, as a multiple"),
    "ALiBi": ("Positions n", "Position i", "Heads", "Head", "Trained length", "Asked length, as a multiple"),
    "T5 buckets": ("Positions n", "Position i", "Buckets", "Largest distance told apart"),
}


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """An engine of the test's own, to hold the page's numbers against."""
    return LocalEngine(device="cpu")


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"lang": "en", **parameters}.items())
    page.goto(f"{app_url}/positions?{query}")
    settled(page)
    page.get_by_role("heading", name=re.compile("From this model|当前模型")).wait_for()


def said(page) -> str:
    """The headline and the formula of the chosen encoding."""
    return page.locator(".st-key-said").inner_text()


def slider(page, label: str, *, within: str = ".st-key-answers"):
    """The handle of the slider under `label`; Streamlit gives it no name of its own."""
    name = page.get_by_test_id("stWidgetLabel").get_by_text(label, exact=True)
    return page.locator(within).get_by_test_id("stSlider").filter(has=name).get_by_role("slider")


def nudge(page, label: str, key: str = "ArrowRight", *, within: str = ".st-key-answers") -> None:
    slider(page, label, within=within).press(key)


def test_the_sentence_comes_along_and_is_read_in_two_orders(page, app_url, settled, engine):
    page.goto(f"{app_url}/attention?lang=en&text={quote(SENTENCE)}")
    settled(page)
    page.get_by_role("link", name="Positions", exact=True).first.click()
    problem = page.locator(".st-key-problem")
    problem.get_by_text("cannot tell the two orders apart").wait_for()
    assert page.locator("textarea").input_value() == SENTENCE
    settled(page)
    two_orders_with_positions_and_without(page, problem, engine)


def two_orders_with_positions_and_without(page, problem, engine) -> None:
    for order, label in (("swap ends", None), ("reverse", "reverse"), ("shuffle", "shuffle")):
        found = positions_lab.compare_orders(engine, Prompt("zh-en", SENTENCE), order=order)
        if label:
            problem.get_by_role("radio", name=label, exact=True).click()
        headline = problem.get_by_text("cannot tell the two orders apart").locator("xpath=ancestor::p")
        page.wait_for_function(
            "([box, text]) => box.innerText.includes(text)",
            arg=[problem.element_handle(), f"with positions it is {found.vector_residual_on:.2f}"])
        _digits, power = compact(found.vector_residual_off).split(" × ")
        assert f"× {power} of the largest value" in headline.inner_text()  # rounding: its power of ten
        cells = problem.locator("table").inner_text()
        assert found.on[1].output in cells and found.off[0].output == found.off[1].output
        assert cells.count(found.off[0].output) >= 2
    nudge(page, "Layer", within=".st-key-problem")
    nudge(page, "Head", within=".st-key-problem")
    maps = [run.patterns[1, 1] for run in found.on]
    at = np.array(found.permutation)
    problem.get_by_text(f"Layer 1, head 1: weights between the same two tokens differ by at most "
                        f"{np.abs(maps[1] - maps[0][np.ix_(at, at)]).max():.2f}").wait_for()
    nudge(page, "Shuffle number", within=".st-key-problem")
    assert positions_lab.compare_orders(engine, Prompt("zh-en", SENTENCE), order="shuffle", seed=1).same_text
    problem.get_by_text("Both orders are the same text; choose another order or sentence.").wait_for()
    nudge(page, "Shuffle number", within=".st-key-problem")
    other = positions_lab.compare_orders(engine, Prompt("zh-en", SENTENCE), order="shuffle", seed=2)
    problem.get_by_text(f"with positions it is {other.vector_residual_on:.2f}").wait_for()
    problem.get_by_text("Layer 1, head 1: weights between").wait_for()  # chosen before that detour
    problem.get_by_text("Put the other order's rows and columns back").click()
    problem.get_by_text("positions off: the other order, put back").wait_for()


def test_an_address_of_nonsense_falls_back_and_every_control_changes_a_number(page, app_url, settled):
    visit(page, app_url, settled, text="我", order="inside out", encoding="tea leaves", n="many", d=-5, base="x",
          at=10**9, length="0", source="99")
    page.get_by_text("at least two tokens to put in another order").wait_for()
    page.locator(".st-key-answers").get_by_text("waves turns once in").wait_for()
    page.locator(".st-key-own").get_by_text("adds 16 × 256 numbers").wait_for()
    assert "Traceback" not in page.content()
    alerts = page.locator('[data-testid="stAlert"]').count()
    answers = page.locator(".st-key-answers")
    for encoding, labels in SLIDERS.items():
        answers.get_by_role("radio", name=encoding, exact=True).click()
        settled(page)
        slider(page, labels[-1]).wait_for()
        for label in labels:
            a_control_changes_a_number(page, encoding, label)
        assert page.locator('[data-testid="stAlert"]').count() == alerts
    answers.get_by_role("radio", name="back only (decoder)").click()
    answers.get_by_text("Distances below 18 have a bucket each").wait_for()


def a_control_changes_a_number(page, encoding: str, label: str) -> None:
    before = said(page)
    nudge(page, label, "ArrowLeft" if label == "Trained length" else "ArrowRight")
    page.wait_for_function("([box, before]) => box.innerText !== before",
                           arg=[page.locator(".st-key-said").element_handle(), before])
    after = said(page)
    assert re.findall(r"[\d.,]+", after) != re.findall(r"[\d.,]+", before), f"{encoding}: {label}"


def test_what_the_model_really_uses(page, app, settled):
    for kind in ("llama", "t5", "bert"):
        if not (app.models / kind).exists():
            tiny.save(kind, app.models / kind)
    visit(page, app.url, settled, model="t5", text="abc def", source=1, length=128, encoding="learned")
    own = page.locator(".st-key-own")
    own.get_by_text("decoder.block.0.layer.0.SelfAttention.relative_attention_bias").first.wait_for()
    own.get_by_text("of 8 buckets are in use (backwards only)").wait_for()
    choose_model(page, "llama")
    own.get_by_text("turns 4 pairs (dimension j turns with j + d/2); called at 128 tokens").wait_for()
    page.get_by_text("the mask still tells the order").wait_for()
    choose_model(page, "bert")
    page.locator(".st-key-answers").get_by_text("The loaded model learned this table").wait_for()
    choose_model(page, "zh-en")
    own.get_by_text("adds 128 × 256 numbers that are sinusoids (all sines, then all cosines)").wait_for()
    settled(page)
    nudge(page, "Length of the call, in tokens", "ArrowLeft", within=".st-key-own")
    own.get_by_text("adds 64 × 256 numbers").wait_for()


def choose_model(page, name: str) -> None:
    """Picks a model from the list as a person would."""
    box = page.get_by_role("combobox", name="Model")
    box.click()
    box.fill(name)
    page.get_by_role("option", name=re.compile(f"^{name} ")).click()


def test_the_address_reopens_the_view_each_scaling_says_what_it_saves_and_files_hold_it(page, app_url, settled):
    visit(page, app_url, settled, text=SENTENCE, order="reverse", encoding="alibi", heads=12, layer=2, trained=512,
          factor=8, d=64)
    nudge(page, "Head")
    page.wait_for_function("location.search.includes('alibi_head=1')")
    the_address_reopens_the_view_in_the_other_language(page, settled)
    answers = page.locator(".st-key-answers")
    answers.get_by_role("radio", name="Rotation (RoPE)", exact=True).click()
    each_scaling_says_what_it_saves(answers)
    answers.get_by_role("radio", name="Sinusoids", exact=True).click()
    slider(page, "Dimension").wait_for()
    for _ in range(2):
        nudge(page, "Base", "ArrowLeft")
    slow = positions.wavelengths(positions.rope_frequencies(64, 100.0))[-1]
    answers.get_by_text(f"of 32 waves turns once in 6.28 positions, the slowest in {slow:,.0f}").wait_for()
    settled(page)
    files_hold_what_is_on_screen(page, answers, positions.sinusoidal(64, 64, base=100.0))


def the_address_reopens_the_view_in_the_other_language(page, settled) -> None:
    again = page.context.new_page()
    again.goto(page.url.replace("lang=en", "lang=zh"))
    settled(again)
    slope = positions.alibi_slopes(12)[1]
    again.get_by_text(f"第 1 头每远一个位置就从分数里扣 {slope:.4f}").wait_for()
    again.get_by_text("去掉位置，模型就分不清这两种顺序").wait_for()
    again.get_by_text("第 2 层，第 0 头").wait_for()
    assert again.get_by_role("radio", name="倒序").is_checked()
    again.wait_for_function("document.title.startsWith('位置编码')")
    again.close()


def each_scaling_says_what_it_saves(answers) -> None:
    headline = answers.get_by_text("16 of 32 pairs reach angles")
    headline.wait_for()
    assert "with scaling" not in headline.inner_text(), "without scaling there is nothing to compare"
    for name in ("linear", "NTK, dynamic", "YaRN", "llama3"):
        answers.get_by_role("radio", name=name, exact=True).click()
        answers.get_by_text(f'with scaling "{name}" it is 0.').wait_for()
    slow = 2 * np.pi / positions.rope_frequencies(64, scaling={
        "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0})[-1]
    answers.get_by_text(f"the slowest in {slow:,.0f}").wait_for()


def files_hold_what_is_on_screen(page, answers, table: np.ndarray) -> None:
    button = answers.get_by_role("button", name="Export")
    button.evaluate("element => element.scrollIntoView({block: 'center'})")
    button.click()
    menu = page.get_by_test_id("stPopoverBody")
    with page.expect_download() as started:
        menu.get_by_role("button", name="The table: a row is a position as CSV").click()
    rows = list(csv.reader(io.StringIO(started.value.path().read_text(encoding="utf-8-sig"))))
    assert rows[0] == ["position", *map(str, range(table.shape[1]))]
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows[1:]], table, atol=1e-12)
    with page.expect_download() as started:
        menu.get_by_role("button", name="All pictures as HTML (opens offline)").click()
    assert "One dimension" in started.value.path().read_text(encoding="utf-8")
