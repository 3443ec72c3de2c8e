"""Why LayerNorm, and why not BatchNorm? Two axes on one batch, four experiments, and what norms do to depth."""

import streamlit as st

from engine import LocalEngine, Trace
from engine.norm_activations import Activations
from pages.widgets import (
    badge,
    banners,
    drawn,
    language,
    normalization_axes,
    normalization_data,
    normalization_depth,
    normalization_experiments,
    normalization_training,
    permalink,
    prompt_box,
    runner,
    runtime,
)
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate

PERMALINK = (
    "model", "text", "target", "norm_site", *normalization_axes.NAMES, *normalization_experiments.NAMES,
    *normalization_depth.NAMES, *normalization_training.NAMES,
)


def activations(engine: LocalEngine, trace: Trace, spoken: Language, _: Translate) -> bool | None:
    """The two axes and the four experiments, on what enters one norm of the model.

    Returns:
        Whether the address says all of it; None where there is nothing to say.
    """
    prompt = trace.prompt
    found = normalization_data.sites(engine, prompt.model, prompt.text)
    reading = tuple(site for site in found if site.stack == trace.streams[0])
    if not reading:
        st.info(_("No LayerNorm or RMSNorm with weights of its own was found in this model. Choose another one."),
                icon=":material/info:")
        return None
    site = normalization_axes.choose_site(reading, _)
    with st.spinner(_("Reading a batch of sentences …")):
        batch = normalization_data.batch(engine, prompt.model, prompt.text, site)
    facts = [(_("Model"), prompt.model), (_("Sentence"), prompt.text), (_("Norm"), site.name)]
    more = normalization_axes.moments(batch, _)
    axes(batch, more, facts, spoken, _)
    drawn.show(more, per_row=3)
    normalization_axes.checked(batch, _)
    st.header(_("Four experiments"))
    normalization_experiments.show(normalization_experiments.Bench(engine, trace, batch, found, facts, spoken, _))
    return permalink.write({"model": prompt.model, "text": prompt.text, "target": prompt.target,
                            "norm_site": site.name})


@st.fragment
def axes(batch: Activations, more: list[Drawn], facts: list[tuple[str, str]], spoken: Language, _: Translate) -> None:
    """The band that each norm averages over: what changes with a slider, without the rest of the page."""
    with banners.guard(_):
        permalink.write(normalization_axes.show(batch, more, facts, spoken, _))


@st.fragment
def depth(spoken: Language, _: Translate) -> None:
    """Gradients and stream before training."""
    with banners.guard(_):
        permalink.write(normalization_depth.show(spoken, _))


@st.fragment
def training(spoken: Language, _: Translate) -> None:
    """Loss curves of a short training."""
    with banners.guard(_):
        permalink.write(normalization_training.show(spoken, _))


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Why LayerNorm"))
st.caption(_("Why LayerNorm, and why not BatchNorm? Both subtract a mean and divide by a spread; they differ in what "
             "they average over."))
engine = runtime.engine()
prompt = prompt_box.ask(engine, _)
trace = runner.run(engine, prompt, _) if prompt is not None else None
if prompt is None:
    st.info(_("Type a sentence above, or pick an example, to see what a model's norms do to it."),
            icon=":material/edit:")
complete = None
if trace is not None:
    badge.show(trace, _)
    banners.show_notes(trace.notes, _)
    st.header(_("Two axes on the same activations"))
    with banners.guard(_):
        complete = activations(engine, trace, spoken, _)
st.header(_("Where the norm stands: Post-LN and Pre-LN before training"))
depth(spoken, _)
st.header(_("And in training"))
training(spoken, _)
if complete is not None:
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))
