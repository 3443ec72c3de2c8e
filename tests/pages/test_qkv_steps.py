"""The formulas beside the steps are those of the model that is shown, and hold for its numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine import Head, LocalEngine, Prompt
from engine.walk import walk
from pages.widgets import qkv_steps, stream_view
from pages.widgets.qkv_steps import Place
from tests.engine import oracle, tiny

TEXT = "the cat"
#: Model and stream → what step 2 and step 7 say, the shapes aside.
FORMULAS = {
    ("zh-en", "encoder"): (["X · W_Q + b_Q = Q", "X · W_K + b_K = K", "X · W_V + b_V = V"],
                           ["Z · W_O + b_O = O", "X + O = X′ → norm(X′)"]),
    ("zh-en", "cross"): (["X · W_Q + b_Q = Q", "X_enc · W_K + b_K = K", "X_enc · W_V + b_V = V"],
                         ["Z · W_O + b_O = O", "X + O = X′ → norm(X′)"]),
    ("llama", "decoder"): (["norm(X) · W_Q = Q → RoPE", "norm(X) · W_K = K → RoPE", "norm(X) · W_V = V"],
                           ["Z · W_O = O", "X + O = X′"]),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("models")
    tiny.save("llama", folder / "llama")
    return LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")


def place(engine: LocalEngine, model: str, stream: str) -> Place:
    prompt = Prompt(model, "我喜欢吃苹果" if model == "zh-en" else TEXT)
    view = stream_view.view(engine.trace(prompt), stream, unit="tokens")
    return Place(walk(engine, prompt, Head(stream, 1, 1)), view, 1, 0, "dimension", "light", str)


@pytest.mark.parametrize(("model", "stream"), FORMULAS)
def test_formulas_name_what_this_model_computes(engine, model, stream):
    at = place(engine, model, stream)
    projections, output = FORMULAS[model, stream]
    for shown, expected in ((qkv_steps.projections(at), projections), (qkv_steps.output(at), output)):
        assert re.sub(r" \([\d×]+\)", "", shown.shapes).splitlines() == expected


def test_the_formulas_shapes_are_those_of_the_numbers(engine):
    at = place(engine, "zh-en", "cross")
    found = at.walk
    first, second, _third = qkv_steps.projections(at).shapes.splitlines()
    for line, part in ((first, found.query), (second, found.key)):
        x, w, b, y = (tuple(map(int, shape.split("×"))) for shape in re.findall(r"\(([\d×]+)\)", line))
        assert (part.input.shape, part.weight.T.shape, part.bias.shape, part.projected.shape) == (x, w, b, y)
        np.testing.assert_allclose(part.input @ part.weight.T + part.bias, part.projected, atol=1e-5)
