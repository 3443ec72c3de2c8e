"""The walk of seven steps: one on screen, forward and back by buttons and arrow keys.

Which step is open lives in the session state, so a permalink can set it. The
numbers are the engine's, each step with how far it is from the model's own.
"""

from __future__ import annotations

import streamlit as st

from engine.walk_types import STEPS
from pages.figures.frame import compact
from pages.widgets import controls, drawn, qkv_choice, qkv_steps
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.qkv_steps import Place

STEP, ORDER = "step", "neurons"
_OPEN = "step_open"


def show(at: Place, _: Translate) -> list[Drawn]:
    """Draws the open step; returns its pictures."""
    step = _stepper(_)
    shown = qkv_steps.RENDER[step](at)
    st.markdown(shown.headline)
    st.code(shown.shapes, language=None, wrap_lines=True)
    if shown.note:
        st.markdown(shown.note)
    for picture in shown.pictures:
        if picture.name in shown.clickable:
            figure = qkv_choice.marked(picture.figure, (at.row, at.column), at.theme)
            qkv_choice.choose_by_click(Drawn(picture.name, picture.title, figure, picture.columns))
        else:
            drawn.show([picture], per_row=1)
    error = at.walk.error(step)
    if error is not None:
        st.caption(_("Held against the model's own tensors in this run: the largest difference is {error}.").format(
            error=compact(error)))
    elif step == "dot":
        st.caption(_("The model never shows q·k by itself; the next steps, which follow from it, are held against its "
                     "own."))
    return shown.pictures


def order(_: Translate) -> str:
    """Draws the choice of the neuron view's order where that step is open; returns it."""
    if st.session_state.get(STEP) != "dot":
        return st.session_state.get(ORDER, "dimension")
    return controls.choice(_("Order of the dimensions"), {
        "dimension": _("as they are"), "size": _("largest product first")}, key=ORDER)


def step_names(_: Translate) -> dict[str, str]:
    """Step → its name with its number."""
    names = (_("embedding + position"), "q, k, v", "q·k", _("÷ $\\sqrt{d}$, mask"), "softmax", _("weighted sum of v"),
             _("W_O, residual"))
    return {step: f"{number} {name}" for number, (step, name) in enumerate(zip(STEPS, names, strict=True), 1)}


def _stepper(_: Translate) -> str:
    state = st.session_state
    if state.get(STEP) not in STEPS:
        state[STEP] = STEPS[0]
    state[_OPEN] = state[STEP]

    def go(by: int) -> None:
        # From the step that was drawn last: on a quick second press the browser still sends the one before it.
        state[_OPEN] = state[STEP] = STEPS[min(max(STEPS.index(state[_OPEN]) + by, 0), len(STEPS) - 1)]

    at = STEPS.index(state[STEP])
    with st.container(horizontal=True, vertical_alignment="bottom", key="stepper"):
        st.button(_("Back"), on_click=go, args=(-1,), shortcut="Left", disabled=at == 0, key="step-back",
                  icon=":material/arrow_back:")
        st.button(_("Forward"), on_click=go, args=(1,), shortcut="Right", disabled=at == len(STEPS) - 1,
                  key="step-forward", icon=":material/arrow_forward:", type="primary")
        return controls.choice(_("Step"), step_names(_), key=STEP)
