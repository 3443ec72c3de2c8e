"""Draws evidence: the verdict in words, the four panels, heads and rankings, and how it was decided.

It shows values that the engine made and sentences of `evidence_texts`; the one
thing a person changes here is which output word stands for A, and what effects
are measured on.
"""

from __future__ import annotations

import streamlit as st

from engine import Evidence
from engine.evidence.outputs import standing
from pages.figures import palette
from pages.figures.frame import plotly_config
from pages.widgets import evidence_panels, evidence_texts
from pages.widgets.evidence_panels import Panel
from pages.widgets.evidence_texts import quoted
from pages.widgets.keeping import keep
from pages.widgets.language import Translate
from pages.widgets.texts import signed

#: Panels that stand side by side, row by row.
ROWS = (("attends", "flows"), ("used", "needed"), ("heads", "rankings"))


def verdict(evidence: Evidence, _: Translate, *, key: str = "verdict") -> None:
    """The verdict's name and its sentence with three numbers."""
    name, colour = evidence_texts.name(evidence, _)
    with st.container(border=True, key=key):
        st.markdown(f"### :{colour}-badge[{name}]")
        st.markdown(evidence_texts.sentence(evidence, _))
        if evidence.contrast is not None:
            st.caption(_("Judged on {margin}, whatever the effects below are measured on.").format(
                margin=evidence_texts.measured(evidence, _)))


def show(evidence: Evidence, *, measure: str, theme: palette.Theme, _: Translate) -> None:
    """Everything below the verdict."""
    drawn = {panel.name: panel for panel in evidence_panels.panels(evidence, measure=measure, theme=theme, _=_)}
    for names in ROWS:
        with st.container(key=f"columns-{names[0]}"):
            for column, name in zip(st.columns(len(names), gap="large"), names, strict=True):
                with column:
                    _panel(drawn[name])
    decided(evidence, _)


def choose_measure(evidence: Evidence, _: Translate) -> str:
    """Which effects to show; a choice only where there is a contrast, on whose margin the verdict is made."""
    if evidence.contrast is None:
        return "logprob"
    names = {"margin": _("Margin over the contrast"), "logprob": _("Log-probability alone")}
    measure = st.session_state.get("measure")
    keep("measure", measure if measure in names else "margin")
    return st.segmented_control(_("Effects measured on"), list(names), key="measure", format_func=names.get,
                                required=True, persist_state="session")


def choose_output_word(evidence: Evidence, _: Translate, *, key: str = "output_word") -> None:
    """For A in an encoder–decoder's source: the candidates to stand for it, with what each way of finding says."""
    if not evidence.output_words:
        return
    # What is measured unless a person chooses: it need be neither the word by cutting nor the one by attention.
    found = standing(evidence.output_words) if evidence.output_word_chosen else evidence.output_word
    options = {"": _("{word} (automatic)").format(word=evidence.output_words[found].text)}
    for index, word in enumerate(evidence.output_words):
        marks = [text for at, text in ((evidence.output_word_by_cut, _("found by cutting")),
                                          (evidence.output_word_by_attention, _("found by cross-attention")))
                 if at == index]
        told = _("{word}: {cut} nats without A, {attention} attention").format(
            word=word.text, cut=signed(word.cut_delta), attention=evidence_texts.plain(word.attention))
        options[f"{word.span[0]}-{word.span[1]}"] = " · ".join([told, *marks])
    chosen = st.session_state.get(key)
    keep(key, chosen if chosen in options else "", among=tuple(options.values()))
    st.selectbox(_("Output word that stands for A"), list(options), key=key, format_func=options.get,
                 filter_mode=None, persist_state="session",
                 help=_("What the effects are measured on. Found by cutting A off from the decoder, and by the "
                        "attention of the row that predicts the word; choose another if you mean another."))


def decided(evidence: Evidence, _: Translate) -> None:
    """The reasons and the thresholds."""
    with st.expander(_("How this was decided"), icon=":material/gavel:", key="decided"):
        st.markdown("\n".join(f"- {text}" for text in evidence_texts.reasons(evidence, _)))
        st.markdown(_(
            "The rule: **attends and is used** when a head attends (or the heads that carry the effect do, together) "
            "and the cut edge matters; **attends but is not used** when a head attends and neither the edge nor the "
            "word matters; **used without direct attention** when the word matters without that edge, or, shown as "
            "**direct edge used; the look is not rare**, the edge matters without a head that attends; else "
            "**no evidence**."))
        rows = [f"| {number} | {text} |" for number, text in evidence_texts.thresholds(evidence.thresholds, _)]
        st.markdown("\n".join([f"| {_('Threshold')} | {_('Meaning')} |", "|---:|:---|", *rows]))
        told = _("Measured on {target} in {seconds:.1f} s. Deltas are natural logarithms, after minus before.")
        st.caption(told.format(target=quoted(evidence.target, _), seconds=evidence.seconds))


def _panel(panel: Panel) -> None:
    st.subheader(panel.title)
    st.markdown(panel.answer)
    for picture in panel.pictures:
        st.plotly_chart(picture.figure, theme=None, config=plotly_config(f"evidence-{picture.name}"),
                        key=f"evidence-{picture.name}", alt=picture.alt)
    if panel.note:
        st.caption(panel.note)
