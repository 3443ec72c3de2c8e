"""If nothing is read in order, how does a model know the order? The problem, five answers, and this model's own."""

import streamlit as st

from engine import LocalEngine, Prompt
from engine.position_types import ModelPositions
from pages.widgets import (
    badge,
    banners,
    language,
    permalink,
    positions_encodings,
    positions_model,
    positions_order,
    prompt_box,
    runner,
    runtime,
    sentences,
)
from pages.widgets.language import Language, Translate

PERMALINK = (
    "model", "text", "order", "seed", "layer", "head", "encoding", "n", "d", "base", "at", "dimension", "trained",
    "factor", "scaling", "heads", "alibi_head", "direction", "buckets", "max_distance", "length", "source", "own_at",
)


@st.fragment
def problem(engine: LocalEngine, prompt: Prompt, spoken: Language, _: Translate) -> None:
    """The same tokens in two orders, with positions and without."""
    with banners.guard(_), st.container(key="problem"):
        permalink.write({"model": prompt.model, "text": prompt.text, **positions_order.show(engine, prompt, spoken, _)})


@st.fragment
def answers(engine: LocalEngine, model: str | None, spoken: Language, _: Translate) -> None:
    """Five encodings in closed form; the learned one is the model's, where it has one."""
    def found(n: int) -> ModelPositions | None:
        return positions_model.read(engine, model, n) if model else None

    with banners.guard(_), st.container(key="answers"):
        permalink.write(positions_encodings.show(found, spoken, _))


@st.fragment
def own(engine: LocalEngine, model: str, spoken: Language, _: Translate) -> None:
    """What the loaded model really uses."""
    with banners.guard(_), st.container(key="own"):
        permalink.write(positions_model.show(engine, model, spoken, _))


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Positions"))
st.caption(_("If nothing is read in order, how does the model know the order?"))
engine = runtime.engine()
# The shortest example: with so few words, who does what is said by the order alone.
shortest = min(sentences.load(), key=lambda example: len(example.text))
st.session_state.setdefault(prompt_box.TEXT, shortest.text)
st.subheader(_("The problem: one sentence, two orders"))
prompt = prompt_box.ask(engine, _)
trace = runner.run(engine, prompt, _) if prompt is not None else None
if trace is not None:
    badge.show(trace, _)
    problem(engine, prompt, spoken, _)
st.subheader(_("Five answers"))
answers(engine, prompt.model if trace is not None else None, spoken, _)
if trace is not None:
    st.subheader(_("From this model: {model}").format(model=banners.escape(prompt.model)))
    own(engine, prompt.model, spoken, _)
st.caption(_("The address of this page reopens this view."))
