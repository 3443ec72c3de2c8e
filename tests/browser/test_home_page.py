"""The first page: a card leads to its page, a sentence to its heads, and every card has a live figure."""

from __future__ import annotations

import re

PAGES = {"qkv": "Q·K·V", "positions": "Positions", "normalization": "Why LayerNorm", "evidence": "Evidence",
         "memory": "Memory and the KV cache"}
LAST_CARD = ".st-key-card-5 .js-plotly-plot"
GRID = ".st-key-grid .am-grid[data-digest]"


def nothing_sticks_out_of_the_page_or_its_bar(page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    labels = page.locator("header .stMarkdownEllipsis")
    assert labels.count() > 3
    assert max(labels.evaluate_all("all => all.map((label) => label.getBoundingClientRect().height)")) < 40


def five_cards_have_figures_and_lead_to_their_pages(page) -> None:
    for number in range(1, 6):
        assert page.locator(f".st-key-card-{number} .js-plotly-plot path").count() > 0
    assert page.get_by_test_id("stAlert").count() == 0
    cards = page.get_by_test_id("stPageLink-NavLink")
    links = cards.evaluate_all("all => all.map((link) => link.getAttribute('href'))")
    assert [link.split("?")[0].strip("/") for link in links] == list(PAGES)


#: The text's and the button's colours, once they no longer change.
COLOURS = """async (button) => {
  await Promise.all(button.getAnimations().map((one) => one.finished));
  const { color, backgroundColor } = getComputedStyle(button);
  return [color, backgroundColor];
}"""


def the_primary_buttons_text_can_be_read(page) -> None:
    page.mouse.move(0, 0)
    button = page.get_by_role("button", name="Look inside")
    for reach in (lambda: None, button.hover):
        reach()
        colours = button.evaluate(COLOURS)
        ink, ground = sorted(map(_luminance, colours))
        assert (ground + 0.05) / (ink + 0.05) > 4.5, colours


def _luminance(colour: str) -> float:
    """Relative luminance of "rgb(…)", by WCAG 2.2."""
    levels = [int(level) / 255 for level in re.findall(r"\d+", colour)[:3]]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return sum(share * each for share, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_from_the_first_page_to_every_head_of_a_sentence_and_back(page, app_url, settled):
    """In the dark on a narrow screen, switched to English; back by the bar, with the lights on, in Chinese, wide."""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 820, "height": 900})
    page.goto(f"{app_url}/?lang=zh")
    page.locator(LAST_CARD).wait_for()
    settled(page)
    page.get_by_role("radio", name="English", exact=True).click()
    page.get_by_role("button", name="Look inside").wait_for()
    settled(page)
    five_cards_have_figures_and_lead_to_their_pages(page)
    nothing_sticks_out_of_the_page_or_its_bar(page)
    the_primary_buttons_text_can_be_read(page)  # a form's button
    page.get_by_label("Sentence").fill("他每天吃一个苹果")
    page.get_by_role("button", name="Look inside").click()
    page.locator(GRID).wait_for()
    assert page.get_by_label("Sentence").input_value() == "他每天吃一个苹果"
    assert "/attention?lang=en" in page.url
    settled(page)
    the_primary_buttons_text_can_be_read(page)  # a plain one
    page.emulate_media(color_scheme="light")
    page.locator(f"{GRID}[data-theme=light]").wait_for()
    settled(page)
    the_primary_buttons_text_can_be_read(page)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("link", name="Five questions").first.click()
    page.locator(LAST_CARD).wait_for()
    page.get_by_role("radio", name="中文", exact=True).click()
    page.get_by_role("button", name="查看内部").wait_for()
    settled(page)
    nothing_sticks_out_of_the_page_or_its_bar(page)
