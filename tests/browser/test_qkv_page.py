"""The Q·K·V page as a person uses it: the seven steps by buttons, keys and clicks, and every part with its number."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt, circuits, knockouts
from engine.walk import walk
from pages.figures.frame import compact
from pages.widgets.texts import signed

SENTENCE = "我喜欢吃苹果"
PLACE = {"text": SENTENCE, "stream": "encoder", "layer": 2, "head": 1, "row": 3, "column": 2}  # 苹果 → 吃


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """An engine of the test's own, to hold the page's numbers against."""
    return LocalEngine(device="cpu")


@pytest.fixture(scope="module")
def found(engine):
    return walk(engine, Prompt("zh-en", SENTENCE), Head("encoder", 2, 1))


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in {"lang": "en", **PLACE, **parameters}.items())
    page.goto(f"{app_url}/qkv?{query}")
    settled(page)


def shows(page, text: str) -> None:
    page.get_by_text(text).first.wait_for()


def the_address_reopens_the_step_in_either_language(page, found) -> None:
    shows(page, f"{found.query.after.shape[1]} 个乘积加起来是 {signed(found.products[3, 2], 3)}")
    assert page.get_by_role("radio", name="乘积从大到小").is_checked()
    page.get_by_role("radio", name="English", exact=True).click()
    shows(page, f"{found.query.after.shape[1]} products add up to {signed(found.products[3, 2], 3)}")


def export_holds_the_steps_numbers(page, found) -> None:
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as caught:
        page.get_by_role("button", name="as CSV").first.click()
    rows = list(csv.DictReader(io.StringIO(caught.value.path().read_text(encoding="utf-8-sig"))))
    assert len(rows) == found.query.after.shape[1]
    total = sum(float(row["qᵢkᵢ"]) for row in rows)
    assert total == pytest.approx(float(found.products[3, 2]), abs=1e-3)
    page.keyboard.press("Escape")  # closes the menu


def seven_steps_by_buttons_and_arrow_keys_with_one_pair(page, settled, found) -> None:
    shows(page, f"enters the model as {found.d_model} numbers")
    page.get_by_role("button", name="Forward").click()
    shows(page, f"asks with q (length {np.linalg.norm(found.query.after[3]):.2f})")
    settled(page)
    page.keyboard.press("ArrowRight")
    shows(page, f"{found.query.after.shape[1]} products add up to {signed(found.products[3, 2], 3)}")
    settled(page)
    page.keyboard.press("ArrowRight")
    shows(page, f"= {signed(found.scaled[3, 2], 3)}.")
    settled(page)
    page.keyboard.press("ArrowRight")
    shows(page, f"吃 gets {found.weights[3, 2]:.3f}")
    settled(page)
    page.keyboard.press("ArrowRight")
    shows(page, f"with a weight of {found.weights[3, 2]:.3f}")
    settled(page)
    page.get_by_role("button", name="Forward").click()
    shows(page, f"this head's part has length {found.parts_out[1, 3]:.2f}")
    shows(page, "Held against the model's own tensors in this run")
    assert page.get_by_role("button", name="Forward").is_disabled()
    settled(page)
    page.keyboard.press("ArrowLeft")
    shows(page, "with a weight of")
    page.wait_for_function("location.search.includes('step=mix') && location.search.includes('column=2')")


def a_click_on_a_cell_chooses_the_pair(page, settled, found) -> None:
    shows(page, f"吃 gets {found.weights[3, 2]:.3f}")
    box = page.locator(".st-key-picture-weights .js-plotly-plot .heatmaplayer image").first
    box.scroll_into_view_if_needed()
    size = box.bounding_box()
    page.mouse.click(size["x"] + size["width"] * 0.1, size["y"] + size["height"] * 0.3)  # row 1, column 0 of five
    shows(page, f"我 gets {found.weights[1, 0]:.3f}")
    page.wait_for_function("location.search.includes('row=1') && location.search.includes('column=0')")


def markup_in_the_text_stays_text(page) -> None:
    text = "我</s>喜欢<b>吃</b>"
    page.get_by_label("Sentence").fill(text)
    page.get_by_role("button", name="Look inside").click()
    page.wait_for_function("text => new URLSearchParams(location.search).get('text') === text", arg=text)
    shows(page, "supplies")
    page.locator(".st-key-pair").wait_for()
    assert page.locator(".st-key-pair b, .st-key-pair script").count() == 0


def test_a_link_to_one_step_and_from_there_through_all_seven(page, app_url, settled, found):
    visit(page, app_url, settled, lang="zh", step="dot", neurons="size")
    the_address_reopens_the_step_in_either_language(page, found)
    settled(page)
    export_holds_the_steps_numbers(page, found)
    page.get_by_role("button", name="Back").click()
    shows(page, "asks with q")
    settled(page)
    page.keyboard.press("ArrowLeft")
    seven_steps_by_buttons_and_arrow_keys_with_one_pair(page, settled, found)
    settled(page)
    page.keyboard.press("ArrowLeft")
    a_click_on_a_cell_chooses_the_pair(page, settled, found)
    settled(page)
    page.keyboard.press("ArrowRight")
    shows(page, "supplies")
    settled(page)
    markup_in_the_text_stays_text(page)


def test_every_part_leads_with_its_number(page, app_url, settled, engine, found):
    prompt = Prompt("zh-en", SENTENCE)
    visit(page, app_url, settled, part="roles", silenced="key")
    own = circuits.swap_roles(found)[0]
    shows(page, f"{own.asymmetry:.0%} of this head's scores are one-sided")
    effects = knockouts.replace_outputs(engine, prompt, found.head, [{1: circuits.silence(found, "key")[1]}])
    shows(page, f"The model's output changes by {compact(effects.mean()[0])} nats a word")
    page.get_by_text("Who looks (query)").wait_for()
    settled(page)
    page.get_by_role("radio", name="Where they fall short").click()
    shows(page, f"its rank is {circuits.spectrum(found.query, found.key).rank}, never more")
    shows(page, f"This head leaves {engine.summaries(prompt, 'encoder').sink_mass[2, 1]:.0%}")
    shows(page, "which is rounding")
    settled(page)
    page.get_by_role("radio", name="Why several heads").click()
    distances = circuits.head_distances(np.concatenate(engine.patterns(prompt, "encoder")))
    shows(page, f"heads differ by {distances[np.triu_indices(len(distances), 1)].mean():.2f} on average")
    settled(page)
    page.get_by_role("radio", name="Masks").click()
    shows(page, "the future leaks into the past")
    shows(page, "Only the decoder hides what comes later")
    settled(page)
    assert page.get_by_text("Who looks (query)").count() == 0  # nothing in this part is about the chosen pair
    leak, changed = knockouts.leak(engine, prompt)
    bars = page.locator(".st-key-picture-leak .trace.bars")
    bars.nth(1).locator("text").first.wait_for()
    assert [trace.locator("text").all_text_contents() for trace in bars.all()] == [
        [f"{value:.3f}" for value in values] for values in leak.change]
    assert max(leak.change[1]) > 0.1 > 1e-3 > max(leak.change[0]) and leak.change.shape == (2, changed)
    page.get_by_role("radio", name="padding", exact=True).click()
    shows(page, f"Unhidden they draw {knockouts.pad(engine, prompt, found.head).mass:.0%} of this head's weight")
    settled(page)
    page.get_by_role("radio", name="cross", exact=True).click()
    shows(page, "Cross-attention masks nothing")
