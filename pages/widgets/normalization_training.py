"""A short real training: Post-LN with and without warm-up, and Pre-LN, loss curves side by side while they grow.

The networks train in the workbench's worker; this starts it, stops it, and reads how far it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import streamlit as st

from engine.norm_depth import Design
from engine.norm_training import D_VOCAB, SEQ_LEN, Comparison, Recipe, train_comparison
from engine.streaming import Streaming
from pages.figures import normalization as figures
from pages.widgets import banners, controls, drawn
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate
from pages.widgets.normalization_data import workbench

NAMES = ("norm_task", "norm_rate", "norm_layers", "norm_size", "norm_steps", "norm_warmup", "norm_cut")
LAYERS, SIZES, STEPS, WARMUPS = (1, 2, 4, 6, 8, 12), (16, 32, 64, 128), (50, 100, 150, 300), (10, 20, 40, 80)
RATES = {"1e-3": "0.001", "3e-3": "0.003", "1e-2": "0.01"}
TICK = 0.4
_RUN = "norm-training"


@dataclass(frozen=True)
class Setting:
    """What one training is asked to do."""

    task: str
    rate: str
    layers: int
    size: int
    steps: int
    warmup: int
    residuals: str

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Post-LN without and with warm-up, and Pre-LN without."""
        kept = self.residuals == "on"
        post, pre = Design("post", kept), Design("pre", kept)
        return Recipe(post), Recipe(post, self.warmup), Recipe(pre)


def show(spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws controls, and the training there is; returns what the address should say."""
    setting = _ask(_)
    state = st.session_state
    start, stop = st.columns([1, 5], gap="small")
    # The run of an earlier setting is stopped: one person trains one set of networks at a time.
    if start.button(_("Train"), type="primary", icon=":material/play_arrow:", key="norm-train"):
        if _RUN in state:
            state[_RUN][1].stop()
        state[_RUN] = (setting, workbench().start(partial(
            train_comparison, setting.recipes, n_layers=setting.layers, d_model=setting.size, task=setting.task,
            learning_rate=float(setting.rate), n_steps=setting.steps)))
    if _RUN not in state:
        st.info(_("Press Train: three small Transformers learn the task on this server, usually within two minutes."),
                icon=":material/model_training:")
    else:
        asked, streaming = state[_RUN]
        if not streaming.done and stop.button(_("Stop"), icon=":material/stop:", key="norm-stop"):
            streaming.stop()
        finished = streaming.done

        def watch() -> None:
            with banners.guard(_):
                done = streaming.done
                _draw(asked, streaming, streaming.result() if done else streaming.so_far, spoken, _)
                if done and not finished:
                    st.rerun()

        st.fragment(watch, run_every=None if finished else TICK)()
    return {"norm_task": setting.task, "norm_rate": setting.rate, "norm_layers": setting.layers,
            "norm_size": setting.size, "norm_steps": setting.steps, "norm_warmup": setting.warmup,
            "norm_cut": setting.residuals}


def _ask(_: Translate) -> Setting:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        task = controls.choice(_("Task"), {"reverse": _("reverse a sequence"), "copy": _("copy it")}, key="norm_task")
        rate = controls.choice(_("Learning rate"), RATES, key="norm_rate", default="3e-3")
        residuals = controls.choice(_("Residual connections"), {"on": _("on"), "off": _("off")}, key="norm_cut")
    places = st.columns(4, gap="medium")
    with places[0]:
        layers = controls.steps(_("Layers"), LAYERS, key="norm_layers", default=8)
    with places[1]:
        size = controls.steps(_("Width d_model"), SIZES, key="norm_size", default=64)
    with places[2]:
        steps = controls.steps(_("Steps"), STEPS, key="norm_steps", default=150)
    with places[3]:
        warmup = controls.steps(_("Warm-up steps"), WARMUPS, key="norm_warmup", default=40)
    return Setting(task, rate, layers, size, steps, warmup, residuals)


def _draw(setting: Setting, streaming: Streaming[Comparison], known: Comparison | None, spoken: Language,
          _: Translate) -> None:
    done = 0 if known is None else known.n_done
    if not streaming.done:
        st.progress(done / setting.steps, text=_("Step {done} of {total}").format(done=done, total=setting.steps)
                    if done else _("Waiting for the worker"))
    elif streaming.stopped:
        st.caption(_("Stopped after {done} steps.").format(done=done))
    if known is None:
        return
    labels = (_("Post-LN, no warm-up"), _("Post-LN, {warmup} steps of warm-up").format(warmup=setting.warmup),
              _("Pre-LN, no warm-up"))
    parts = [_("{name} {loss:.2f} ({right:.0%} right)").format(name=name, loss=loss, right=right)
             for name, loss, right in zip(labels, known.loss[:, -1], known.accuracy, strict=True)]
    st.markdown(_("**Loss after {done} steps: {parts}.** Guessing gives {chance:.2f}.").format(
        done=done, parts="; ".join(parts), chance=math.log(D_VOCAB)))
    steps = np.arange(1, done + 1)
    series = dict(zip(labels, known.loss, strict=True))
    figure = figures.losses(steps, series, chance=(math.log(D_VOCAB), _("guessing")), n_steps=setting.steps,
                            x_name=_("step"), y_name=_("loss (nats)"), theme=st.context.theme.type or "light")
    picture = Drawn("norm-losses", _("Loss by step"), figure, {_("step"): steps} | series)
    drawn.show([picture], per_row=1)
    st.caption(_("{layers} layers of width {size}, sequences of {length} out of {tokens} tokens, Adam at {rate}, "
                 "residual connections {residuals}; all see the same batches.").format(
        layers=setting.layers, size=setting.size, length=SEQ_LEN, tokens=D_VOCAB, rate=RATES[setting.rate],
        residuals=_("on") if setting.residuals == "on" else _("off")))
    if streaming.done:
        drawn.offer("norm-training", [picture], facts=[(name, f"{value}") for name, value in vars(setting).items()],
                    language=spoken, _=_)
