"""An engine of the embedded models that keeps its reference statistics to the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import LocalEngine
from tests.engine import oracle


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    """On the CPU, with an empty models folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTENTION_CACHE", str(tmp_path_factory.mktemp("references")))
        yield LocalEngine(assets=oracle.ASSETS, folder=tmp_path_factory.mktemp("none"), device="cpu")
