"""The README's Python runs as it stands, and what it points at is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")


def test_ten_lines_of_python_run():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    told = "print(figure.data[0].z.shape == pattern.shape, abs(pattern.sum(1) - 1).max() < 1e-5)"
    ran = subprocess.run([sys.executable, "-c", code + told], cwd=ROOT, capture_output=True, text=True, check=True)
    first, last = ran.stdout.splitlines()
    assert "apple" in first and "('encoder', 'decoder', 'cross') 3 4" in first
    assert last == "True True"


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    assert "<!--" not in text
