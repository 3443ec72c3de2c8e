"""What are q, k and v? One head of a real run in seven steps, what the three do, and where they fall short."""

from dataclasses import asdict

import streamlit as st

from engine import LocalEngine, Trace
from pages.widgets import (
    badge,
    banners,
    controls,
    drawn,
    language,
    permalink,
    prompt_box,
    qkv_choice,
    qkv_heads,
    qkv_limits,
    qkv_masks,
    qkv_roles,
    qkv_walk,
    runner,
    runtime,
    stream_view,
)
from pages.widgets.language import Language, Translate
from pages.widgets.qkv_steps import Place

PERMALINK = ("model", "text", "target", "stream", "layer", "head", "row", "column", "part", "step", "neurons",
             "silenced", "mask")
#: Parts that show the chosen pair of tokens; the others are of the head, or of all heads.
OF_A_PAIR = ("walk", "roles")


@st.fragment
def explore(engine: LocalEngine, trace: Trace, spoken: Language, _: Translate) -> None:
    """Head, pair and part: what changes without running the sentence again."""
    with banners.guard(_):
        head = qkv_choice.choose_head(trace, _)
        found = qkv_choice.walk(engine, trace.prompt, head)
        view = stream_view.view(trace, head.stream, unit="tokens")
        row, column = qkv_choice.pair(found, view)
        above = st.container()
        part = controls.choice(_("Part"), {
            "walk": _("The seven steps"), "roles": _("What they do"), "limits": _("Where they fall short"),
            "heads": _("Why several heads"), "masks": _("Masks")}, key="part")
        if part in OF_A_PAIR:
            with above:
                row, column = qkv_choice.choose_pair(view, _)
        order = qkv_walk.order(_) if part == "walk" else "dimension"
        at = Place(found, view, row, column, order, st.context.theme.type or "light", _)
        if part == "walk":
            pictures = qkv_walk.show(at, _)
        elif part == "roles":
            pictures = qkv_roles.show(engine, trace.prompt, at, _)
        elif part == "limits":
            pictures = qkv_limits.show(engine, trace, at, _)
        elif part == "heads":
            pictures = qkv_heads.show(engine, trace, at, _)
        else:
            pictures = qkv_masks.show(engine, trace, at, _)
        if pictures:
            drawn.offer("qkv", pictures, facts=_facts(trace, at, part, _), language=spoken, _=_)
        _write_permalink(trace, _)


def _facts(trace: Trace, at: Place, part: str, _: Translate) -> list[tuple[str, str]]:
    head = at.walk.head
    worst = max(error for _step, error in at.walk.checks)
    return [
        (_("Sentence"), trace.source_text), (_("Output"), trace.output), (_("Model"), trace.provenance.model),
        (_("Head"), f"{head.stream}, {_('layer')} {head.layer}, {_('head')} {head.head}"),
        *([(_("Pair"), f"{at.query} → {at.key}")] if part in OF_A_PAIR else []),
        (_("Largest difference to the model's own numbers, over all steps"), f"{worst:.1e}"),
    ]


def _write_permalink(trace: Trace, _: Translate) -> None:
    names = [name for name in PERMALINK if name not in ("model", "text", "target")]
    complete = permalink.write({**asdict(trace.prompt), **{name: st.session_state.get(name) for name in names}})
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Q·K·V step by step"))
st.caption(_("What are q, k and v, what does each do, and where do they fall short? One head of a real run, number by "
             "number."))
engine = runtime.engine()
prompt = prompt_box.ask(engine, _)
if prompt is None:
    st.info(_("Type a sentence above, or pick an example, to walk through a head."), icon=":material/edit:")
    st.stop()
trace = runner.run(engine, prompt, _)
if trace is not None:
    badge.show(trace, _)
    explore(engine, trace, spoken, _)
