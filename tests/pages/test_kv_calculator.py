"""What the memory page's calculator says of caches that transformers stores otherwise than the formula counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).resolve().parents[2] / "app.py")
PAGED = "transformers' paged cache makes room for all {} heads of this model, {} times as much."
STORED = "transformers stores all {} heads of this model, {} times as much."


@pytest.mark.parametrize("preset, kind, said", [
    ("falcon-7b", "paged", PAGED.format(71, 71)), ("falcon-40b", "paged", STORED.format(128, 16)),
    ("falcon-40b", "dynamic", STORED.format(128, 16)), ("falcon-7b", "dynamic", ""), ("llama-3-8b", "paged", ""),
])
def test_heads_that_transformers_keeps_besides_are_told(preset, kind, said):
    test = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"lang": "en", "view": "calculator", "kv_preset": preset, "kv_kind": kind}.items():
        test.query_params[name] = value
    page = test.switch_page("pages/memory.py").run()
    assert not page.exception
    notes = next(each.value for each in page.caption if "One token takes" in each.value)
    assert said in notes and notes.count("heads of this model") == bool(said)
