"""Does A attend to B? Two words of a sentence, four answers with their baselines, and a verdict in words."""

import streamlit as st

from engine import LocalEngine
from pages.widgets import (
    banners,
    evidence_compare,
    evidence_emergence,
    evidence_question,
    evidence_report,
    evidence_run,
    evidence_view,
    flags,
    language,
    permalink,
    runner,
    runtime,
)
from pages.widgets.evidence_question import PERMALINK, Question
from pages.widgets.language import Translate


def answer(engine: LocalEngine, question: Question, second: Question | None, spoken: language.Language,
           _: Translate) -> None:
    """The verdict, the comparison where one was asked for, the panels, and the report."""
    evidence = evidence_run.run(engine, question, _)
    if evidence is None:
        return
    other = evidence_run.run(engine, second, _) if second else None
    theme = st.context.theme.type or "light"
    if other is None:
        evidence_view.verdict(evidence, _)
    else:
        evidence_compare.show(evidence, other, theme=theme, _=_)
        st.header(_("The first question in full"))
    left, right = st.columns([3, 2], gap="medium", vertical_alignment="bottom")
    if other is None:
        with left:
            evidence_view.choose_output_word(evidence, _)
    with right:
        measure = evidence_view.choose_measure(evidence, _)
    evidence_view.show(evidence, measure=measure, theme=theme, _=_)
    emergence = evidence_emergence.offer(engine, question, evidence, language=spoken, theme=theme, _=_)
    evidence_report.offer(evidence, other, emergence, measure=measure, language=spoken, theme=theme, _=_)


spoken = language.chosen()
_ = language.translator(spoken)
permalink.restore(PERMALINK)
st.title(_("Evidence"))
st.caption(_("Does one word attend to another, and does the model use it? The model really runs, some hundred times "
             "over with one thing changed, and every number has its baseline."))
engine = runtime.engine()
cards = engine.models()
prompt = evidence_question.choose_sentence(cards, language=spoken, _=_)
if prompt is None:
    st.info(_("Type a sentence above, or pick a ready question."), icon=":material/edit:")
    st.stop()
trace = runner.run(engine, prompt, _)
if trace is None:
    st.stop()
with banners.guard(_):
    flags.show(trace, _)
    question = evidence_question.choose_words(trace, _)
    if question is None:
        st.info(_("Click two words: first the one that looks, then the one it may look at."),
                icon=":material/touch_app:")
        st.stop()
    second = evidence_compare.choose_second(question, evidence_question.source_side(trace), cards, _)
    answer(engine, question, second, spoken, _)
    complete = permalink.write({name: st.session_state.get(name) or None for name in PERMALINK})
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))
