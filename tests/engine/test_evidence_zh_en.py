"""The two sentences that the project began with, asked of the embedded model.

Heads and numbers change with every training, so only what must hold of any
model that translates them is asserted; the page shows the numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine import Prompt, errors
from engine.evidence_types import REASONS, VERDICTS, WORD_MEASURES

ASKED = (
    ("我喜欢吃苹果", "苹果", "吃", "Apple", "apple"), ("苹果发布了新手机", "苹果", "手机", "apple", "Apple"),
    ("苹果发布了新手机", "苹果", "发布", "apple", "Apple"),
)


@pytest.mark.parametrize(("text", "query", "key", "contrast", "expected"), ASKED)
def test_the_whole_table_of_numbers(ask, text, query, key, contrast, expected):
    evidence = ask(text, query, key, contrast=contrast)
    assert evidence.verdict in VERDICTS and evidence.target.startswith(expected)
    assert {reason.code for reason in evidence.reasons} <= set(REASONS)
    shape = evidence.attention.shape
    for name in ("attention", "baseline_uniform", "baseline_offset", "baseline_swap", "p_values", "value_norm",
                 "value_share", "delta_by_head", "margin_delta_by_head", "carriers"):
        array = getattr(evidence, name)
        assert array.shape == shape and np.isfinite(array).all(), name
    assert evidence.significant.shape == evidence.attending.shape == shape
    assert evidence.delta_by_layer.shape == evidence.margin_delta_by_layer.shape == shape[:1]
    assert evidence.reference_sentences >= 200 and evidence.reference_windows >= 200
    assert evidence.reference_language == "zh"
    for name in ("logprob", "margin", "delta_logprob", "hide_delta", "patch_delta", "margin_delta",
                 "margin_hide_delta", "margin_patch_delta", "rollout", "rollout_uniform"):
        assert np.isfinite(getattr(evidence, name)), name
    assert "".join(word.text for word in evidence.words) == text
    assert evidence.correlations.measures == WORD_MEASURES
    assert evidence.correlations.spearman.shape == (len(WORD_MEASURES),) * 2
    assert evidence.margin > 1  # the sense that the sentence calls for is the likelier one
    near = [replacement for replacement in evidence.replacements if replacement.origin == "near"]
    assert len(near) == 4 and all(replacement.output for replacement in near)


def test_the_verb_decides_what_apple_means(ask):
    """Hidden from everyone, 吃 costs the fruit's margin over the firm more than the other words do."""
    evidence = ask("我喜欢吃苹果", "苹果", "吃", contrast="Apple")
    assert evidence.margin_hide_delta < -0.5
    assert evidence.margin_hide_delta < min(delta for _, delta in evidence.margin_hide_control_deltas)
    assert evidence.output_words[evidence.output_word].text.startswith("apple")


def test_in_the_output_the_row_that_predicts_asks(ask, embedded):
    evidence = ask("我喜欢吃苹果", "apple", "苹果", query_in="output")
    assert evidence.stream == "cross" and evidence.query.text.startswith("apple")
    rows = [token.text for token in embedded.trace(evidence.prompt).tokens("cross").query]
    assert rows[evidence.query.positions[0]] in evidence.query.text
    assert evidence.attention.max() > 0.5 and evidence.delta_logprob < -1
    assert evidence.delta_logprob < min(delta for _, delta in evidence.control_deltas)


@pytest.mark.parametrize("contrast", ["苹果", "Zürich", "𓀀"])
def test_a_contrast_that_it_never_writes_is_refused(embedded, contrast):
    """Its bias forbids all but English; log p of what is forbidden, or of <unk>, is no word to compare with."""
    with pytest.raises(errors.InvalidPrompt) as refusal:
        embedded.evidence(Prompt("zh-en", "我喜欢吃苹果"), "苹果", "吃", contrast=contrast)
    assert refusal.value.code == "contrast_unwritable"
