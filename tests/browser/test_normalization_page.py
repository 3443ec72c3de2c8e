"""The page about norms as a person uses it: two axes, four experiments, depth, and a training that runs and stops."""

from __future__ import annotations

import csv
import io
import re
from functools import partial
from urllib.parse import quote

import numpy as np
import pytest

from engine import LocalEngine, norm_activations, norm_experiments, norm_sites
from pages.figures.frame import written
from pages.widgets import normalization_data

SENTENCE = "我喜欢吃苹果"
#: Small networks, so that depth and training take moments.
SMALL = {"norm_width": 16, "norm_layers": 1, "norm_size": 16, "norm_steps": 50}
#: From the first visit on, the sweep of 27 networks of width 16 runs in the server.
SLOW = 60_000


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """An engine of the test's own, to hold the page's numbers against."""
    return LocalEngine(device="cpu")


@pytest.fixture(scope="module")
def batch(engine):
    found = engine.submit("zh-en", partial(norm_sites.sites, text=SENTENCE, limits=engine.limits)).result()
    site = [site for site in found if site.stack == "encoder"][-1]
    texts = (SENTENCE, *normalization_data.company(SENTENCE))
    return engine.submit("zh-en", partial(norm_activations.read_batch, texts=texts, site=site,
                                          limits=engine.limits)).result()


def visit(page, app_url, settled, **parameters) -> None:
    given = {"lang": "en", "model": "zh-en", "text": SENTENCE, **SMALL, **parameters}
    page.goto(f"{app_url}/normalization?" + "&".join(f"{name}={quote(str(value))}" for name, value in given.items()))
    settled(page)


def said(page, text: str):
    found = page.get_by_text(re.compile(re.escape(text))).first
    found.wait_for(timeout=SLOW)
    return found


def test_axes_experiments_depth_and_training_in_one_visit(page, app_url, settled, batch):
    visit(page, app_url, settled, norm_token=3, norm_feature=7, norm_swap=9, norm_batch=2, norm_depth=8)
    said(page, "From 2 to 24 layers of width 16 the last feed-forward gradient changes by")  # until then it repaints
    said(page, "At 8 layers the first layer's gradient is")
    settled(page)
    four_experiments_say_what_the_engine_measures(page, batch)
    n_shown = two_axes_and_their_export(page, settled, batch)
    a_training_runs(page)
    a_training_stops(page, settled)
    page.get_by_role("radio", name="中文", exact=True).click()
    said(page, f"全部 {n_shown} 个词元求特征 7 的平均")
    assert page.get_by_label("句子", exact=True).input_value() == SENTENCE


def four_experiments_say_what_the_engine_measures(page, batch) -> None:
    rest = [batch.sentence(i) for i in (1, 2, 3)]
    change = norm_experiments.change_companions(batch.sentence(0), rest, [batch.sentence(9), *rest[1:]], eps=batch.eps)
    said(page, f"Your sentence changes by 0 under LayerNorm and by {change.batch:.2f} under BatchNorm")
    said(page, "With 2 sentences a batch BatchNorm's mean is off by")
    said(page, "8 tokens of padding change your sentence by 0 under LayerNorm and by")
    slider = page.get_by_role("slider", name="Tokens of padding added to every sentence")
    slider.focus()
    slider.press("ArrowLeft")
    said(page, "7 tokens of padding change your sentence by 0 under LayerNorm and by")
    said(page, "The tokens before it change by 0 under LayerNorm and by")
    said(page, 'reads "I" in place of "."')
    page.wait_for_function("location.search.includes('norm_pads=7') && location.search.includes('norm_swap=9')")


def two_axes_and_their_export(page, settled, batch) -> int:
    """Returns the number of tokens that BatchNorm averages over."""
    assert page.locator(".st-key-norm_token").get_by_text("3 · 苹果").is_visible(), "the word, not only its number"
    said(page, "The pictures show features 0 to 63 of 256")
    assert page.get_by_test_id("stCaptionContainer").last.inner_text() == "The address of this page reopens this view."
    own = batch.sentence(0)
    said(page, f"mean {written(own[3].mean(), '.2f')}, variance {own[3].var():.2f} before, 0.00 and 1.00 after")
    page.locator(".st-key-norm_axis").get_by_role("radio", name="BatchNorm").click()
    shown = np.concatenate([batch.sentence(i) for i in range(4)])[:, 7]
    said(page, f"BatchNorm averages feature 7 over all {len(shown)} tokens of 4 sentences")
    said(page, f"mean {written(shown.mean(), '.2f')}, variance {shown.var():.2f} before, 0.00 and 1.00 after")
    page.wait_for_function("location.search.includes('norm_axis=batch') && location.search.includes('norm_token=3')")
    settled(page)
    page.locator(".st-key-norm-axes-export button").first.click()
    with page.expect_download() as started:
        page.get_by_role("button", name="After BatchNorm as CSV").click()
    rows = list(csv.reader(io.StringIO(started.value.path().read_text(encoding="utf-8-sig"))))
    values = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    assert values.shape == (len(shown), 256) and rows[4][0] == "苹果"
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    page.keyboard.press("Escape")
    page.get_by_test_id("stPopoverBody").wait_for(state="hidden")
    return len(shown)


def a_training_runs(page) -> None:
    rates = page.locator(".st-key-norm_rate").get_by_role("radio")
    assert [float(rate.inner_text()) for rate in rates.all()] == [0.001, 0.003, 0.01]
    assert rates.nth(1).is_checked()
    page.get_by_role("button", name="Train", exact=True).click()
    said(page, "Loss after 50 steps: Post-LN, no warm-up")
    page.locator(".st-key-norm-training-export").wait_for()


def a_training_stops(page, settled) -> None:
    """One that would last: of as many layers and steps as can be chosen."""
    for key in ("norm_layers", "norm_steps"):
        slider = page.locator(f".st-key-{key}").get_by_role("slider")
        slider.focus()
        slider.press("End")
        settled(page)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(re.compile(r"^Step \d+ of 300$")).wait_for(timeout=SLOW)
    page.get_by_role("button", name="Stop", exact=True).click()
    stopped = said(page, "Stopped after").inner_text()
    assert int(re.search(r"\d+", stopped)[0]) < 300
    page.locator(".st-key-norm-training-export").wait_for()


def test_an_encoder_alone_has_no_future(app, page, app_url, settled):
    from tests.engine import tiny

    tiny.save("bert", app.models / "norm-bert")
    visit(page, app_url, settled, model="norm-bert", norm_feature=9999, norm_axis="nonsense", norm_site="nowhere")
    said(page, "LayerNorm averages the 32 features of one token")
    said(page, "there is no future to keep secret")
