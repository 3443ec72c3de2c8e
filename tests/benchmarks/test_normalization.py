"""What a person waits for on the page about norms: from a key that moves a slider to the repainted picture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.benchmarks import repaint, zh_en

TEXT = "我喜欢吃苹果"
#: Small networks, so that every depth is measured before the first key.
SMALL = "norm_width=16&norm_layers=1&norm_size=16&norm_steps=50"


@pytest.fixture(scope="module")
def norms(tmp_path_factory) -> Iterator:
    """The page about norms, once the networks of every depth are measured."""
    address = f"normalization?lang=en&model={zh_en.NAME}&text={TEXT}&{SMALL}"
    with repaint.opened(tmp_path_factory.mktemp("norms"), address, until="text=From 2 to 24 layers") as page:
        page.wait_for_timeout(2_000)
        yield page


@pytest.mark.parametrize(("key", "places"), [
    ("norm_token", [".st-key-picture-norm-before", ".st-key-picture-norm-after"]),
    ("norm_swap", [".st-key-picture-norm-swap-change"]), ("norm_pads", [".st-key-picture-norm-pads-change"]),
    ("norm_depth", [".st-key-picture-norm-gradients"]),
])
def test_a_slider_about_norms(norms, report, key, places):
    found = repaint.moves(norms, key, ["ArrowRight", "ArrowLeft"] * 3, places)
    report(f"LayerNorm: slider “{key}” → repainted", repaint.line(found), "≤ 0.3 s")


def test_a_feature_under_batchnorm_and_the_size_of_the_batch(norms, report):
    norms.locator(".st-key-norm_axis").get_by_role("radio", name="BatchNorm").click()
    norms.wait_for_timeout(2_000)
    places = [".st-key-picture-norm-before", ".st-key-picture-norm-after"]
    found = repaint.moves(norms, "norm_feature", ["ArrowRight", "ArrowLeft"] * 3, places)
    report("LayerNorm: slider “norm_feature”, BatchNorm chosen → repainted", repaint.line(found), "≤ 0.3 s")
    norms.evaluate("""() => {
      const column = document.querySelector('.st-key-norm_batch').closest('[data-testid=stColumn]');
      column.querySelector('[data-testid=stMarkdown]:has(strong)').id = 'batch-size-said';
    }""")
    # Its picture holds every size; what changes is the sentence above it, in the second row of experiments.
    found = repaint.moves(norms, "norm_batch", ["ArrowRight", "ArrowLeft"] * 3, ["#batch-size-said"])
    report("LayerNorm: slider “norm_batch” → its numbers", repaint.line(found), "≤ 0.3 s")
