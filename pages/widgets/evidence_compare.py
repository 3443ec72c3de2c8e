"""The same question twice: on two sentences or two models, side by side, with maps of the difference.

It builds the second question from the first and a few fields, and shows two
pieces of evidence beside each other. A difference is always the second minus the first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from engine import Evidence, ModelCard, Prompt
from pages.figures import evidence as figures
from pages.figures import palette
from pages.figures.frame import plotly_config
from pages.widgets import evidence_texts, evidence_view, model_box, prompt_box
from pages.widgets.banners import escape
from pages.widgets.evidence_panels import Picture
from pages.widgets.evidence_question import Question, Side, output_word, span_of
from pages.widgets.evidence_texts import plain
from pages.widgets.keeping import keep
from pages.widgets.language import Translate
from pages.widgets.texts import signed


def choose_second(question: Question, source: Side, cards: tuple[ModelCard, ...], _: Translate) -> Question | None:
    """Draws the choice of what to compare with; returns the second question, or None for no comparison."""
    state = st.session_state
    kinds = {"": _("This question alone"), "sentence": _("Beside another sentence"), "model": _("Beside another model")}
    keep("compare", state.get("compare") if state.get("compare") in kinds else "")
    kind = st.segmented_control(_("Compare"), list(kinds), key="compare", format_func=kinds.get, required=True,
                                label_visibility="collapsed", persist_state="session")
    if kind == "model":
        return _other_model(question, cards, _)
    return _other_sentence(question, source, _) if kind == "sentence" else None


def _other_model(question: Question, cards: tuple[ModelCard, ...], _: Translate) -> Question | None:
    others = [card for card in cards if card.name != question.prompt.model]
    name = model_box.choose(_("Second model"), others, key="second_model", _=_)
    prompt_box.ask_before_fetching(name, _)
    # What the first model wrote is not what the second writes: its own word is found anew.
    return _with_its_word(replace(question, prompt=Prompt(name, question.prompt.text))) if name else None


def _other_sentence(question: Question, source: Side, _: Translate) -> Question | None:
    state = st.session_state
    for name in ("second", "second_query", "second_key", "second_contrast"):
        keep(name, state.get(name) or "")
    left, a, b, c = st.columns([5, 3, 3, 3], gap="small")
    text = left.text_input(_("Second sentence"), key="second",
                           placeholder=_("the same question, asked of this sentence"), persist_state="session")
    query = a.text_input(_("A there"), key="second_query", placeholder=_("empty: the same"), persist_state="session")
    key = b.text_input(_("B there"), key="second_key",
                       placeholder=_("empty: the same, or what stands in its place"), persist_state="session")
    contrast = c.text_input(_("Contrast there"), key="second_contrast", placeholder=_("empty: the same"),
                            persist_state="session")
    if not text.strip():
        return None
    return _with_its_word(replace(
        question, prompt=Prompt(question.prompt.model, text),
        contrast=contrast.strip() or question.contrast,
        query=query.strip() or _word(question.query, source.text),
        key=key.strip() or _in_its_place(question.key, source.text, text)))


def _with_its_word(second: Question) -> Question:
    return replace(second, output_word=output_word(second, state="second_output_word"))


def _word(reference, text: str) -> str:
    return text[slice(*reference)] if isinstance(reference, tuple) else reference


def _in_its_place(reference, text: str, second: str) -> str:
    """B in the second sentence: the same word, or the characters between what the two sentences share around it."""
    word, span = _word(reference, text), span_of(reference, text)
    if word in second or span is None:
        return word
    tail = len(text) - span[1]
    between = second[span[0]:len(second) - tail]
    return between.strip() if second.startswith(text[:span[0]]) and second.endswith(text[span[1]:]) else word


def show(first: Evidence, second: Evidence, *, theme: palette.Theme, _: Translate) -> None:
    """Two verdicts, the numbers side by side, and the maps of their difference."""
    pairs = ((first, "first", "output_word"), (second, "second", "second_output_word"))
    for column, (evidence, name, state) in zip(st.columns(2, gap="large"), pairs, strict=True):
        with column:
            st.markdown(f"**{evidence_texts.quoted(evidence.source, _)}** · {escape(evidence.prompt.model)}")
            evidence_view.verdict(evidence, _, key=f"verdict-{name}")
            evidence_view.choose_output_word(evidence, _, key=state)
    rows = ["| | 1 | 2 |", "|:---|---:|---:|", *(f"| {name} | {a} | {b} |" for name, a, b in numbers(first, second, _))]
    st.markdown("\n".join(rows))
    maps = differences(first, second, theme=theme, _=_)
    if not maps:
        st.info(_("The two models' heads do not pair up ({first} and {second} layers × heads), so no difference is "
                  "drawn.").format(first="×".join(map(str, first.attention.shape)),
                                   second="×".join(map(str, second.attention.shape))), icon=":material/info:")
        return
    with st.container(key="columns-difference"):
        for column, picture in zip(st.columns(2, gap="large"), maps, strict=True):
            column.plotly_chart(picture.figure, theme=None, config=plotly_config(f"evidence-{picture.name}"),
                                key=f"evidence-{picture.name}", alt=picture.alt)
    st.caption(_("Differences are the second minus the first. Effects are on each one's own output word."))


def numbers(first: Evidence, second: Evidence, _: Translate) -> list[tuple[str, str, str]]:
    """(name, first, second) of the numbers that compare, as Markdown."""
    both = (first, second)
    heads = [evidence_texts.strongest_head(evidence) for evidence in both]
    judged = [evidence_texts.judged(evidence) for evidence in both]
    found = [
        (_("Output"), *(evidence_texts.quoted(evidence.output, _) for evidence in both)),
        (_("Measured on"), *(evidence_texts.measured(evidence, _) for evidence in both)),
        (_("Strongest head"), *(f"L{layer} H{head}" for layer, head in heads)),
        (_("its mass from A to B"), *(plain(e.attention[at]) for e, at in zip(both, heads, strict=True))),
        (_("usual at this distance"), *(plain(e.baseline_offset[at]) for e, at in zip(both, heads, strict=True))),
        (_("Heads that attend"), *(str(int(evidence.attending.sum())) for evidence in both)),
        (_("Rollout from A to B"), *(plain(evidence.rollout) for evidence in both)),
        (_("Edge cut, nats"), *(signed(cut) for cut, _control, _hide, _hidden in judged)),
        (_("the same, other words"), *(plain(control) for _cut, control, _hide, _hidden in judged)),
        (_("B hidden from everyone, nats"), *(signed(hide) for _cut, _control, hide, _hidden in judged)),
        (_("Measured form no longer written with another B"), *(_changed(evidence) for evidence in both)),
    ]
    return found


def differences(first: Evidence, second: Evidence, *, theme: palette.Theme, _: Translate) -> tuple[Picture, ...]:
    """Maps over heads of the second minus the first: attention, and the cut's effect; () where the heads differ."""
    if first.attention.shape != second.attention.shape:
        return ()
    texts = {"layer": _("layer"), "head": _("head")}
    margin = first.contrast is not None and second.contrast is not None
    effect = (second.margin_delta_by_head - first.margin_delta_by_head if margin
              else second.delta_by_head - first.delta_by_head)
    return (
        Picture("difference-attention", figures.head_map(
            second.attention - first.attention, texts=texts | {"value": _("mass from A to B, difference")},
            title=_("Attention: second − first"), theme=theme), _("Map of heads: difference of the mass from A to B")),
        Picture("difference-effect", figures.head_map(
            np.asarray(effect), texts=texts | {"value": _("effect of the cut, difference in nats")},
            title=_("Effect of the cut: second − first"), theme=theme),
            _("Map of heads: difference of the cut's effect")),
    )


def _changed(evidence: Evidence) -> str:
    tried = [given.changed for given in evidence.replacements if given.changed is not None]
    return f"{sum(tried)} / {len(tried)}"
