"""Evidence as panels: for each of the four answers, for the heads and the rankings, a question, words and pictures.

The page and the report show the same panels. Texts are Markdown with everything
that was typed or written escaped. It measures nothing and draws no widget.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from engine import Evidence
from engine.evidence_types import RankCorrelations
from pages.figures import evidence as figures
from pages.figures import palette
from pages.figures.frame import columns_of, written
from pages.widgets import evidence_texts, texts
from pages.widgets.banners import escape
from pages.widgets.evidence_texts import plain, quoted
from pages.widgets.language import Translate
from pages.widgets.texts import signed

#: What effects can be measured on: the output's log-probability, or its margin over a contrast.
MEASURES = ("logprob", "margin")
#: A loss below this would be written as 0.00.
LEAST = 0.005
#: Fewer words than these are not ranked: of three, every third order agrees or disagrees wholly.
FEWEST_RANKED = 4


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure, its name in keys and files, and what a screen reader says of it."""

    name: str
    figure: go.Figure
    alt: str


@dataclass(frozen=True, eq=False)
class Panel:
    """One answer.

    Attributes:
        name: of the panel, in keys.
        title: the question it answers.
        answer: Markdown, one or two sentences.
        pictures: from top to bottom; () where there is nothing to draw.
        note: Markdown in small print, or "".
    """

    name: str
    title: str
    answer: str
    pictures: tuple[Picture, ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Effects:
    """The effects of one measure, under one name each.

    Attributes:
        cut, control: Δ of the cut edge, and the median |Δ| of its controls; NaN without any.
        by_layer, by_head: (n_layers,) and (n_layers, n_heads).
        hide, hide_control: the same of hiding B.
        patch: Δ of the patched vector.
        word_cut, word_hide: (n_words,) of every word.
        replaced, patched: (n_replacements,) of the sentences with another B, and of A's vector from each of them.
        ranks: how far the measures rank the words alike.
        of: what Δ is of, a formula in plain text.
        name: of Δ, plain text.
        left: what a value left of zero says, Markdown.
    """

    cut: float
    control: float
    by_layer: np.ndarray
    by_head: np.ndarray
    hide: float
    hide_control: float
    patch: float
    word_cut: np.ndarray
    word_hide: np.ndarray
    replaced: np.ndarray
    patched: np.ndarray
    ranks: RankCorrelations
    of: str
    name: str
    left: str


def effects(evidence: Evidence, *, measure: str, _: Translate) -> Effects:
    """The effects on `measure`, one of MEASURES."""
    given, median = evidence, evidence_texts.median_size
    if measure == "logprob":
        return Effects(
            given.delta_logprob, median(given.control_deltas), given.delta_by_layer, given.delta_by_head,
            given.hide_delta, median(given.hide_control_deltas), given.patch_delta,
            np.array([word.cut for word in given.words]), np.array([word.hide for word in given.words]),
            np.array([tried.delta for tried in given.replacements]),
            np.array([tried.patch_delta for tried in given.replacements]), given.correlations,
            evidence_texts.formula(given.target, None),
            _("Δ log p({target}), nats").format(target=given.target), _("Left of zero the output lost probability."))
    return Effects(
        given.margin_delta, median(given.margin_control_deltas), given.margin_delta_by_layer,
        given.margin_delta_by_head, given.margin_hide_delta, median(given.margin_hide_control_deltas),
        given.margin_patch_delta, np.array([word.cut_margin for word in given.words]),
        np.array([word.hide_margin for word in given.words]),
        np.array([tried.margin - given.margin for tried in given.replacements]),
        np.array([tried.patch_margin_delta for tried in given.replacements]), given.margin_correlations,
        evidence_texts.formula(given.target, given.contrast),
        _("Δ of log p({target}) − log p({contrast}), nats").format(target=given.target, contrast=given.contrast),
        _("Left of zero the lead of {target} over {contrast} shrank.").format(
            target=quoted(given.target, _), contrast=quoted(given.contrast, _)))


def panels(evidence: Evidence, *, measure: str, theme: palette.Theme, _: Translate) -> tuple[Panel, ...]:
    """All panels in their order: attends, flows, used, needed, heads, rankings."""
    found = effects(evidence, measure=measure, _=_)
    return (
        _attends(evidence, theme, _), _flows(evidence, theme, _), _used(evidence, found, theme, _),
        _needed(evidence, found, theme, _), _heads(evidence, found, theme, _), _rankings(evidence, found, theme, _),
    )


def _said(evidence: Evidence, *prefixes: str, _: Translate) -> str:
    """The reasons whose code begins with one of `prefixes`, as sentences in a row."""
    found = [reason for reason in evidence.reasons if reason.code.startswith(prefixes)]
    return " ".join(evidence_texts.explain(reason, _, contrast=evidence.contrast) for reason in found)


def _attends(evidence: Evidence, theme: palette.Theme, _: Translate) -> Panel:
    together = None if not np.isfinite(evidence.carriers_mass) else figures.Together(
        _("carriers, weighted mean"), evidence.carriers_mass, evidence.carriers_uniform, evidence.carriers_offset,
        evidence.carriers_attend)
    figure = figures.head_masses(
        evidence.attention, uniform=evidence.baseline_uniform, offset=evidence.baseline_offset,
        swap=evidence.baseline_swap, attending=evidence.attending, together=together,
        theme=theme, texts={"mass": _("mass on B (filled: attends)"), "uniform": _("uniform"),
                            "offset": _("usual at this distance"), "swap": _("other words in B's place")})
    shown, every = min(figures.MOST_HEADS, evidence.attention.size), evidence.attention.size
    note = _("{stream}: {shown} of {every} heads, the strongest first. Usual at this distance: the same head "
             "over {windows} places in {sentences} reference sentences, {distance}.").format(
        stream=texts.streams(_)[evidence.stream], shown=shown, every=every, windows=f"{evidence.reference_windows:,}",
        sentences=f"{evidence.reference_sentences:,}", distance=_distance(evidence, _))
    if together is not None:
        note += " " + _("Carriers: the heads by their share of the cut's effect, taken as one.")
    answer = _said(evidence, "head_attends", "carriers_", "only_", "not_significant", "no_head", _=_)
    return Panel("attends", _("1 · Attends? Does A look at B?"), answer, (Picture("attends", figure, _(
        "Bars: each head's mass from A to B, beside three baselines")),), note)


def _distance(evidence: Evidence, _: Translate) -> str:
    """Where the reference's other word stands from the looking one: so many tokens before or after it."""
    low, high = evidence.reference_offsets
    if evidence.stream == "cross" or low <= 0 <= high:
        # Two texts, whose places are counted from their starts, or either side.
        offsets = " … ".join(written(offset, "+d") for offset in sorted({low, high}))
        return _("at an offset of {offsets} tokens").format(offsets=offsets)
    if abs(low) == abs(high) == 1:
        return _("one token before") if low < 0 else _("one token after")
    counts = "–".join(str(count) for count in sorted({abs(low), abs(high)}))
    return (_("{counts} tokens before") if low < 0 else _("{counts} tokens after")).format(counts=counts)


def _flows(evidence: Evidence, theme: palette.Theme, _: Translate) -> Panel:
    words = [word for word in evidence.words if word.role != "query"]
    value_uniform = float(evidence.baseline_uniform.mean())
    figure = figures.word_flows(
        [word.text for word in words], rollout=np.array([word.rollout for word in words]),
        value=np.array([word.value for word in words]), key=_key_index(words),
        rollout_uniform=evidence.rollout_uniform, value_uniform=value_uniform, theme=theme,
        texts={"rollout": _("rollout"), "value": _("value-weighted share"), "uniform": _("uniform heads, for B")})
    answer = _said(evidence, "flows", _=_) or _("Through all layers together {rollout} of the looking leads there "
                                                "(uniform heads: {uniform}).").format(
        rollout=plain(evidence.rollout), uniform=plain(evidence.rollout_uniform))
    share = float(np.nanmean(evidence.value_share))
    answer += " " + _("What B's values add is {share} of all that is added to A (uniform: {uniform}).").format(
        share=plain(share), uniform=plain(value_uniform))
    note = _("Rollout follows weights through the layers; the value-weighted share also counts how large the moved "
             "vectors are. Both say where information could flow, not that it is used.")
    if not evidence.value_projected:
        note += " " + _("The output projection was not found, so the norms are those of the values before it.")
    return Panel("flows", _("2 · Flows? Could B's information reach A?"), answer, (Picture(
        "flows", figure, _("Bars: rollout and value-weighted share of every word, beside uniform heads")),), note)


def _used(evidence: Evidence, found: Effects, theme: palette.Theme, _: Translate) -> Panel:
    words = [word for word in evidence.words if word.role != "query"]
    kept = [at for at, word in enumerate(evidence.words) if word.role != "query"]
    by_word = figures.word_effects(
        [word.text for word in words], cut=found.word_cut[kept], hide=found.word_hide[kept], key=_key_index(words),
        theme=theme, texts={"cut": _("edge from A cut"), "hide": _("word hidden from all"), "delta": found.name})
    by_layer = figures.layer_effects(
        found.by_layer, everywhere=found.cut, control=found.control, theme=theme,
        texts={"layer": _("layer {layer}"), "everywhere": _("all layers"),
               "control": _("± median of the same cut to the other words"), "delta": found.name})
    told = _("Cutting A → B: {cut} nats ({others}). Hiding B: {hide} nats ({hidden}).")
    answer = told.format(
        cut=signed(found.cut), others=evidence_texts.others(found.control, _), hide=signed(found.hide),
        hidden=evidence_texts.others(found.hide_control, _))
    if np.isfinite(found.patch):
        told = _("A's vector from the sentences with another B: {patch} nats.")
        answer += " " + told.format(patch=signed(found.patch))
    note = found.left + " " + _("Above: B beside every other word. Below: the cut to B, one layer at a time and in "
                                "all.")
    return Panel("used", _("3 · Used? Does the output depend on it?"), answer, (
        Picture("used-words", by_word, _("Bars: effect of cutting the edge to each word, and of hiding each word")),
        Picture("used-layers", by_layer, _("Bars: effect of the cut in each layer and in all layers"))), note)


def _needed(evidence: Evidence, found: Effects, theme: palette.Theme, _: Translate) -> Panel:
    tried = evidence.replacements
    original = evidence.output or evidence.target
    labels = [f"{evidence.key.text} → {original}"]
    labels += [_tried_label(one.word, one.output, original=original) for one in tried]
    answers = evidence_texts.replaced(evidence, _('"{text}"').format(text=evidence.target), _)
    figure = figures.replacement_effects(
        labels, deltas=np.append(0.0, found.replaced), changed=[None, *(one.changed for one in tried)], theme=theme,
        texts={"changed": answers[True], "kept": answers[False],
               "baseline": _("original, or a random word (nothing written, not counted)"), "delta": found.name})
    answer = evidence_texts.replacing(evidence, _) or _("No other word was tried in B's place.")
    counted = [delta for delta, one in zip(found.replaced, tried, strict=True) if one.changed is not None]
    if counted:
        answer = texts.joined(answer, _("On average {of} changes by {delta} nats.").format(
            of=escape(found.of), delta=signed(float(np.mean(counted)))))
    note = _("Each row: the word in B's place → what the model then writes.")
    return Panel("needed", _("4 · Needed? What if B were another word?"), answer, (Picture(
        "needed", figure, _("Bars: effect of replacing B, beside the original sentence")),), note)


def _tried_label(word: str, output: str, *, original: str) -> str:
    """A row's word and output; where that is too long for the row, without what the output begins with as before."""
    label = f"{word} → {output}" if output else word
    if columns_of(label) <= figures.ROW_COLUMNS or output in ("", original):
        return label
    shared = len(os.path.commonprefix([output, original]))
    start = output.rfind(" ", 0, shared) + 1 if " " in output else shared
    return f"{word} → …{output[start:]}" if start else label


def _heads(evidence: Evidence, found: Effects, theme: palette.Theme, _: Translate) -> Panel:
    layer, head = (int(at) for at in np.unravel_index(np.nanargmin(found.by_head), found.by_head.shape))
    loudest = evidence_texts.strongest_head(evidence)
    if not found.by_head[layer, head] <= -LEAST:
        answer = _("In no head alone does cutting the edge cost anything to speak of.")
        return Panel("heads", _("Which heads carry it?"), answer, (_head_picture(evidence, found, theme, _),))
    answer = _("The edge cut in one head alone costs most in layer {layer}, head {head}: {delta} nats.").format(
        layer=layer, head=head, delta=signed(float(found.by_head[layer, head])))
    answer += " " + (_("It is also the head that looks most.") if (layer, head) == loudest else
                     _("The head that looks most, layer {layer} head {head}, costs {delta}.").format(
                         layer=loudest[0], head=loudest[1], delta=signed(float(found.by_head[loudest]))))
    return Panel("heads", _("Which heads carry it?"), answer, (_head_picture(evidence, found, theme, _),),
                 _("Framed: heads that attend by the thresholds.") if evidence.attending.any() else "")


def _head_picture(evidence: Evidence, found: Effects, theme: palette.Theme, _: Translate) -> Picture:
    figure = figures.head_map(
        found.by_head, outlined=evidence.attending, theme=theme,
        texts={"layer": _("layer"), "head": _("head"), "value": found.name})
    return Picture("heads", figure, _("Map of all heads: effect of cutting the edge in one head alone"))


def _rankings(evidence: Evidence, found: Effects, theme: palette.Theme, _: Translate) -> Panel:
    given, title = found.ranks, _("How far is attention an explanation here?")
    least = evidence.thresholds.cut_nats
    if given.n_words < FEWEST_RANKED:
        return Panel("rankings", title, _("Too few words to rank: at least {least} beside A are needed, here "
                                          "there are {count}.").format(least=FEWEST_RANKED, count=given.n_words), ())
    if not np.nanmax(np.abs(found.word_cut)) >= least:
        return Panel("rankings", title, _("The effects are too small to rank words by: no cut edge changes {of} by "
                                          "{least:g} nats.").format(of=escape(found.of), least=least), ())
    names = measure_names(_)
    figure = figures.correlation_table(
        given.spearman, kendall=given.kendall, names=[names[name] for name in given.measures],
        bar=_("Spearman's ρ"), theme=theme)
    at = given.measures.index("cut")
    pairs = [(names[name], float(given.spearman[given.measures.index(name), at]))
             for name in ("attention", "rollout", "value")]
    told = ", ".join(f"{escape(name)} **{signed(value)}**" for name, value in pairs)
    answer = _("Rank correlation with what {of} loses when a word's edge is cut, over {count} words: {told}.").format(
        count=given.n_words, of=escape(found.of), told=told)
    note = _("1: the same order; 0: none; −1: reversed. Point at a cell for Kendall's τ-b. A is left out.")
    if given.n_words < 6:
        note += " " + _("So few words can agree or disagree by chance.")
    return Panel("rankings", title, answer, (Picture(
        "rankings", figure, _("Table of rank correlations between the measures")),), note)


def measure_names(_: Translate) -> dict[str, str]:
    """Every measure of a word → its name."""
    return {
        "attention": _("attention, mean of heads"), "attention_max": _("attention, strongest head"),
        "rollout": _("rollout"), "value": _("value-weighted share"), "cut": _("loss when the edge is cut"),
        "hide": _("loss when hidden"),
    }


def _key_index(words: Sequence) -> int | None:
    return next((at for at, word in enumerate(words) if word.role == "key"), None)
