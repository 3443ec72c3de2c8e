"""What masks hide: the future in a decoder, padding in a batch; and cross-attention, which hides nothing.

It shows reruns of `engine.knockouts` and the walk; it computes nothing of its own.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import Head, LocalEngine, Prompt, Trace, circuits, knockouts
from engine.knockouts import Effects, Padded
from pages.figures import attention, qkv
from pages.figures.frame import compact
from pages.widgets import controls, drawn, qkv_choice, stream_view, texts
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.qkv_steps import Place

#: Tokens of padding that the experiment adds.
PADS = 3
PICTURE_WIDTH = 480


def show(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    """Draws one kind of mask; returns its pictures."""
    names = {}
    if "decoder" in trace.streams:
        names["causal"] = _("causal")
    names["padding"] = _("padding")
    if "cross" in trace.streams:
        names["cross"] = _("cross")
    kind = controls.choice(_("Mask"), names, key="mask")
    draw = {"causal": _causal, "padding": _padding, "cross": _cross}[kind]
    pictures = draw(engine, trace, at, _)
    drawn.show_small(pictures, width=PICTURE_WIDTH)
    return pictures


def _causal(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    chosen, at = at.walk.head.stream, _of_stream(engine, trace, at, "decoder")
    _heading(at, _)
    if chosen != "decoder":
        st.caption(_("Only the decoder hides what comes later: this is its head of the same layer and number, "
                     "whichever stream is chosen above."))
    lifted = st.toggle(_("Mask off"), key="unmasked", help=_("In every head of the decoder, in a real rerun."))
    weights, leaked = circuits.lift_mask(at.walk)
    shown = weights if lifted else np.where(at.walk.terms.visible, at.walk.weights, np.nan)
    pattern = _pattern("causal", _("Pattern without the mask") if lifted else _("Pattern with the mask"), shown, at, _)
    scores = _scores(at, _)
    found = _leak(engine, trace.prompt)
    if found is None:
        st.markdown(_("Without the mask this head would put **{leaked:.0%}** of its weight on words that come later. A "
                      "single token has none after it.").format(leaked=leaked))
        return [scores, pattern]
    effects, changed = found
    masked, unmasked = effects.change
    word = escape(at.view.keys[changed])
    st.markdown(_("Another word in place of the last one, “**{word}**”: with the mask the rows before it change by "
                  "**{masked}**, nothing; without it by **{unmasked:.3f}** a row: the future leaks into the past. "
                  "Without the mask this head would put **{leaked:.0%}** of its weight on later words.").format(
        word=word, masked=compact(float(masked.mean())), unmasked=float(unmasked.mean()), leaked=leaked))
    labels = list(at.view.queries[:changed])
    figure = qkv.bar_pairs(masked, unmasked, labels=labels, names=(_("with the mask"), _("without the mask")),
                           name=_("change of the row"), theme=at.theme)
    leak = Drawn("leak", _("Change of each earlier row when the last word changes"), figure, {
        _("row"): labels, _("with the mask"): masked, _("without the mask"): unmasked})
    return [scores, pattern, leak]


def _padding(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    found = _padded(engine, trace.prompt, at.walk.head)
    hidden, unhidden = found.change
    _heading(at, _)
    if at.walk.head.stream == "decoder" and "cross" in trace.streams:
        st.markdown(_("An encoder–decoder's decoder does not read the text, so its padding is not among these keys. In "
                      "the output, {pads} tokens of padding change {hidden} with the mask and **{unhidden:.3f}** "
                      "without. Choose the encoder's or the cross stream to see the head.").format(
            pads=found.n_pads, hidden=compact(hidden), unhidden=unhidden))
        return []
    if found.mass == 0:
        st.markdown(_("{pads} tokens of padding after the text change nothing, masked or not: the causal mask hides "
                      "what comes later anyway ({hidden} and {unhidden}).").format(
            pads=found.n_pads, hidden=compact(hidden), unhidden=compact(unhidden)))
    else:
        st.markdown(_("{pads} tokens of padding after the text: hidden by the mask they change the output by "
                      "{hidden}, rounding. Unhidden they draw **{mass:.0%}** of this head's weight, and the output "
                      "changes by **{unhidden:.3f}**.").format(
            pads=found.n_pads, hidden=compact(hidden), mass=found.mass, unhidden=unhidden))
    pads = tuple(_("padding") for _pad in range(found.n_pads))
    keys = at.view.keys + pads
    queries = at.view.queries + pads[:len(found.weights) - len(at.view.queries)]
    masked = found.weights.copy()
    masked[:, len(at.view.keys):] = np.nan
    if not at.walk.terms.visible.all():
        later = np.triu(np.ones_like(masked, bool), 1)
        masked[later], unmasked = np.nan, np.where(later, np.nan, found.unhidden)
    else:
        unmasked = found.unhidden
    return [_heat(name, title, weights, queries, keys, at, _) for name, title, weights in (
        ("padding-hidden", _("Padding hidden by the mask"), masked),
        ("padding-seen", _("Nobody says what is padding"), unmasked))]


def _cross(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    chosen, at = at.walk.head.stream, _of_stream(engine, trace, at, "cross")
    _heading(at, _)
    if chosen != "cross":
        st.caption(_("This is the cross-attention head of the same layer and number, whichever stream is chosen "
                     "above."))
    n, m = at.walk.weights.shape
    st.markdown(_("Cross-attention masks nothing: all **{n}** rows of the output see all **{m}** words of the text, "
                  "since the text is there from the start. A row may read what comes later in the text, never what "
                  "comes later in the output.").format(n=n, m=m))
    return [_scores(at, _), _pattern("cross-pattern", _("Pattern"), at.walk.weights, at, _)]


def _heading(at: Place, _: Translate) -> None:
    """Says which head is shown: for some masks it is of another stream than the chosen one."""
    head = at.walk.head
    place = _("layer {layer}, head {head}").format(layer=head.layer, head=head.head)
    st.markdown(f"#### {texts.streams(_)[head.stream]} · {place}")


def _of_stream(engine: LocalEngine, trace: Trace, at: Place, stream: str) -> Place:
    """The same place in another stream: its layer and head if there are such, its first tokens if the row is beyond."""
    if at.walk.head.stream == stream:
        return at
    n_layers, n_heads = trace.layers_heads(stream)
    head = Head(stream, min(at.walk.head.layer, n_layers - 1), min(at.walk.head.head, n_heads - 1))
    found = qkv_choice.walk(engine, trace.prompt, head)
    n, m = found.weights.shape
    view = stream_view.view(trace, stream, unit="tokens")
    return Place(found, view, min(at.row, n - 1), min(at.column, m - 1), at.order, at.theme, at._)


def _scores(at: Place, _: Translate) -> Drawn:
    figure = qkv.masked_scores(at.walk.scaled, at.walk.terms.visible, query_labels=at.view.queries,
                               key_labels=at.view.keys, theme=at.theme, texts={
                                   "query": _("query"), "key": _("key"), "score": _("score"), "masked": _("masked")})
    columns = {_("query"): at.view.queries} | {f"{i} {key}": at.walk.scores[:, i] for i, key in enumerate(at.view.keys)}
    return Drawn("mask-scores", _("Scores, the mask drawn over them"), figure, columns)


def _pattern(name: str, title: str, weights: np.ndarray, at: Place, _: Translate) -> Drawn:
    return _heat(name, title, weights, at.view.queries, at.view.keys, at, _)


def _heat(name: str, title: str, weights: np.ndarray, queries: tuple[str, ...], keys: tuple[str, ...], at: Place,
          _: Translate) -> Drawn:
    figure = attention.pattern_heatmap(
        weights.astype(np.float32), query_labels=queries, key_labels=keys, theme=at.theme,
        texts={"query": _("query"), "key": _("key"), "weight": _("weight")})
    columns = {_("query"): queries} | {f"{i} {key}": weights[:, i] for i, key in enumerate(keys)}
    return Drawn(name, title, figure, columns)


@st.cache_resource(max_entries=16, show_spinner=False)
def _leak(_engine: LocalEngine, prompt: Prompt) -> tuple[Effects, int] | None:
    return knockouts.leak(_engine, prompt)


@st.cache_resource(max_entries=16, show_spinner=False)
def _padded(_engine: LocalEngine, prompt: Prompt, head: Head) -> Padded:
    return knockouts.pad(_engine, prompt, head, n_pads=PADS)
