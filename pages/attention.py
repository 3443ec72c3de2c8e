"""Type a sentence, see every head: the grid of all maps of one real run, and each head opened."""

import streamlit as st

from engine import Head, LocalEngine, Prompt, Trace
from pages.widgets import (
    badge,
    banners,
    export,
    flags,
    head_browser,
    head_detail,
    language,
    permalink,
    prompt_box,
    runner,
    runtime,
    stream_view,
    texts,
)
from pages.widgets.keeping import keep
from pages.widgets.language import Translate

PERMALINK = ("model", "text", "target", "stream", "layer", "head", "row", "unit")


@st.fragment
def explore(engine: LocalEngine, trace: Trace, spoken: language.Language, _: Translate) -> None:
    """Stream, unit, grid, head: what changes without running the model again."""
    with banners.guard(_):
        stream, unit = _choose_stream(trace, _)
        shown = stream_view.view(trace, stream, unit=unit)
        st.toggle(_("Stretch colours to the strongest hundredth"), key=head_browser.STRETCH,
                  help=_("For long texts, whose weights are small. Off: the strongest colour is weight 1."))
        layer, index = head_browser.browse(engine, trace, shown, _)
        left, right = st.columns([5, 2], vertical_alignment="bottom")
        left.subheader(_("{stream} · layer {layer}, head {head}").format(
            stream=texts.streams(_)[stream], layer=layer, head=index))
        detail = head_detail.show(engine, trace, Head(stream, layer, index), shown, _)
        with right:
            export.offer(engine, trace, detail, language=spoken, _=_)
        _write_permalink(trace.prompt, _, stream=stream, layer=layer, head=index, unit=unit)


def _write_permalink(prompt: Prompt, _: Translate, **view: str | int) -> None:
    complete = permalink.write({
        "model": prompt.model, "text": prompt.text, "target": prompt.target, "row": st.session_state.get("row"), **view,
    })
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))


def _choose_stream(trace: Trace, _: Translate) -> tuple[str, str]:
    names = texts.streams(_)
    units = {"words": _("Words"), "tokens": _("Tokens")}
    state = st.session_state
    stream = state.get("stream")
    keep("stream", stream if stream in trace.streams else trace.streams[0], among=tuple(trace.streams))
    keep("unit", state.get("unit") if state.get("unit") in units else "words")
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    stream = left.segmented_control(_("Stream"), trace.streams, key="stream", required=True,
                                    format_func=names.get, label_visibility="collapsed", persist_state="session")
    unit = right.segmented_control(
        _("Words or tokens"), list(units), key="unit", required=True, format_func=units.get,
        label_visibility="collapsed", persist_state="session",
        help=_("Words: weights summed over a word's keys, averaged over its queries."))
    return stream, unit


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Attention"))
st.caption(_("Type a sentence: the model really runs, and every attention head of that run is below."))
engine = runtime.engine()
prompt = prompt_box.ask(engine, _)
if prompt is None:
    st.info(_("Type a sentence above, or pick an example, to see every head at work."), icon=":material/edit:")
    st.stop()
trace = runner.run(engine, prompt, _)
if trace is not None:
    prompt_box.hint(trace, spoken)
    badge.show(trace, _)
    banners.show_notes(trace.notes, _)
    flags.show(trace, _)
    explore(engine, trace, spoken, _)
