"""One call of each thing that the engine does with a loaded model, for tests that hold all of them to the same.

It knows the engine's public functions, and nothing of what they should return.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from engine import Head, Prompt, knockouts, kv_growth, norm_activations, norm_sites, positions_lab, scaling
from engine import walk as walking

TEXT = "我喜欢吃苹果 the apple"


def held(engine, kind: str, job, **arguments) -> object:
    """What `job` returns, given the loaded model, the engine's limits and `arguments`."""
    return engine.submit(kind, partial(job, limits=engine.limits, **arguments)).result()


def _norms(engine, kind: str, stream: str) -> object:
    first, *_, last = held(engine, kind, norm_sites.sites, text=TEXT)
    batch = held(engine, kind, norm_activations.read_batch, texts=(TEXT, "the apple"), site=first)
    trace = engine.trace(Prompt(kind, TEXT))
    return batch, engine.submit(kind, partial(norm_activations.change_future, trace=trace, site=last)).result()


def _emergence(engine, kind: str, stream: str) -> object:
    """Where there are snapshots; without what they write, since rounding decides what an untrained one does."""
    if not engine.has_snapshots(kind):
        return None
    found = engine.emergence(engine.evidence(Prompt(kind, TEXT), "苹果", "吃"))
    return [replace(moment, output="") for moment in found.moments]


#: name → what it gives; `stream` is one that the model `kind` has.
OPERATIONS = {
    "trace": lambda engine, kind, stream: engine.trace(Prompt(kind, TEXT)),
    "growth": lambda engine, kind, stream: held(engine, kind, kv_growth.grow, text=TEXT, n_steps=4),
    "scaling": lambda engine, kind, stream: [
        scaling.heads(engine, Prompt(kind, TEXT)), scaling.outputs(engine, Prompt(kind, TEXT), (0.5,)),
        scaling.gradients(engine, Prompt(kind, TEXT))],
    "positions": lambda engine, kind, stream: [
        positions_lab.read(engine, kind, n_positions=12), positions_lab.compare_orders(engine, Prompt(kind, TEXT))],
    "walk": lambda engine, kind, stream: walking.walk(engine, Prompt(kind, TEXT), Head(stream, 0, 1)),
    "knockouts": lambda engine, kind, stream: [
        knockouts.leak(engine, Prompt(kind, TEXT)), knockouts.pad(engine, Prompt(kind, TEXT), Head(stream, 0, 1))],
    "evidence": lambda engine, kind, stream: engine.evidence(Prompt(kind, TEXT), "苹果", "吃"),
    "emergence": _emergence,
    "norms": _norms,
}
