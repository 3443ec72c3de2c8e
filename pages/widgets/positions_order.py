"""The same tokens in two orders through the loaded model, with its positions on and off.

It shows the engine's comparison: outputs, patterns, residuals; it runs nothing itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from engine import LocalEngine, Prompt, positions_lab
from engine.position_types import OrderComparison, OrderRun
from pages.figures import attention
from pages.figures.frame import readable
from pages.widgets import controls, drawn
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate
from pages.widgets.texts import joined

#: Of each of the four patterns, in pixels.
PICTURE_WIDTH = 310


def show(engine: LocalEngine, prompt: Prompt, spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws the comparison; returns what the address should say."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        order = controls.choice(_("The other order"), {
            "swap ends": _("swap first and last"), "reverse": _("reverse"), "shuffle": _("shuffle")}, key="order")
    with right:
        seed = controls.slider(_("Shuffle number"), 0, 20, key="seed", default=0) if order == "shuffle" else 0
    with st.spinner(_("Running both orders, with positions and without …")):
        found = compared(engine, replace(prompt, target=None), order, seed)
    if found.same_text:
        st.info(_("Both orders are the same text; choose another order or sentence."), icon=":material/info:")
        return {"order": order, "seed": seed, **{name: st.session_state.get(name) for name in ("layer", "head")}}
    st.markdown(_headline(found, _))
    st.markdown(_outputs(found, _))
    st.caption(_sites(found, _))
    n_layers, n_heads = found.on[0].patterns.shape[:2]
    columns = st.columns([1, 1, 1.4], vertical_alignment="bottom")
    with columns[0]:
        layer = controls.slider(_("Layer"), 0, n_layers - 1, key="layer", default=0)
    with columns[1]:
        head = controls.slider(_("Head"), 0, n_heads - 1, key="head", default=0)
    back = columns[2].toggle(_("Put the other order's rows and columns back"), key="back",
                             help=_("Without positions the picture then equals the one beside it."))
    pictures = _pictures(found, layer, head, back, _)
    st.markdown(_difference(found, layer, head, _))
    drawn.show_small(pictures, width=PICTURE_WIDTH)
    drawn.offer("positions-order", pictures, facts=_facts(prompt, found, _), language=spoken, _=_)
    return {"order": order, "seed": seed, "layer": layer, "head": head}


@st.cache_resource(max_entries=24, show_spinner=False)
def compared(_engine: LocalEngine, prompt: Prompt, order: str = "swap ends", seed: int = 0) -> OrderComparison:
    """`positions_lab.compare_orders`, kept."""
    return positions_lab.compare_orders(_engine, prompt, order=order, seed=seed)


def _headline(found: OrderComparison, _: Translate) -> str:
    numbers = {"off": readable(found.vector_residual_off), "on": f"{found.vector_residual_on:.2f}",
               "left": f"{found.vector_residual_off:.2f}"}
    if not found.removed:
        return _("**No module that tells positions was found in this model**, so none could be switched off. In the "
                 "other order the tokens' vectors differ by {on} of the largest value.").format(**numbers)
    if found.mask_tells_order:
        return _("**Without positions, the mask still tells the order**: a token sees only some of the others, so in "
                 "the other order the vectors still differ by {left} of the largest value (with positions: {on}).",
                 ).format(**numbers)
    if found.vector_residual_off > found.rounding:
        return _("**Something besides the modules found tells the order**: without them the vectors still differ by "
                 "{left} of the largest value (with positions: {on}).").format(**numbers)
    return _("**Without positions the model cannot tell the two orders apart**: every token keeps its vector and only "
             "moves to its new place. What is left of a difference is {off} of the largest value, which is rounding; "
             "with positions it is {on}.").format(**numbers)


def _outputs(found: OrderComparison, _: Translate) -> str:
    """A table: both orders across, positions on and off downwards, the model's output in the cells."""
    def read(run: OrderRun) -> str:
        return " ".join(escape(token.text) for token in run.tokens if not token.special)

    def wrote(run: OrderRun) -> str:
        return escape(run.output) or "–"

    rows = [("", *(read(run) for run in found.on)), ("---",) * 3]
    if any(run.output for run in (*found.on, *found.off)):
        rows += [(f"**{_('positions on')}**", *(wrote(run) for run in found.on)),
                 (f"**{_('positions off')}**", *(wrote(run) for run in found.off))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _sites(found: OrderComparison, _: Translate) -> str:
    kinds = {"table": _("table set to 0"), "rotation": _("rotation set to cos = 1, sin = 0"),
             "relative bias": _("relative bias set to 0"), "linear bias": _("ALiBi argument set to 0")}
    parts = [_("Switched off: {modules}.").format(
        modules=_(", ").join(f"`{name}` ({kinds[kind]})" for kind, name in found.removed) or "–")]
    if found.by_character:
        parts.append(_("The model knows this sentence as a single token, so here it reads it character by character."))
    return joined(*parts)


def _facts(prompt: Prompt, found: OrderComparison, _: Translate) -> list[tuple[str, str]]:
    return [
        (_("Model"), prompt.model), (_("Sentence"), prompt.text),
        (_("Largest difference of vectors, positions on"), f"{found.vector_residual_on:.3g}"),
        (_("Largest difference of vectors, positions off"), f"{found.vector_residual_off:.3g}"),
    ]


def _difference(found: OrderComparison, layer: int, head: int, _: Translate) -> str:
    at = np.asarray(found.permutation)

    def largest(pair: tuple[OrderRun, OrderRun]) -> float:
        first, other = (np.nan_to_num(run.patterns[layer, head]) for run in pair)
        return float(np.abs(other - first[np.ix_(at, at)]).max())

    return _("Layer {layer}, head {head}: weights between the same two tokens differ by at most **{on:.2f}** with "
             "positions, **{off}** without (over all heads {all_on:.2f} and {all_off}).").format(
        layer=layer, head=head, on=largest(found.on), off=readable(largest(found.off)),
        all_on=found.pattern_residual_on, all_off=readable(found.pattern_residual_off))


def _pictures(found: OrderComparison, layer: int, head: int, back: bool, _: Translate) -> list[Drawn]:
    states = {"on": (found.on, _("positions on")), "off": (found.off, _("positions off"))}
    theme = st.context.theme.type or "light"
    texts = {"query": _("query"), "key": _("key"), "weight": _("weight")}
    places = np.argsort(found.permutation)
    shown = []
    for state, (pair, name) in states.items():
        for which, run in zip(("first", "other"), pair, strict=True):
            weights, labels = run.patterns[layer, head], [token.text for token in run.tokens]
            order = _("the sentence") if which == "first" else _("the other order")
            if which == "other" and back:
                weights, labels = weights[np.ix_(places, places)], [labels[i] for i in places]
                order = _("the other order, put back")
            title = _("{state}: {order}").format(state=name, order=order)
            figure = attention.pattern_heatmap(weights, query_labels=labels, key_labels=labels, texts=texts,
                                               theme=theme)
            columns = {_("query"): labels} | {f"{i} {label}": weights[:, i] for i, label in enumerate(labels)}
            shown.append(Drawn(f"order-{state}-{which}", title, figure, columns))
    return shown
