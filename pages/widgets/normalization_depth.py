"""Post-LN, Pre-LN and no norm before the first step: gradients and stream of networks of one's own width and depth.

The networks are built in the workbench's worker; this only reads how far it is.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import norm_depth
from engine.norm_depth import DEPTHS, PLACEMENTS, GradientNorms, Placement
from engine.streaming import Streaming
from pages.figures import normalization as figures
from pages.figures.frame import readable
from pages.widgets import banners, controls, drawn
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate
from pages.widgets.normalization_data import workbench

NAMES = ("norm_width", "norm_depth", "norm_residuals")
WIDTHS = (16, 32, 64, 128, 256)
#: Seconds between two looks at the worker.
TICK = 0.4


def show(spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws controls and pictures; returns what the address should say."""
    left, middle, right = st.columns(3, gap="medium", vertical_alignment="bottom")
    with left:
        width = controls.steps(_("Width d_model"), WIDTHS, key="norm_width", default=64)
    with middle:
        depth = controls.steps(_("Layers"), DEPTHS, key="norm_depth", default=12)
    with right:
        residuals = controls.choice(_("Residual connections"), {"on": _("on"), "off": _("off")}, key="norm_residuals")
    streaming = _sweep(width, residuals)

    def watch() -> None:
        with banners.guard(_):
            # Read before the picture is drawn: what ends in between is drawn whole in the next look.
            done = streaming.done
            _draw(streaming.result() if done else streaming.so_far, width, depth, done, spoken, _)
            if done and not finished:
                st.rerun()

    finished = streaming.done
    st.fragment(watch, run_every=None if finished else TICK)()
    return {"norm_width": width, "norm_depth": depth, "norm_residuals": residuals}


@st.cache_resource(max_entries=10, show_spinner=False)
def _sweep(width: int, residuals: str) -> Streaming[tuple[GradientNorms, ...]]:
    return workbench().start(lambda: norm_depth.sweep(width, residuals=residuals == "on"))


def names(_: Translate) -> dict[Placement, str]:
    """The placements as they are shown."""
    return {"post": "Post-LN", "pre": "Pre-LN", "none": _("no norm")}


def _draw(known: tuple[GradientNorms, ...] | None, width: int, depth: int, done: bool, spoken: Language,
          _: Translate) -> None:
    total = len(DEPTHS) * len(PLACEMENTS)
    if not done:
        count = len(known or ())
        st.progress(count / total, text=_("Networks built and differentiated: {count} of {total}").format(
            count=count, total=total))
    if not known:
        return
    by_place = {place: [one for one in known if one.design.placement == place] for place in PLACEMENTS}
    st.markdown(_headline(by_place, width, _))
    pictures = [_last_gradient(by_place, _)]
    at_depth = {place: one for place in PLACEMENTS for one in by_place[place] if one.n_layers == depth}
    if len(at_depth) == len(PLACEMENTS):
        st.markdown(_first_layer(at_depth, depth, _))
        pictures += _by_layer(at_depth, depth, _)
    drawn.show(pictures, per_row=3)
    st.caption(_("The mean of {draws} draws of weights and tokens; cross-entropy of random classes, before any "
                 "training.").format(draws=norm_depth.N_DRAWS))
    if done:
        drawn.offer("norm-depth", pictures, facts=[(_("Width d_model"), str(width)), (_("Layers"), str(depth))],
                    language=spoken, _=_)


def _headline(by_place: dict[Placement, list[GradientNorms]], width: int, _: Translate) -> str:
    if min(len(found) for found in by_place.values()) < 2:
        return ""
    ratio = {place: found[-1].ffn[-1] / found[0].ffn[-1] for place, found in by_place.items()}
    first, last = by_place["none"][0].n_layers, by_place["none"][-1].n_layers
    return _("**From {first} to {last} layers of width {width} the last feed-forward gradient changes by ×{post} "
             "in Post-LN and by ×{pre} in Pre-LN** ($1/\\sqrt{{L}}$ would be ×{law}); without a norm by "
             "×{none}.").format(
        first=first, last=last, width=width, law=readable(np.sqrt(first / last)),
        **{place: readable(value) for place, value in ratio.items()})


def _first_layer(at_depth: dict[Placement, GradientNorms], depth: int, _: Translate) -> str:
    shares = {place: readable(one.ffn[0] / one.ffn[-1]) for place, one in at_depth.items()}
    sizes = {f"{place}_stream": readable(one.stream[-1]) for place, one in at_depth.items()}
    return _("At {depth} layers the first layer's gradient is ×{post} the last's in Post-LN, ×{pre} in Pre-LN. "
             "The stream ends at {post_stream} (Post-LN), {pre_stream} (Pre-LN), {none_stream} (no norm)."
             ).format(depth=depth, **shares, **sizes)


def _last_gradient(by_place: dict[Placement, list[GradientNorms]], _: Translate) -> Drawn:
    length = max(len(found) for found in by_place.values())
    depths = np.array(DEPTHS[:length])
    series = {}
    for place, found in by_place.items():
        series[names(_)[place]] = np.array([one.ffn[-1] for one in found] + [np.nan] * (length - len(found)))
    law = by_place["post"][0].ffn[-1] * np.sqrt(depths[0] / depths)
    shown = {name: series[name] for name in list(series)[:2]} | {"1/√L": law}
    theme = st.context.theme.type or "light"
    figure = figures.falls(depths, shown, x_name=_("layers L"), y_name=_("gradient norm"), theme=theme)
    return Drawn("norm-last", _("The last feed-forward gradient, by depth"), figure,
                 {_("layers L"): depths} | series | {"1/√L": law})


def _by_layer(at_depth: dict[Placement, GradientNorms], depth: int, _: Translate) -> list[Drawn]:
    theme = st.context.theme.type or "light"
    pictures = []
    for name, title, y_name, first, values in (
        ("norm-gradients", _("Feed-forward gradient by layer, {depth} layers"), _("gradient norm"), 0,
         {place: one.ffn for place, one in at_depth.items()}),
        ("norm-stream", _("Size of the residual stream, {depth} layers"), _("root mean square"), 0,
         {place: one.stream for place, one in at_depth.items()}),
    ):
        series = {names(_)[place]: each for place, each in values.items()}
        x_name = _("layer") if name == "norm-gradients" else _("layers passed")
        figure = figures.by_layer(series, first=first, x_name=x_name, y_name=y_name, theme=theme)
        pictures.append(Drawn(name, title.format(depth=depth), figure,
                              {x_name: np.arange(len(next(iter(series.values()))))} | series))
    return pictures
