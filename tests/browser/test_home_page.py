"""The first page: a sentence leads to its heads, a card to its page, and every card has a live figure."""

from __future__ import annotations

import pytest

PAGES = {"qkv": "Q·K·V", "positions": "Positions", "normalization": "Why LayerNorm", "evidence": "Evidence",
         "memory": "Memory and the KV cache"}


def test_a_sentence_typed_on_the_first_page_is_seen_in_every_head(page, app_url, settled):
    page.goto(f"{app_url}/?lang=en")
    settled(page)
    page.get_by_label("Sentence").fill("他每天吃一个苹果")
    page.get_by_role("button", name="Look inside").click()
    page.locator(".st-key-grid .am-grid[data-digest]").wait_for()
    assert page.get_by_label("Sentence").input_value() == "他每天吃一个苹果"
    assert "/attention" in page.url


def test_five_cards_have_figures_and_lead_to_their_pages(page, app_url, settled):
    page.goto(f"{app_url}/?lang=en")
    page.locator(".st-key-card-5 .js-plotly-plot").wait_for()
    settled(page)
    for number in range(1, 6):
        assert page.locator(f".st-key-card-{number} .js-plotly-plot path").count() > 0
    assert page.get_by_test_id("stAlert").count() == 0
    cards = page.get_by_test_id("stPageLink-NavLink")
    links = cards.evaluate_all("all => all.map((link) => link.getAttribute('href'))")
    assert [link.split("?")[0].strip("/") for link in links] == list(PAGES)


@pytest.mark.parametrize(("width", "language"), [(1440, "zh"), (820, "en")])
def test_nothing_sticks_out_of_the_page_or_its_bar(page, app_url, settled, width, language):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{app_url}/?lang={language}")
    page.locator(".st-key-card-5 .js-plotly-plot").wait_for()
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    labels = page.locator("header .stMarkdownEllipsis")
    assert labels.count() > 3
    assert max(labels.evaluate_all("all => all.map((label) => label.getBoundingClientRect().height)")) < 40
