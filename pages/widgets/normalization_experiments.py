"""Four changes to what surrounds a sentence, live: what LayerNorm and BatchNorm feel of each.

It shows what `engine.norm_experiments` measures; it measures nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from engine import LocalEngine, Trace, normalization
from engine import norm_experiments as experiments
from engine.norm_activations import Activations
from engine.norm_experiments import Change
from engine.norm_sites import Site
from pages.figures import normalization as figures
from pages.figures.frame import readable
from pages.widgets import banners, controls, drawn, permalink
from pages.widgets import normalization_data as data
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate

NAMES = ("norm_swap", "norm_pads", "norm_batch", "norm_later")
SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class Bench:
    """What every experiment starts from.

    Attributes:
        engine, trace: the run of the person's sentence.
        batch: what enters the chosen norm for it and its company.
        found: every norm of the model.
        facts: for the exported page.
        spoken, translate: the interface's language.
    """

    engine: LocalEngine
    trace: Trace
    batch: Activations
    found: tuple[Site, ...]
    facts: list[tuple[str, str]]
    spoken: Language
    translate: Translate


def show(bench: Bench) -> None:
    """Draws the four experiments, each of which runs by itself when its control moves."""
    for number, row in enumerate((("norm_swap", "norm_pads"), ("norm_batch", "norm_later"))):
        with st.container(key=f"columns-norm-experiments-{number}"):
            places = st.columns(2, gap="large")
        for place, name in zip(places, row, strict=True):
            with place:
                _experiment(name, bench)


@st.fragment
def _experiment(name: str, bench: Bench) -> None:
    _ = bench.translate
    with banners.guard(_):
        if name == "norm_swap":
            value, picture = _another_sentence(bench.batch, bench.trace.prompt.text, _)
        elif name == "norm_pads":
            prompt = bench.trace.prompt
            value, picture = _more_padding(data.padded(bench.engine, prompt.model, prompt.text, bench.batch.site), _)
        elif name == "norm_batch":
            value, picture = _smaller_batch(bench.batch, _)
        else:
            value, picture = _another_future(bench.engine, bench.trace, bench.batch, bench.found, _)
        if picture is not None:
            drawn.offer(name.replace("_", "-"), [picture], facts=bench.facts, language=bench.spoken, _=_)
        permalink.write({name: value})


def _numbers(change: Change, _: Translate) -> None:
    """The three methods' largest changes as numbers beside each other."""
    with st.container(horizontal=True, gap="large"):
        for name, value in (("LayerNorm", change.layer), ("RMSNorm", change.rms), ("BatchNorm", change.batch)):
            st.metric(name, readable(value), width="content",
                      help=_("The largest change of any normalised value of these tokens."))


def _both(change: Change) -> dict[str, str]:
    return {"layer": readable(change.layer), "batch": readable(change.batch)}


def _picture(name: str, title: str, labels: list[str], change: Change, _: Translate) -> Drawn:
    groups = {"LayerNorm": change.layer_rows, "BatchNorm": change.batch_rows}
    figure = figures.changes(labels, groups, y_name=_("largest change"), theme=st.context.theme.type or "light")
    picture = Drawn(name, title, figure, {_("token"): labels} | groups)
    drawn.show([picture], per_row=1)
    return picture


def _another_sentence(batch: Activations, text: str, _: Translate) -> tuple[int, Drawn]:
    st.subheader(_("1 · Change another sentence"))
    sentences = data.company(text)
    swap = controls.slider(_("Reference sentence, by number, that replaces another one in the batch"),
                           data.FIRST_SWAP, len(sentences), key="norm_swap", default=data.FIRST_SWAP)
    st.caption(_("\"{old}\" becomes \"{new}\"; your sentence stays.").format(
        old=escape(sentences[0]), new=escape(sentences[swap - 1])))
    change = data.swap_companion(batch, swap)
    st.markdown(_("**Your sentence changes by {layer} under LayerNorm and by {batch} under BatchNorm with this "
                  "batch's statistics, as in training** (running statistics would give 0), though not one of its words "
                  "did.").format(**_both(change)))
    _numbers(change, _)
    return swap, _picture("norm-swap-change", _("Change of each of your tokens"), list(batch.tokens[0]), change, _)


def _more_padding(padded: Activations, _: Translate) -> tuple[int, Drawn]:
    st.subheader(_("2 · Pad more"))
    pads = controls.slider(_("Tokens of padding added to every sentence"), 0, data.MOST_PADDING, key="norm_pads",
                           default=8)
    st.caption(_("The attention mask hides the padding; BatchNorm by itself counts it."))
    change = experiments.pad_more(padded.values, padded.mask, pads, eps=padded.eps)
    st.markdown(_("**{pads} tokens of padding change your sentence by {layer} under LayerNorm and by {batch} under "
                  "BatchNorm with this batch's statistics, as in training** (running statistics would give 0).").format(
        pads=pads, **_both(change)))
    _numbers(change, _)
    return pads, _picture("norm-pads-change", _("Change of each of your tokens"), list(padded.tokens[0]), change, _)


def _smaller_batch(batch: Activations, _: Translate) -> tuple[int, Drawn]:
    st.subheader(_("3 · Shrink the batch; train against eval"))
    size = controls.steps(_("Sentences in a batch"), SIZES, key="norm_batch", default=4)
    others = [batch.sentence(i) for i in range(1, len(batch.tokens))]
    noise = normalization.batch_noise(batch.sentence(0), others, sizes=SIZES, eps=batch.eps)
    at = SIZES.index(size)
    st.markdown(_("**With {size} sentences a batch BatchNorm's mean is off by {noise:.2f} standard deviations**; it "
                  "falls as $1/\\sqrt{{\\text{{size}}}}$. Your sentence in train mode (this batch's statistics) and in "
                  "eval mode (running statistics) differs by **{gap:.2f}**. LayerNorm: {layer:g}, it has neither batch "
                  "nor modes.").format(
        size=size, noise=noise.noise[at], gap=noise.gap[at], layer=noise.gap_layer[at]))
    series = {_("noise of BatchNorm's mean"): noise.noise, _("BatchNorm, train against eval"): noise.gap,
              _("1/√size"): noise.noise[0] / np.sqrt(noise.sizes)}
    figure = figures.falls(noise.sizes, series, x_name=_("sentences in a batch"), y_name=_("root mean square"),
                           theme=st.context.theme.type or "light")
    picture = Drawn("norm-noise", _("Drawn 64 times for each size, from real activations"), figure,
                    {_("sentences in a batch"): noise.sizes} | series)
    drawn.show([picture], per_row=1)
    return size, picture


def _another_future(engine: LocalEngine, trace: Trace, batch: Activations, found: tuple[Site, ...],
                    _: Translate) -> tuple[int | None, Drawn | None]:
    st.subheader(_("4 · Change the future"))
    causal = [site for site in found if site.stack == "decoder"]
    tokens = trace.tokens("decoder").consumed if causal and "decoder" in trace.streams else ()
    if len(tokens) < 2:
        st.info(_("Here every token sees every other: there is no future to keep secret. Choose a decoder, or an "
                  "encoder–decoder that writes more than one token."), icon=":material/info:")
        return None, None
    site = batch.site if batch.site.stack == "decoder" else causal[-1]
    position = controls.word(_("Token that is changed"), [token.text for token in tokens], first=1, key="norm_later",
                             default=len(tokens) - 1)
    pair = data.future(engine, trace, site, position)
    change = experiments.change_later(pair.before.values[0], pair.after.values[0], position, eps=pair.before.eps)
    st.caption(_("The causal stack reads \"{new}\" in place of \"{old}\"; norm: {site}.").format(
        old=escape(tokens[position].text), new=escape(pair.after.tokens[0][position]), site=escape(site.name)))
    st.markdown(_("**The tokens before it change by {layer} under LayerNorm and by {batch} under a BatchNorm over "
                  "this sequence's tokens, with their own statistics, as in training**: the past would know the future "
                  "(running statistics would give 0).").format(**_both(change)))
    _numbers(change, _)
    labels = list(pair.before.tokens[0][:position])
    return position, _picture("norm-future", _("Change of each earlier token"), labels, change, _)
