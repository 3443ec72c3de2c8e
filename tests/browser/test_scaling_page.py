"""The scaling page as a person uses it: every control moves a number, and every number is the engine's."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote

import numpy as np
import pytest

from engine import LocalEngine, Prompt, saturation
from engine import scaling as lab
from pages.figures.frame import compact

SENTENCE = "我喜欢吃苹果"
N_ROWS = 500
ONE = lab.MULTIPLIERS.index(1.0)


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """An engine of the test's own, to hold the page's numbers against."""
    return LocalEngine(device="cpu")


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    return Prompt("zh-en", SENTENCE)


def visit(page, app_url, settled, **parameters) -> None:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in
                     {"lang": "en", "text": SENTENCE, **parameters}.items())
    page.goto(f"{app_url}/scaling?{query}")
    # The last thing of either part.
    page.locator(f".st-key-scaling-{'in-model' if parameters.get('text', SENTENCE).strip() else 'by-chance'}-export") \
        .wait_for()
    settled(page)


def move(page, settled, key: str, presses: int) -> None:
    """Presses an arrow key as a person does who looks where each press has led."""
    slider = page.locator(f".st-key-{key}").get_by_role("slider")
    slider.focus()
    for _ in range(abs(presses)):
        slider.press("ArrowRight" if presses > 0 else "ArrowLeft")
        settled(page)


def row(page, name: str) -> list[str]:
    """The bold numbers of the table row whose first cell starts with `name`."""
    found = page.locator("tr", has=page.locator("td", has_text=name)).first
    return [text.strip() for text in found.locator("strong").all_text_contents()]


def expect_row(page, name: str, numbers: list[str]) -> None:
    """Waits until the table's row holds `numbers`."""
    page.wait_for_function(
        """([name, numbers]) => [...document.querySelectorAll('tr')].some((row) =>
            row.querySelector('td')?.textContent.startsWith(name) &&
            JSON.stringify([...row.querySelectorAll('strong')].map((cell) => cell.textContent.trim()))
                === JSON.stringify(numbers))""", arg=[name, numbers])


def by_chance(d_head: int, k_len: int, distribution: str) -> dict[str, list[str]]:
    """The rows of the table, from the engine's own functions."""
    pair = saturation.simulate(d_head, k_len, N_ROWS, distribution=distribution)
    entropy, largest, norm = zip(*(
        [float(np.median(values)) for values in saturation.softmax_stats(scores)] for scores in pair), strict=True)
    return {
        "variance of all scores together": [f"{scores.var():,.{0 if scores.var() >= 100 else 2}f}" for scores in pair],
        "entropy, nats": [f"{value:.3f}" for value in entropy],
        "largest weight": [f"{value:.3f}" for value in largest],
        "Jacobian norm": [compact(value) for value in norm],
    }


def test_every_control_of_the_part_by_chance_moves_its_numbers(page, app_url, settled):
    visit(page, app_url, settled, text=" ")  # without a sentence no model runs
    for name, numbers in by_chance(64, 128, "normal").items():
        assert row(page, name) == numbers
    largest = float(by_chance(64, 128, "normal")["largest weight"][0])
    page.get_by_text(f"takes {largest:.1%} of the weight without the division").wait_for()
    an_arrow_key_held_down_ends_where_it_was_let_go(page)
    for name, numbers in by_chance(256, 128, "normal").items():
        expect_row(page, name, numbers)
    settled(page)
    move(page, settled, "n", -2)
    for name, numbers in by_chance(256, 32, "normal").items():
        expect_row(page, name, numbers)
    page.get_by_role("radio", name="Laplace").click()
    for name, numbers in by_chance(256, 32, "laplace").items():
        expect_row(page, name, numbers)
    move(page, settled, "sample", 2)
    largest = [saturation.softmax(scores[2]).max() for scores in saturation.simulate(256, 32, N_ROWS,
                                                                                   distribution="laplace")]
    page.get_by_text(f"Softmax of row 2 without division: largest weight {largest[0]:.3f}").wait_for()
    page.get_by_text(f"Softmax of row 2 with division: largest weight {largest[1]:.3f}").wait_for()
    page.wait_for_function("location.search.includes('d_k=256') && location.search.includes('distribution=laplace')")
    assert page.get_by_role("dialog").count() == 0


def an_arrow_key_held_down_ends_where_it_was_let_go(page) -> None:
    # Each press starts a run that the next one interrupts; the browser must still hold whatever the server refers to.
    slider = page.locator(".st-key-d_k").get_by_role("slider")
    slider.focus()
    for key in (["ArrowRight"] * 4 + ["ArrowLeft"] * 4) * 2 + ["ArrowRight"] * 4:
        page.keyboard.press(key)
        page.wait_for_timeout(30)  # a keyboard's repeat rate


def test_an_address_of_nonsense_falls_back_and_the_part_in_a_model_moves_its_numbers(page, app_url, settled, engine,
                                                                                    prompt):
    visit(page, app_url, settled, d_k="many", n="-7", distribution="cauchy", half_octaves="x", layer="99", head="-1",
          stream="sideways", measure="furlongs", behind="the moon", sample="1e9")
    assert row(page, "variance of all scores together") == by_chance(64, 8, "normal")["variance of all scores together"]
    page.get_by_text("Layer 2, head 0 at every multiplier").wait_for()
    assert page.get_by_test_id("stAlert").count() == 0
    found = lab.heads(engine, prompt)
    divisor = found["encoder"].divisor
    page.get_by_text(f"by {divisor:.3g} (").wait_for()
    # The same entropy as on the attention page, by another road.
    own = float(engine.summaries(prompt, "encoder").entropy[2, 0])
    place = lab.MULTIPLIERS.index(0.25)

    def measures(stream: str, layer: int, head: int, at: int) -> dict[str, list[str]]:
        return {name: [told(float(getattr(found[stream], measure)[index, layer, head])) for index in (ONE, -1, at)]
                for name, measure, told in (("entropy (nats)", "entropy", "{:.3f}".format),
                                            ("largest weight", "max_probability", "{:.3f}".format),
                                            ("Jacobian norm (median)", "jacobian_norm", compact))}

    expect_row(page, "entropy (nats)", measures("encoder", 2, 0, place)["entropy (nats)"])
    assert row(page, "entropy (nats)")[0] == f"{own:.3f}"
    page.get_by_role("radio", name="Cross").click()
    move(page, settled, "layer", -1)
    move(page, settled, "head", 1)
    for name, numbers in measures("cross", 1, 1, place).items():
        expect_row(page, name, numbers)
    slider = page.locator(".st-key-half_octaves").get_by_role("slider")
    for _ in range(6):
        slider.press("ArrowRight")
    for name, numbers in measures("cross", 1, 1, place + 6).items():
        expect_row(page, name, numbers)
    settled(page)
    page.get_by_role("radio", name="largest weight").click()
    page.get_by_text("Every head of the stream: largest weight").wait_for()
    outputs = lab.outputs(engine, prompt, (1.0, divisor, 2.0))
    for name, each in zip(("its own scaling", "without division", "chosen: ×2"), outputs, strict=True):
        expect_row(page, name, [f"−{-each.logprob:.3f}"])
    gradients = lab.gradients(engine, prompt)["cross"]
    for kind, place, values in (("scores", "Behind layer 1's softmax", gradients.at_scores),
                                ("queries", "At the queries of layer 1", gradients.at_queries)):
        page.get_by_role("radio", name=kind).click()
        without, chosen = (np.linalg.norm(values[at, 1]) / np.linalg.norm(values[ONE, 1]) for at in (-1, ONE + 2))
        page.get_by_text(f"{place} the gradient is {without:.2f} times as large without the division, "
                         f"{chosen:.2f} times at the chosen multiplier (own scaling = 1)").wait_for()
    page.wait_for_function("location.search.includes('half_octaves=2') && location.search.includes('behind=queries')")


def test_a_link_opens_the_same_view_in_chinese_and_the_export_holds_it(page, app_url, settled, engine, prompt):
    visit(page, app_url, settled, lang="zh", d_k=24, n=16, distribution="sign", sample=5, stream="decoder",
          measure="entropy", layer=1, head=3, half_octaves=-2, behind="queries")
    expected = list(by_chance(24, 16, "sign").values())
    shown = [row(page, name) for name in ("所有分数合起来的方差", "熵", "最大权重", "雅可比范数")]
    assert shown == expected
    page.get_by_text("第 1 层第 3 头").first.wait_for()
    page.locator(".st-key-scaling-in-model-export button").first.click()
    with page.expect_download() as started:
        page.get_by_test_id("stPopoverBody").get_by_test_id("stDownloadButton").first.locator("button").click()
    table = list(csv.reader(io.StringIO(started.value.path().read_text(encoding="utf-8-sig"))))
    heads = lab.heads(engine, prompt)["decoder"]
    n_layers, n_heads = heads.product_variance.shape
    assert len(table) == 1 + n_layers * n_heads
    values = np.array(table[1:], dtype=float)
    np.testing.assert_allclose(values[:, 2], heads.product_variance.ravel(), rtol=1e-5)
    np.testing.assert_allclose(values[:, 3], heads.entropy[ONE].ravel(), atol=1e-6)
    np.testing.assert_allclose(values[:, 5], heads.entropy[lab.MULTIPLIERS.index(0.5)].ravel(), atol=1e-6)
