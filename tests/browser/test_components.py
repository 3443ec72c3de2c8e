"""The canvas components in a real browser, on a page that holds nothing else (`harness_components.py`).

The pages' own tests check that real runs reach them; here planted arrays show
that a click, a key and a hover mean the cell they fall on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pages.figures import palette
from tests.browser.conftest import FOLDER, ROOT, free_port, wait_until_healthy

GRID = ".am-grid"
CHART = ".st-key-detail .js-plotly-plot"
BAND = f"{CHART} [data-am-band]"


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    """Address of the running harness page."""
    log = tmp_path_factory.mktemp("harness") / "log"
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(FOLDER / "harness_components.py"),
               "--server.port", str(port)]
    with log.open("wb") as written:
        process = subprocess.Popen(command, cwd=ROOT, stdout=written, stderr=subprocess.STDOUT,
                                   env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


@pytest.fixture
def opened(harness, page, settled):
    """Opens the harness with a query string and waits until everything is painted."""

    def open_case(query: str):
        page.goto(f"{harness}/?{query}")
        page.wait_for_selector(f"{GRID}[data-digest]")
        page.wait_for_selector(f"{CHART} .heatmaplayer .hm")
        settled(page)
        return page

    return open_case


@pytest.fixture
def turn(settled):
    """Turns the open harness to another case or order, and waits until the grid is painted anew."""

    def turn_to(page, control: str, choice: str) -> None:
        before = page.locator(GRID).get_attribute("data-digest")
        page.locator(f".st-key-{control}").get_by_text(choice, exact=True).click()
        page.wait_for_selector(f"{GRID}[data-digest]:not([data-digest='{before}'])")
        settled(page)

    return turn_to


def says(page, text: str) -> None:
    """Waits until the page's script has written `text`."""
    page.get_by_text(text, exact=True).wait_for()


def cell_centre(page, index: int, row: float, column: float, cells: int) -> tuple[float, float]:
    """Middle of a cell of the grid's head number `index`, in the viewport's pixels."""
    page.locator(".am-frame").nth(index).scroll_into_view_if_needed()
    box = page.locator(".am-frame").nth(index).bounding_box()
    return (box["x"] + 1 + (box["width"] - 2) * (column + 0.5) / cells,
            box["y"] + 1 + (box["height"] - 2) * (row + 0.5) / cells)


def pixel(page, index: int, row: float, column: float, cells: int) -> list[int]:
    """What the grid's canvas holds at the middle of a cell, RGB."""
    return page.evaluate(
        """([index, row, column, cells]) => {
            const root = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
                .map((host) => host.shadowRoot).find((shadow) => shadow.querySelector(".am-grid"));
            const canvas = root.querySelector("canvas");
            const frame = root.querySelectorAll(".am-frame")[index].getBoundingClientRect();
            const board = root.querySelector(".am-board").getBoundingClientRect();
            const scale = canvas.width / parseFloat(canvas.style.width);
            const x = frame.x - board.x + 1 + ((frame.width - 2) * (column + 0.5)) / cells;
            const y = frame.y - board.y + 1 + ((frame.height - 2) * (row + 0.5)) / cells;
            return [...canvas.getContext("2d").getImageData(x * scale, y * scale, 1, 1).data].slice(0, 3);
        }""", [index, row, column, cells])


def heat_cell(page, row: int, column: int) -> tuple[float, float]:
    """Middle of a heatmap cell in the viewport's pixels, by Plotly's own axes."""
    page.locator(CHART).scroll_into_view_if_needed()
    return tuple(page.evaluate(
        """([selector, row, column]) => {
            const chart = document.querySelector(selector);
            const { xaxis, yaxis } = chart._fullLayout;
            const box = chart.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.l2p(column), box.y + yaxis._offset + yaxis.l2p(row)];
        }""", [CHART, row, column]))


def marks_explain_themselves(page) -> None:
    chips = page.locator(".am-queries .am-chip")
    assert [chips.nth(i).get_attribute("data-flag") for i in range(5)] == ["", "unknown", "fallback", "", "special"]
    assert "模型不认识" in chips.nth(1).get_attribute("title")
    assert "拆成单字" in chips.nth(2).get_attribute("aria-label")
    assert chips.nth(1).locator(".am-mark").is_visible()


def hovering_a_cell_tells_its_weight_and_marks_it_in_every_view(page) -> None:
    page.mouse.move(*cell_centre(page, 0, 2, 1, 5))
    tip = page.locator(".am-tip")
    tip.wait_for()
    # exp(-1) over the row's sum, by hand: distances 2 1 0 1 2, and 3 more for key 0.
    scores = np.array([-2 + 3, -1, 0, -1, -2], dtype=float)
    weight = np.exp(scores[1]) / np.exp(scores).sum()
    assert f"吃 → 喜欢: 权重 {weight:.2f}" in tip.text_content()
    assert page.locator(".am-tokens").get_attribute("data-hover") == "2,1"
    assert page.locator(".am-lines").get_attribute("data-hover") == "2,1"
    assert page.locator(".am-queries .am-pointed").text_content().startswith("吃")
    assert page.locator(".am-keys .am-pointed").text_content() == "喜欢"
    assert page.locator(BAND).count() == 2
    page.mouse.move(5, 5)
    page.wait_for_timeout(50)
    assert page.locator(BAND).count() == 0
    assert page.locator(".am-lines").get_attribute("data-hover") == "null,null"


def lines_print_the_row_they_show(page) -> None:
    page.locator(".am-left .am-token").nth(1).hover()
    scores = np.array([-1 + 3, 0, -1, -2, -3], dtype=float)
    weights = np.exp(scores) / np.exp(scores).sum()
    shown = [float(text) for text in page.locator(".am-right .am-number").all_text_contents()]
    # Two decimals of a byte: half a byte and half a cent off at most.
    np.testing.assert_allclose(shown, weights, atol=1 / 508 + 0.005 + 1e-6)


def a_chip_points_by_mouse_and_by_key_and_chooses_a_row(page) -> None:
    page.locator(".am-keys .am-chip").nth(3).hover()
    assert page.locator(".am-lines").get_attribute("data-hover") == "null,3"
    band = page.locator(BAND)
    assert band.get_attribute("data-am-band") == "column"
    numbers = page.locator(".am-left .am-number").all_text_contents()
    assert len([number for number in numbers if number]) == 5
    page.locator(".am-queries .am-chip").nth(4).click()
    says(page, "row: 4")
    page.locator(".am-queries").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    says(page, "row: 2")
    assert page.locator(".am-chip[aria-selected=true]").text_content().startswith("吃")


def a_cross_head_has_other_tokens_on_its_axes(page) -> None:
    page.locator(".am-keys .am-chip").nth(3).hover()
    assert page.locator(".am-keys .am-pointed").text_content() == "苹果"
    assert page.locator(".am-queries .am-chip").count() == 6
    assert page.locator(".am-left .am-token").count() == 6


def causal_pixels_are_the_palettes(page, theme: str) -> None:
    """Row 0 of a causal head sees key 0 only: weight 1 there, masked everywhere else."""
    colours = palette.weight_colours(theme)
    assert pixel(page, 0, 0, 0, 9) == colours[255].tolist()
    assert pixel(page, 0, 0, 5, 9) in (colours[0].tolist(), colours[1].tolist())


def test_pointing_at_a_token_marks_it_in_every_view(opened, turn):
    page = opened("case=small")
    marks_explain_themselves(page)
    hovering_a_cell_tells_its_weight_and_marks_it_in_every_view(page)
    lines_print_the_row_they_show(page)
    a_chip_points_by_mouse_and_by_key_and_chooses_a_row(page)
    turn(page, "case", "cross")
    a_cross_head_has_other_tokens_on_its_axes(page)
    turn(page, "case", "hostile")
    causal_pixels_are_the_palettes(page, "light")


def keys_move_open_and_announce(page) -> None:
    board = page.locator(".am-board")
    board.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "End"):
        page.keyboard.press(key)
    active = page.locator(f"#{board.get_attribute('aria-activedescendant')}")
    assert active.get_attribute("aria-label").startswith("层 2 · 头 3,")
    assert "层 2 · 头 3" in page.locator(f"{GRID} [aria-live]").text_content()
    assert active.locator(".am-frame").evaluate("node => getComputedStyle(node).boxShadow") != "none"
    page.keyboard.press("Enter")
    says(page, "head: 2,3")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    says(page, "head: 1,3")
    assert board.get_attribute("role") == "grid"
    assert page.locator("[role=grid] [role=row] [role=gridcell]").count() == 12


def a_click_opens_the_head_it_falls_on(page, settled) -> None:
    page.mouse.click(*cell_centre(page, 6, 2, 2, 5))
    says(page, "head: 1,2")
    assert page.locator(".am-cell[aria-selected=true]").get_attribute("aria-label").startswith("层 1 · 头 2,")
    settled(page)
    assert page.locator(".am-cell[aria-selected=true]").count() == 1


def the_heatmap_sends_its_hover_also_after_it_was_made_anew(page, settled) -> None:
    page.mouse.move(*heat_cell(page, 3, 1))
    page.locator(".am-tokens[data-hover='3,1']").wait_for()
    assert page.locator(f"{CHART} .hoverlayer").text_content().startswith("\u2068苹果\u2069 → \u2068喜欢\u2069")
    page.mouse.click(*cell_centre(page, 5, 2, 2, 5))
    says(page, "head: 1,1")
    settled(page)
    page.mouse.move(*heat_cell(page, 4, 2))
    page.locator(".am-tokens[data-hover='4,2']").wait_for()
    row = page.locator(f"{CHART} [data-am-band=row]").bounding_box()
    x, y = heat_cell(page, 4, 2)
    assert row["y"] < y < row["y"] + row["height"]
    assert row["x"] < x < row["x"] + row["width"]


def a_strip_that_is_gone_leaves_nothing_behind(page) -> None:
    page.mouse.move(*cell_centre(page, 0, 2, 1, 5))
    page.locator(BAND).first.wait_for()
    page.get_by_text("tokens", exact=True).click()
    page.locator(".am-tokens").wait_for(state="detached")
    page.mouse.move(*cell_centre(page, 0, 3, 1, 5))
    page.locator(".am-lines[data-hover='3,1']").wait_for()
    assert page.locator(BAND).count() == 0
    page.mouse.move(*heat_cell(page, 4, 2))
    page.wait_for_timeout(300)
    assert page.locator(".am-lines").get_attribute("data-hover") == "null,null"


def a_sorted_grid_opens_the_head_shown_there_not_the_one_natural_order_has(page) -> None:
    page.mouse.click(*cell_centre(page, 0, 2, 2, 5))
    says(page, "head: 2,3")
    assert page.locator(".am-caption").first.text_content().startswith("L2 H3")


def test_a_head_is_opened_by_key_and_by_click_in_any_order(opened, turn, settled):
    page = opened("case=small")
    keys_move_open_and_announce(page)
    a_click_opens_the_head_it_falls_on(page, settled)
    the_heatmap_sends_its_hover_also_after_it_was_made_anew(page, settled)
    a_strip_that_is_gone_leaves_nothing_behind(page)
    turn(page, "order", "sorted")
    a_sorted_grid_opens_the_head_shown_there_not_the_one_natural_order_has(page)
    turn(page, "order", "empty")
    assert page.locator(".am-empty").text_content() == "没有符合条件的头"


def hostile_tokens_stay_text(page) -> None:
    page.mouse.move(*cell_centre(page, 0, 8, 0, 9))
    page.locator(".am-tip").wait_for()
    page.mouse.move(*heat_cell(page, 4, 0))
    page.locator(".am-tokens[data-hover='4,0']").wait_for()
    hover = page.locator(f"{CHART} .hoverlayer").text_content()
    assert hover.startswith("\u2068%{z}\u2069 → \u2068<img src=x onerror=window.__pwned=1>\u2069")
    assert page.evaluate("window.__pwned") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator(".am-queries .am-chip").nth(1).text_content() == "</s>"
    assert page.locator(f"{CHART} .yaxislayer-above .ytick, {CHART} .y2tick").count() == 9
    ticks = page.locator(f"{CHART} .y2tick").all_text_contents()
    assert ticks[1:4] == ["\u2068</s>\u2069", "\u2068<b>bold</b>\u2069", "\u2068&lt;\u2069"]


def test_hostile_tokens_in_both_themes(opened, page, settled):
    """Opened in the dark; then the lights go on and off again."""
    page.emulate_media(color_scheme="dark")
    opened("case=hostile")
    page.wait_for_selector(f"{GRID}[data-theme=dark]")
    causal_pixels_are_the_palettes(page, "dark")
    hostile_tokens_stay_text(page)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_selector(f"{GRID}[data-theme={theme}]")
        page.wait_for_selector(f".am-lines[data-theme={theme}]")
        causal_pixels_are_the_palettes(page, theme)


def test_nothing_overflows_and_every_head_is_there(opened, page, settled):
    """On a narrow screen, which then gets wide."""
    page.set_viewport_size({"width": 820, "height": 900})
    opened("case=large")
    every_head_is_inside(page, 820)
    narrow = page.locator(".am-board canvas").first.get_attribute("width")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_selector(f".am-board canvas:not([width='{narrow}'])")
    settled(page)
    every_head_is_inside(page, 1440)


def every_head_is_inside(page, width: int) -> None:
    assert page.locator(".am-cell").count() == 144
    grid = page.locator(GRID).bounding_box()
    last = page.locator(".am-frame").nth(143).bounding_box()
    assert last["x"] + last["width"] <= grid["x"] + grid["width"] + 1
    assert grid["x"] + grid["width"] <= width
    print(f"144 heads of 64 x 64 at {width} px: {page.locator(GRID).get_attribute('data-paint-ms')} ms")
