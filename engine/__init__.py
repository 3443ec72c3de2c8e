"""Runs transformer models and shows what their attention did, as plain numpy values.

    from engine import LocalEngine, Prompt, Head
    engine = LocalEngine()
    prompt = Prompt(model="zh-en", text="我喜欢吃苹果")
    pattern = engine.pattern(prompt, Head("encoder", layer=2, head=1))

Torch and transformers are imported when `LocalEngine` is first asked for, not
before, so that figures and tests can use the types alone.
"""

from engine import errors, limits
from engine.emergence_types import Emergence
from engine.evidence_types import Evidence
from engine.types import (
    Head,
    HeadSummary,
    ModelCard,
    Pictures,
    Pooled,
    Progress,
    Prompt,
    Provenance,
    QueryKeyValue,
    StreamTokens,
    Token,
    Trace,
    Word,
)

__all__ = [
    "Emergence", "Evidence", "Head", "HeadSummary", "LocalEngine", "ModelCard", "Pictures", "Pooled", "Progress",
    "Prompt", "Provenance", "QueryKeyValue", "StreamTokens", "Token", "Trace", "Word", "errors", "limits",
]


def __getattr__(name: str):
    if name == "LocalEngine":
        from engine.local import LocalEngine

        return LocalEngine
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
