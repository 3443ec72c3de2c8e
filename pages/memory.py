"""Why does a whole book eat so much GPU memory? A cache that grows before your eyes, and a calculator for any model."""

import streamlit as st

from pages.widgets import banners, keeping, kv_calculator, kv_controls, kv_growth_view, language, permalink, runtime
from pages.widgets.language import Translate

VIEWS = ("calculator", "growth")
PERMALINK = ("view", "model", "text", kv_growth_view.STEPS, kv_growth_view.STEP, *kv_controls.NAMES)


@st.fragment
def calculate(spoken: language.Language, _: Translate) -> None:
    """What changes with a slider, without the rest of the page."""
    with banners.guard(_):
        kv_calculator.show(runtime.engine(), language=spoken, _=_)


@st.fragment
def grow(spoken: language.Language, _: Translate) -> None:
    """A run of the loaded model."""
    with banners.guard(_):
        kv_growth_view.show(runtime.engine(), language=spoken, _=_)


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Memory and the KV cache"))
st.caption(_("Why does a whole book eat so much GPU memory? To write the next token, a model keeps the keys and values "
             "of every token before it."))
names = {"calculator": _("Calculate any model"), "growth": _("Watch a cache grow")}
view = st.session_state.get("view")
keeping.keep("view", view if view in VIEWS else VIEWS[0])
view = st.segmented_control(_("View"), VIEWS, key="view", format_func=names.get, required=True,
                            label_visibility="collapsed", persist_state="session")
(calculate if view == "calculator" else grow)(spoken, _)
