"""Finds a model's own norms by what they are, and watches them while it runs.

A norm is a module named after one, with one weight for each feature of the
stream, whose output is that of a reference form. It knows nothing of what the
activations are used for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from engine import run
from engine.limits import Limits
from engine.normalization import layer_norm, rms_norm
from engine.run import Live
from engine.types import Prompt

Form = Literal["layer", "rms"]
Stack = Literal["encoder", "decoder"]
#: A module's output may differ from the reference form by this share of its largest value; half precision rounds.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
TOLERANCE_HALF = 2e-2


@dataclass(frozen=True)
class Site:
    """One norm of a model.

    Attributes:
        name: its module, from the model's root.
        stack: which stack it belongs to.
        form: what it computes.
    """

    name: str
    stack: Stack
    form: Form


def sites(live: Live, text: str, *, limits: Limits) -> tuple[Site, ...]:
    """Every norm over the features of the stream, in the order in which the model runs them.

    Returns:
        () for a model without them, such as one whose norms have no weights.

    Raises:
        EngineError: a text that the model cannot read.
    """
    encoded = run.encode(live, Prompt(live.name, text), limits=limits)
    seen: dict[str, Site] = {}

    def look(name: str, module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> None:
        form = _form(module, given, output) if name not in seen else None
        if form is not None:
            seen[name] = Site(name, _stack(live, name), form)

    # The decoder reads the source here: which norms it has does not depend on the words.
    arguments = {"input_ids": torch.tensor([encoded.source], device=live.model.device)}
    if live.family == "encoder-decoder":
        arguments["decoder_input_ids"] = arguments["input_ids"]
    watch(live, lambda: run.forward(live, arguments), look)
    return tuple(seen.values())


def watch(live: Live, forward: Callable[[], object],
           look: Callable[[str, nn.Module, torch.Tensor, torch.Tensor], None]) -> None:
    """Run `forward` and show `look` every norm over the stream's features as it runs."""
    handles = []
    try:
        for name, module in live.model.named_modules():
            weight = getattr(module, "weight", None)
            if "norm" not in type(module).__name__.lower() or weight is None or weight.ndim != 1:
                continue

            def hook(module, arguments, output, *, name=name) -> None:
                if arguments and arguments[0].ndim == 3 and arguments[0].shape[-1] == len(module.weight):
                    look(name, module, arguments[0], output)

            handles.append(module.register_forward_hook(hook))
        with torch.inference_mode():
            forward()
    finally:
        for handle in handles:
            handle.remove()


def _stack(live: Live, name: str) -> Stack:
    if live.family != "encoder-decoder":
        return "decoder" if live.family == "decoder-only" else "encoder"
    return "decoder" if "decoder" in name.split(".") else "encoder"


def _form(module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> Form | None:
    """What the module computes, told by its numbers; None where it is neither form."""
    values, outputs = as_array(given), as_array(output)
    allowed = TOLERANCE.get(given.dtype, TOLERANCE_HALF) * max(float(np.abs(outputs).max()), 1.0)
    forms: tuple[Form, ...] = ("layer", "rms")
    return next((form for form in forms if fitted(module, form, values, outputs)[3] <= allowed), None)


def fitted(module: nn.Module, form: Form, values: np.ndarray,
            outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """γ, β, eps of the module, and how far the reference form is off its output."""
    weight = as_array(module.weight)
    bias = getattr(module, "bias", None)
    beta = as_array(bias) if bias is not None else np.zeros_like(weight)
    eps = next((float(getattr(module, name)) for name in ("eps", "variance_epsilon") if hasattr(module, name)), 1e-6)
    fits = []
    for gamma in (weight, 1 + weight):  # Gemma keeps γ − 1
        reference = (layer_norm(values, gamma, beta, eps=eps) if form == "layer"
                     else rms_norm(values, gamma, eps=eps) + beta)
        fits.append((float(np.abs(reference - outputs).max()), gamma))
    error, gamma = min(fits, key=lambda fit: fit[0])
    return gamma, beta, eps, error


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A float32 numpy copy."""
    return tensor.detach().float().cpu().numpy()
