"""The positions page where a sentence's other order is no other text."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).resolve().parents[2] / "app.py")


@pytest.mark.parametrize(("text", "same"), [("我我我", True), ("我爱你", False)])
def test_two_orders_of_one_text_prove_nothing(text, same):
    test = AppTest.from_file(APP, default_timeout=120)
    for name, value in {"lang": "en", "model": "zh-en", "text": text}.items():
        test.query_params[name] = value
    page = test.switch_page("pages/positions.py").run()
    assert not page.exception
    said = [each.value for each in page.info if "Both orders are the same text" in each.value]
    claimed = [each.value for each in page.markdown if "cannot tell the two orders apart" in each.value]
    assert (len(said), len(claimed)) == ((1, 0) if same else (0, 1))
