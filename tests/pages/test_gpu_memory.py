"""The memory page where the run was on a GPU: what the GPU reported, in words, in a chart and in the export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine import LocalEngine, kv_growth
from pages.widgets import kv_growth_view, runtime
from tests.engine import oracle

APP = str(Path(__file__).resolve().parents[2] / "app.py")
MIB = 2**20
STEPS = 6


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page after a run whose GPU's numbers are made up; every other number is the run's own."""
    engine, real = LocalEngine(folder=oracle.save_tiny(tmp_path, ("gpt2",)), device="cpu"), kv_growth.grow
    steps = np.arange(STEPS)
    reported = kv_growth.DeviceBytes(live=(5 + steps) * MIB, reserved=np.full(STEPS, 20 * MIB),
                                     device=(900 - steps) * MIB)

    def grow(live, **arguments):
        return replace(real(live, **arguments), device="cuda:0", memory=reported)

    monkeypatch.setattr(kv_growth, "grow", grow)
    monkeypatch.setattr(runtime, "engine", lambda: engine)
    test = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"lang": "en", "model": "gpt2", "text": "the apple", "view": "growth",
                        kv_growth_view.STEPS: str(STEPS)}.items():
        test.query_params[name] = value
    page = test.switch_page("pages/memory.py").run()
    assert not page.exception
    return page


def said(page) -> str:
    return next(each.value for each in page.markdown if each.value.startswith("From step 0"))


def test_changes_are_told_to_the_step_looked_at(page):
    growth = page.session_state["kv-grown"][1]
    for step in (STEPS - 1, 2):
        page.slider(key=kv_growth_view.STEP).set_value(step).run()
        cache = int(growth.logical[step].sum() - growth.logical[0].sum()) / 1024
        assert said(page) == (
            f"From step 0 to step {step} the cache changed by **+{cache:g} KiB**, live tensors by **+{step} MiB**, the "
            f"allocator's reserve by **+0 B** and the device's use by **−{step} MiB**.")


def test_every_number_of_the_gpu_is_in_the_table(page):
    table = kv_growth_view.columns(page.session_state["kv-grown"][1])
    assert table["live_bytes"].tolist() == [(5 + n) * MIB for n in range(STEPS)]
    assert table["reserved_bytes"].tolist() == [20 * MIB] * STEPS
    assert table["device_bytes"].tolist() == [(900 - n) * MIB for n in range(STEPS)]


def test_the_chart_has_a_line_for_each_of_them(page):
    spec = next(each.proto.spec for each in page.get("plotly_chart") if each.proto.id.endswith("kv-device"))
    assert [trace["name"] for trace in json.loads(spec)["data"]] == [
        "live tensors", "the allocator's reserve", "in use on the device, by everybody"]
