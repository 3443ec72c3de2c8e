"""The README's Python runs as it stands, and what it points at is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pages.widgets import evidence_texts

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")


def test_ten_lines_of_python_run():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    told = "print(figure.data[0].z.shape == pattern.shape, abs(pattern.sum(1) - 1).max() < 1e-5)"
    ran = subprocess.run([sys.executable, "-c", code + told], cwd=ROOT, capture_output=True, text=True, check=True)
    first, last = ran.stdout.splitlines()
    assert "apple" in first and "('encoder', 'decoder', 'cross') 3 4" in first
    assert last == "True True"


def numbers(cell: str) -> list[float]:
    """Every number of a table's cell, a proper minus sign or not."""
    return [float(number) for number in re.findall(r"[+-]?\d+(?:\.\d+)?", cell.replace("−", "-"))]


def test_the_table_of_evidence_is_the_models_own(ask):
    """Each number to half its last digit and a little for another processor's rounding."""
    tables = [[[cell.strip() for cell in line.strip("|").split("|")]
               for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
               if line.count("|") == 9 and " → " in line]
              for name in READMES]
    assert len(tables[0]) == len(tables[1]) == 5
    for english, chinese in zip(*tables, strict=True):
        text, edge = english[:2]
        query, key = edge.split(" → ")
        contrast = "Apple" if text == "我喜欢吃苹果" else "apple"
        found = ask(text, query, key, contrast=contrast)
        at = np.unravel_index(found.attention.argmax(), found.attention.shape)
        near = [one for one in found.replacements if one.origin == "near"]
        expected = [
            [found.attention[at], found.baseline_uniform[at], found.baseline_offset[at], found.p_values[at]],
            *([delta, np.median([abs(other) for _, other in controls])] for delta, controls in (
                (found.margin_delta, found.margin_control_deltas),
                (found.margin_hide_delta, found.margin_hide_control_deltas))),
            [found.margin, found.margin + found.margin_hide_delta],
        ]
        for row in (english, chinese):
            assert row[:2] == [text, edge]
            for cell, values in zip(row[2:6], expected, strict=True):
                assert numbers(cell) == pytest.approx(values, abs=0.012), (text, edge, cell)
        changed = [sum(bool(one.changed) for one in near), len(near)]
        flipped = [sum(re.search(rf"\b{contrast}\b", one.output) is not None for one in near)]
        assert numbers(english[6]) == changed + flipped and numbers(chinese[6]) == changed[::-1] + flipped
        if text == "我喜欢吃苹果":
            assert min(found.margin + found.margin_hide_delta, *(one.margin for one in found.replacements)) > 0
            assert [one.output for one in near if one.changed] == ["I like to make an apple."]
        assert english[7] == evidence_texts.name(found, str)[0]
        names = {"used without direct attention": "用上但非直接看", "no evidence": "没有证据",
                 "direct edge used; the look is not rare": "直接边被用上，但这种看法并不罕见"}
        assert chinese[7] == names[english[7]]


def test_the_steps_at_which_it_was_learnt_are_the_models_own(embedded, ask):
    found = embedded.emergence(ask("我喜欢吃苹果", "苹果", "吃", contrast="Apple"))
    looked = max(found.moments[:found.hide_since], key=lambda moment: moment.attention.max())
    for name, words in zip(READMES, ("with {:.2f}\nby step {:,}", "到第 {1:,} 步，已有一个头把 {0:.2f}"), strict=True):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert words.format(looked.attention.max(), looked.step) in text
        since = found.moments[found.hide_since]
        assert f"step {since.step:,} on (epoch {since.epoch:.0f})" in text or (
            f"从第 {since.step:,} 步（第 {since.epoch:.0f} 轮）起" in text)


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    assert "<!--" not in text
