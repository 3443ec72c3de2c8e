"""What q, k and v do: roles swapped, and one of the three silenced in a real rerun.

It shows `engine.circuits` and `engine.knockouts`; it computes nothing of its own.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import Head, LocalEngine, Prompt, circuits, knockouts
from engine.circuits import ROLES, SILENCED
from engine.knockouts import Effects
from engine.walk_types import Walk
from pages.figures import attention, qkv
from pages.figures.frame import compact
from pages.widgets import controls, drawn
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.qkv_steps import Place
from pages.widgets.texts import signed

#: Width of each of several patterns beside each other, in pixels.
PICTURE_WIDTH = 360


def show(engine: LocalEngine, prompt: Prompt, at: Place, _: Translate) -> list[Drawn]:
    """Draws both experiments; returns their pictures."""
    st.markdown(f"#### {_('Swap the roles')}")
    pictures = _swap(at, _)
    st.markdown(f"#### {_('Silence one of the three')}")
    return pictures + _silence(engine, prompt, at, _)


def _swap(at: Place, _: Translate) -> list[Drawn]:
    if not at.walk.self_attention:
        st.info(_("In cross-attention queries come from one text and keys from another, so the roles cannot be "
                  "swapped. Choose another stream."), icon=":material/info:")
        return []
    swapped = {one.role: one for one in circuits.swap_roles(at.walk)}
    own = swapped["query·key"]
    row, column = at.row, at.column
    st.markdown(_("As trained, {query} scores {key} **{there}** and is scored **{back}** in return: "
                  "{share:.0%} of this head's scores are one-sided. With keys for queries (K·Kᵀ) or without "
                  "projections (X·Xᵀ) every score is the same both ways: **{keys:.0%}** and **{plain:.0%}** are "
                  "one-sided.").format(
        **at.words(), there=signed(float(own.scores[row, column])), back=signed(float(own.scores[column, row])),
        share=own.asymmetry, keys=swapped["key·key"].asymmetry, plain=swapped["input·input"].asymmetry))
    names = {"query·key": "Q·Kᵀ", "key·key": _("K·Kᵀ: keys for queries"),
             "input·input": _("X·Xᵀ: no projections")}
    pictures = [_pattern(f"role-{number}", names[role], swapped[role].weights, at, _)
                for number, role in enumerate(ROLES)]
    drawn.show_small(pictures, width=PICTURE_WIDTH)
    st.caption(_("Drawn are the patterns after mask and softmax. K·Kᵀ and X·Xᵀ make words look at what resembles them, "
                 "themselves first: {keys:.0%} and {plain:.0%} of the weight lies on the diagonal, {own:.0%} as "
                 "trained.").format(
        keys=_diagonal(swapped["key·key"].weights), plain=_diagonal(swapped["input·input"].weights),
        own=_diagonal(own.weights)))
    return pictures


def _silence(engine: LocalEngine, prompt: Prompt, at: Place, _: Translate) -> list[Drawn]:
    names = {"query": "q", "key": "k", "value": "v"}
    part = controls.choice(_("Replace by its mean over the words"), names, key="silenced")
    effects = _effects(engine, prompt, at.walk.head, at.walk)
    means, which = effects.mean(), SILENCED.index(part)
    meaning = {
        "query": _("Every word asks the same question"), "key": _("Every word gives the same answer to it"),
        "value": _("Every word hands over the same, whatever the weights"),
    }[part]
    weights, mixed = circuits.silence(at.walk, part)
    moved = np.linalg.norm(mixed[at.row] - at.walk.mixed[at.row]) / np.linalg.norm(at.walk.mixed[at.row])
    st.markdown(_("{meaning}: what the head brings to {query} changes by **{moved:.0%}** of its length, its weight on "
                  "{key} from {before:.3f} to {after:.3f}. The model's output changes by **{effect}**.").format(
        **at.words(), meaning=meaning, moved=moved, before=float(at.walk.weights[at.row, at.column]),
        after=float(weights[at.row, at.column]), effect=amount(effects, which, _)))
    before = _pattern("before", _("as trained"), at.walk.weights, at, _)
    after = _pattern("silenced", _("{part} replaced by its mean").format(part=names[part]), weights, at, _)
    labels = [_("{part} replaced").format(part=names[one]) for one in SILENCED] + [_("head removed")]
    figure = qkv.bars(means, labels=labels, name=unit_name(effects, _), selected=which, number=None, theme=at.theme)
    change = Drawn("silence-effect", _("Change of the model's output"), figure,
                   {_("what"): labels, unit_name(effects, _): means})
    drawn.show_small([before, after, change], width=PICTURE_WIDTH)
    st.caption(flipped(effects, which, _))
    return [before, after, change]


@st.cache_resource(max_entries=16, show_spinner=False)
def _effects(_engine: LocalEngine, prompt: Prompt, head: Head, _walk: Walk) -> Effects:
    runs = [{head.head: circuits.silence(_walk, part)[1]} for part in SILENCED]
    runs.append({head.head: np.zeros_like(_walk.mixed)})
    return knockouts.replace_outputs(_engine, prompt, head, runs)


def unit_name(effects: Effects, _: Translate) -> str:
    """The unit of a change as an axis says it."""
    return _("change of the output, nats") if effects.unit == "nats" else _("change of the output, share of its length")


def amount(effects: Effects, run: int, _: Translate) -> str:
    """The mean change of one run with its unit."""
    value = effects.mean()[run]
    return _("{value} nats a word").format(value=compact(value)) if effects.unit == "nats" else f"{value:.1%}"


def flipped(effects: Effects, run: int, _: Translate) -> str:
    """Which of the likeliest tokens one run changes, in words; "" without a vocabulary."""
    if not effects.tokens:
        return ""
    changed = [f"{escape(old)} → {escape(new)}"
               for old, new in zip(effects.tokens, effects.edited_tokens[run], strict=True) if old != new]
    if not changed:
        return _("No row's likeliest token changes.")
    return _("Rows whose likeliest token changes: {changed}.").format(changed=_(", ").join(changed[:12]))


def _pattern(name: str, title: str, weights: np.ndarray, at: Place, _: Translate) -> Drawn:
    shown = np.where(at.walk.terms.visible, weights, np.nan).astype(np.float32)
    figure = attention.pattern_heatmap(shown, query_labels=at.view.queries, key_labels=at.view.keys, theme=at.theme,
                                       texts={"query": _("query"), "key": _("key"), "weight": _("weight")})
    qkv.mark_cell(figure, at.row, at.column, theme=at.theme)
    columns = {_("query"): at.view.queries} | {f"{i} {key}": shown[:, i] for i, key in enumerate(at.view.keys)}
    return Drawn(name, title, figure, columns)


def _diagonal(weights: np.ndarray) -> float:
    return float(np.trace(weights) / len(weights))
