"""The README's Python runs as it stands, and what it points at is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")


def test_ten_lines_of_python_run():
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)  # our own text
    np.testing.assert_allclose(scope["pattern"].sum(1), 1, atol=1e-5)
    assert scope["figure"].data[0].z.shape == scope["pattern"].shape


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    assert "<!--" not in text
