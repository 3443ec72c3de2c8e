"""Why divide by √d_k? Scores by chance, and the loaded model with its division taken away."""

import streamlit as st

from engine import LocalEngine, Trace
from pages.widgets import (
    banners,
    language,
    permalink,
    prompt_box,
    runner,
    runtime,
    scaling_by_chance,
    scaling_in_model,
)
from pages.widgets.language import Translate

PERMALINK = ("model", "text", "target", *scaling_by_chance.NAMES, *scaling_in_model.NAMES)


@st.fragment
def by_chance(spoken: language.Language, _: Translate) -> None:
    """Random queries and keys: what changes with a slider, without the rest of the page."""
    with banners.guard(_):
        permalink.write(scaling_by_chance.show(spoken, _))


@st.fragment
def in_model(engine: LocalEngine, trace: Trace, spoken: language.Language, _: Translate) -> None:
    """The loaded model's own queries and keys."""
    with banners.guard(_):
        view = scaling_in_model.show(engine, trace, spoken, _)
        prompt = trace.prompt
        complete = permalink.write({"model": prompt.model, "text": prompt.text, "target": prompt.target, **view})
        st.caption(_("The address of this page reopens this view.") if complete
                   else _("The text is too long for the address; it reopens this view without it."))


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Scaling and saturation"))
st.caption(_("Why divide by $\\sqrt{d_k}$? Because $q\\cdot k$ grows with $d_k$, and a softmax over large scores picks "
             "one key and stops learning."))
st.header(_("Random vectors"))
by_chance(spoken, _)
st.header(_("In a model"))
engine = runtime.engine()
prompt = prompt_box.ask(engine, _)
if prompt is None:
    st.info(_("Type a sentence above, or pick an example, to measure the heads of a model on it."),
            icon=":material/edit:")
    st.stop()
trace = runner.run(engine, prompt, _)
if trace is not None:
    banners.show_notes(trace.notes, _)
    in_model(engine, trace, spoken, _)
