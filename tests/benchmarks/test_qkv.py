"""What a person waits for on the Q·K·V page: from a key to the next step, or to another head."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.benchmarks import repaint, zh_en

TEXT = "我喜欢吃苹果"


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator:
    """The page about one head, at the first step."""
    address = f"qkv?lang=en&model={zh_en.NAME}&text={TEXT}&stream=encoder&layer=2&head=1&row=3&column=2&step=embed"
    with repaint.opened(tmp_path_factory.mktemp("head"), address, until=".st-key-stepper") as page:
        page.locator(".js-plotly-plot").first.wait_for()
        yield page


def test_a_step_forward_and_back(head, report):
    head.locator("h1").click()
    found = repaint.keys(head, ["ArrowRight"] * 6 + ["ArrowLeft"] * 6, ["[data-testid=stCode]"])
    report("Q·K·V: arrow key → next step's numbers and pictures", repaint.line(found), "≤ 0.3 s")


def test_another_head(head, report):
    head.get_by_role("radio", name="5 softmax").click()
    head.locator(".st-key-picture-weights .js-plotly-plot").wait_for()
    head.wait_for_timeout(1_000)
    pressed = ["ArrowRight"] * 2 + ["ArrowLeft"] * 3
    found = repaint.moves(head, "head", pressed, [".st-key-picture-weights", ".st-key-picture-row-weights"])
    report("Q·K·V: slider “head” → pattern and row", repaint.line(found), "≤ 0.3 s")
