"""What the memory page's calculator says of what its sums take for granted."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).resolve().parents[2] / "app.py")
PAGED = "transformers' paged cache makes room for all {} heads of this model, {} times as much."
STORED = "transformers stores all {} heads of this model, {} times as much."


def opened(**parameters: str):
    """The calculator in English, as an address with `parameters` opens it."""
    test = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"lang": "en", "view": "calculator", **parameters}.items():
        test.query_params[name] = value
    page = test.switch_page("pages/memory.py").run()
    assert not page.exception
    return page


@pytest.mark.parametrize("preset, kind, said", [
    ("falcon-7b", "paged", PAGED.format(71, 71)), ("falcon-40b", "paged", STORED.format(128, 16)),
    ("falcon-40b", "dynamic", STORED.format(128, 16)), ("falcon-7b", "dynamic", ""), ("llama-3-8b", "paged", ""),
])
def test_heads_that_transformers_keeps_besides_are_told(preset, kind, said):
    page = opened(kv_preset=preset, kv_kind=kind)
    notes = next(each.value for each in page.caption if "One token takes" in each.value)
    assert said in notes and notes.count("heads of this model") == bool(said)


@pytest.mark.parametrize(("dtype", "bits", "fits"), [(4, 32, False), (2, 16, False), (1, 8, True)])
def test_the_verdict_names_the_bits_of_the_weights(dtype, bits, fits):
    page = opened(kv_preset="gpt-oss-20b", kv_dtype=str(dtype))
    verdict = next(each.value for each in (*page.success, *page.warning))
    assert f"With weights at {bits} bits" in verdict
    assert (f"Not even the weights at {bits} bits fit." in verdict) != fits


@pytest.mark.parametrize(("tokens", "reserved", "said"), [
    (8192, 512, "512 reserved tokens cannot hold 8,192: counted as if just 8,192 were reserved."), (8192, 8192, ""),
    (1, 512, ""),
])
def test_a_reservation_that_is_too_small_is_told(tokens, reserved, said):
    page = opened(kv_kind="static", kv_tokens=str(tokens), kv_capacity=str(reserved))
    told = [each.value for each in page.caption if "cannot hold" in each.value]
    assert len(told) == bool(said) and all(said in each for each in told)
    held = max(tokens, reserved) * 128 / 1024  # llama-3-8b: 128 KiB a token
    assert f"**{held:g} MiB**" in page.markdown[0].value or f"**{held / 1024:g} GiB**" in page.markdown[0].value
    assert page.markdown[0].value.endswith("for 1 token." if tokens == 1 else "for 8,192 tokens.")
