"""Why several heads: how different their patterns are, and what one alone, or each removed, does to the output.

It shows `engine.circuits` and `engine.knockouts`; it computes nothing of its own.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import Head, LocalEngine, Prompt, Trace, circuits, knockouts
from engine.knockouts import Effects
from engine.walk_types import Walk
from pages.figures import qkv_charts
from pages.figures.frame import compact
from pages.widgets import drawn, qkv_roles
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.qkv_steps import Place


def show(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> list[Drawn]:
    """Draws the map of heads and the effects of each; returns both pictures."""
    pictures = []
    longest = max(at.walk.weights.shape)
    if longest <= engine.limits.exact_grid:
        pictures.append(_map(engine, trace, at, _))
    else:
        st.info(_("The map of heads compares whole patterns, up to {limit} tokens; this text has {length}.").format(
            limit=engine.limits.exact_grid, length=longest), icon=":material/info:")
    pictures.append(_effects(engine, trace.prompt, at, _))
    drawn.show(pictures)
    return pictures


def _map(engine: LocalEngine, trace: Trace, at: Place, _: Translate) -> Drawn:
    head = at.walk.head
    distances, points, kept = _laid_out(engine, trace.prompt, head.stream)
    n_layers, n_heads = trace.layers_heads(head.stream)
    heads = list(np.ndindex(n_layers, n_heads))
    own = heads.index((head.layer, head.head))
    if len(heads) > 1:
        others = distances[own].copy()
        others[own] = np.inf
        nearest = heads[int(others.argmin())]
        pairs = distances[np.triu_indices(len(heads), 1)]
        st.markdown(_("Two of this stream's {n} heads differ by **{mean:.2f}** on average, where 0 is the same pattern "
                      "and 1 no key in common. Nearest to this head is layer {layer}, head {head} "
                      "({least:.2f}).").format(
            n=len(heads), mean=float(pairs.mean()), layer=nearest[0], head=nearest[1], least=float(others.min())))
    figure = qkv_charts.head_map(points, heads=heads, selected=own, theme=at.theme,
                                 texts={"layer": _("layer"), "head": _("head")})
    title = _("Heads by distance of their patterns (layer·head; the plane holds {kept:.0%} of it)").format(kept=kept)
    layers, indices = np.array(heads).T
    return Drawn("head-map", title, figure, {
        _("layer"): layers, _("head"): indices, "x": points[:, 0], "y": points[:, 1],
        _("distance to this head"): distances[own]})


@st.cache_resource(max_entries=16, show_spinner=False)
def _laid_out(_engine: LocalEngine, prompt: Prompt, stream: str) -> tuple[np.ndarray, np.ndarray, float]:
    distances = circuits.head_distances(np.concatenate(_engine.patterns(prompt, stream)))
    points, kept = circuits.flatten(distances)
    return distances, points, kept


def _effects(engine: LocalEngine, prompt: Prompt, at: Place, _: Translate) -> Drawn:
    head, n_heads = at.walk.head, at.walk.n_heads
    effects = _removed_and_alone(engine, prompt, Head(head.stream, head.layer, 0), at.walk)
    means = effects.mean()
    removed, alone, none = means[:n_heads], means[n_heads:2 * n_heads], means[-1]
    unit = qkv_roles.unit_name(effects, _)
    st.markdown(_("Without this head the model's output changes by **{removed}**; with this head alone in its layer by "
                  "**{alone}**; with none of the layer's {n} heads by {none}. Most is lost without head "
                  "{worst}.").format(
        removed=qkv_roles.amount(effects, head.head, _), alone=qkv_roles.amount(effects, n_heads + head.head, _),
        none=qkv_roles.amount(effects, 2 * n_heads, _), n=n_heads, worst=int(removed.argmax())))
    st.caption(qkv_roles.flipped(effects, head.head, _))
    names = [_("head {head}").format(head=index) for index in range(n_heads)]
    figure = qkv_charts.pairs(removed, alone, labels=names, names=(_("this head removed"), _("this head alone")),
                              value=unit, selected=head.head, theme=at.theme)
    title = _("Layer {layer}: each head removed, and each alone (none at all: {none})").format(
        layer=head.layer, none=compact(none))
    return Drawn("head-effects", title, figure, {
        _("head"): names, _("this head removed"): removed, _("this head alone"): alone})


@st.cache_resource(max_entries=16, show_spinner=False)
def _removed_and_alone(_engine: LocalEngine, prompt: Prompt, layer: Head, _walk: Walk) -> Effects:
    zero, every = np.zeros_like(_walk.mixed), range(_walk.n_heads)
    runs = [{index: zero} for index in every]
    runs += [{other: zero for other in every if other != index} for index in every]
    runs.append({index: zero for index in every})
    return knockouts.replace_outputs(_engine, prompt, layer, runs)
