"""What the scaling does in the loaded model: its heads, the gradient behind them, its output.

Everything is shown in three states: with the model's own scaling, without it,
and at a multiplier of one's choice. It shows what `engine.scaling` measures and
computes nothing but medians over heads.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import LocalEngine, Prompt, Trace
from engine import scaling as lab
from engine.saturation import HeadGradients, HeadSaturation, RescaledOutput
from pages.figures import scaling
from pages.figures.beside import beside
from pages.figures.frame import compact, readable, written
from pages.figures.scaling import Marker
from pages.widgets import banners, controls, drawn
from pages.widgets.drawn import Drawn
from pages.widgets.language import Language, Translate

MULTIPLIER, STREAM, MEASURE, LAYER, HEAD, BEHIND = "half_octaves", "stream", "measure", "layer", "head", "behind"
NAMES = (MULTIPLIER, STREAM, MEASURE, LAYER, HEAD, BEHIND)
#: The multiplier one meets first: 2^(−4/2), a quarter.
FIRST = -4
#: From this divisor on a model counts as dividing at all; T5 does not.
DIVIDES = 1.001
POWERS = tuple(round(2 * np.log2(multiplier)) for multiplier in lab.MULTIPLIERS)


def show(engine: LocalEngine, trace: Trace, spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws the part; returns what the address should say."""
    with st.spinner(_("Measuring every head at every multiplier …")):
        every = _heads(engine, trace.prompt)
    with st.container(horizontal=True, gap="medium"):
        streams = {"encoder": _("Encoder"), "decoder": _("Decoder"), "cross": _("Cross")}
        stream = controls.choice(_("Stream"), {name: streams[name] for name in trace.streams}, key=STREAM)
        measure = controls.choice(_("Measure"), _measures(_), key=MEASURE)
    found = every[stream]
    n_layers, n_heads = found.product_variance.shape
    first, second, third = st.columns(3, gap="medium", vertical_alignment="bottom")
    with first:
        power = _multiplier(_)
    with second:
        layer = controls.slider(_("Layer"), 0, n_layers - 1, key=LAYER, default=0)
    with third:
        head = controls.slider(_("Head"), 0, n_heads - 1, key=HEAD, default=0)
    at = _states_at(found, power)
    st.markdown(_headline(found, at, _))
    theme = st.context.theme.type or "light"
    st.markdown(_one_head(found, at, layer, head, _))
    pictures = _head_pictures(found, at, measure, (layer, head), theme, _)
    drawn.show(pictures, per_row=1)
    st.subheader(_("What comes back through one layer"))
    pictures += _behind(engine, trace.prompt, stream, power, layer, theme, _)
    st.subheader(_("What becomes of the output"))
    pictures += _output(engine, trace.prompt, found.divisor, power, theme, _)
    facts = [(_("Model"), trace.prompt.model), (_("Sentence"), trace.source_text), (_("Output"), trace.output),
             (_("Stream"), streams[stream])]
    drawn.offer("scaling-in-model", pictures, facts=facts, language=spoken, _=_)
    return {STREAM: stream, MEASURE: measure, MULTIPLIER: power, LAYER: layer, HEAD: head,
            BEHIND: st.session_state.get(BEHIND)}


@st.cache_resource(max_entries=16, show_spinner=False)
def _heads(_engine: LocalEngine, prompt: Prompt) -> dict[str, HeadSaturation]:
    return lab.heads(_engine, prompt)


@st.cache_resource(max_entries=16, show_spinner=False)
def _gradients(_engine: LocalEngine, prompt: Prompt) -> dict[str, HeadGradients]:
    return lab.gradients(_engine, prompt)


@st.cache_resource(max_entries=128, show_spinner=False)
def _written(_engine: LocalEngine, prompt: Prompt, multiplier: float) -> RescaledOutput | None:
    return next(iter(lab.outputs(_engine, prompt, (multiplier,))), None)


def _measures(_: Translate) -> dict[str, str]:
    return {"entropy": _("entropy (nats)"), "max_probability": _("largest weight"),
            "jacobian_norm": _("Jacobian norm (median)")}


def _multiplier(_: Translate) -> int:
    """The slider of the multiplier; its value counts half octaves: ×2^(value/2)."""
    return controls.steps(
        _("Multiplier on the scaling (1/temperature)"), POWERS, key=MULTIPLIER, default=FIRST,
        format_func=lambda power: f"×{2 ** (power / 2):.3g}",
        help=_("×1 is the model as it is; below, softer (a temperature above 1); above, sharper."))


def _states_at(found: HeadSaturation, power: int) -> dict[str, int]:
    """State → its place on the axis of multipliers; a model that never divides has no state without."""
    own = {"with": lab.MULTIPLIERS.index(1.0)}
    without = {"without": len(found.multipliers) - 1} if found.divisor > DIVIDES else {}
    return own | without | {"chosen": POWERS.index(power)}


def _names(found_divisor: float, power: int, _: Translate) -> dict[str, str]:
    return {"with": _("its own scaling"), "without": _("without division (×{divisor:.3g})").format(
        divisor=found_divisor), "chosen": _("chosen: ×{multiplier:.3g}").format(multiplier=2 ** (power / 2))}


def _headline(found: HeadSaturation, at: dict[str, int], _: Translate) -> str:
    median = {state: float(np.median(found.entropy[place])) for state, place in at.items()}
    low, high = (readable(float(end)) for end in (found.product_variance.min(), found.product_variance.max()))
    if "without" in at:
        text = _("**This model divides $q\\cdot k$ by {divisor:.3g} ($d_k$ = {d}). The entropy of its "
                 "heads is {own:.2f} nats (median over heads, of at most {most:.2f}); without the division "
                 "{without:.2f}; at the chosen multiplier {chosen:.2f}.**")
    else:
        text = _("**This model never divides: it has learnt smaller queries and keys instead ($d_k$ = {d}). The "
                 "entropy of its heads is {own:.2f} nats (median over heads, of at most {most:.2f}); at the chosen "
                 "multiplier {chosen:.2f}.**")
    chance = _("Its heads are not random: the variance of $q\\cdot k$ is {low} … {high} here, and "
               "would be $d_k$ = {d} if entries were independent with variance 1.")
    numbers = {"divisor": found.divisor, "d": found.d_head, "own": median["with"], "most": found.uniform_entropy,
               "without": median.get("without"), "chosen": median["chosen"], "low": low, "high": high}
    lines = [text.format(**numbers), chance.format(**numbers)]
    if found.rows < found.q_len:
        lines.append(_("Measured on {rows} of {all} rows.").format(rows=found.rows, all=found.q_len))
    return "  \n".join(lines)


def _one_head(found: HeadSaturation, at: dict[str, int], layer: int, head: int, _: Translate) -> str:
    """The chosen head's measures as a table, and what its q·k varies by."""
    titles = {"with": _("its own scaling"), "without": _("without division"), "chosen": _("chosen")}
    lines = [
        _("Layer {layer}, head {head}: $\\operatorname{{Var}}(q\\cdot k)$ = {variance}, $d_k$ = {d}").format(
            layer=layer, head=head, variance=readable(float(found.product_variance[layer, head])), d=found.d_head),
        "",
        "| | " + " | ".join(_("{what}, {state}").format(
            what=titles[state], state=f"×{found.multipliers[place]:.3g}") for state, place in at.items()) + " |",
        "|---" * (1 + len(at)) + "|",
    ]
    for measure, title in _measures(_).items():
        values = getattr(found, measure)
        told = compact if measure == "jacobian_norm" else "{:.3f}".format
        cells = " | ".join(f"**{told(float(values[place, layer, head]))}**" for place in at.values())
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


def _head_pictures(found: HeadSaturation, at: dict[str, int], measure: str, chosen: tuple[int, int], theme: str,
                   _: Translate) -> list[Drawn]:
    values, title = getattr(found, measure), _measures(_)[measure]
    names = _names(found.divisor, POWERS[at["chosen"]], _)
    most = {"entropy": found.uniform_entropy, "max_probability": 1.0, "jacobian_norm": float(np.nanmax(values))}
    grids = scaling.head_grids(
        [values[place] for place in at.values()], titles=[names[state] for state in at], most=most[measure] or 1.0,
        texts={"layer": _("layer"), "head": _("head"), "value": title}, selected=chosen, theme=theme)
    n_layers, n_heads = found.product_variance.shape
    layers, heads = np.divmod(np.arange(n_layers * n_heads), n_heads)
    columns = {"layer": layers, "head": heads, "variance of q·k": found.product_variance.ravel(),
               **{f"{measure}, {names[state]}": values[place].ravel() for state, place in at.items()}}
    order = np.argsort(found.multipliers, kind="stable")
    line = values[:, *chosen]
    curve = beside(scaling.curves(
        found.multipliers[order], {"with": line[order]}, names={"with": _("layer {layer}, head {head}").format(
            layer=chosen[0], head=chosen[1])}, x_title=_("multiplier"), y_title="", theme=theme,
        markers=[Marker(float(found.multipliers[place]), float(line[place]), state, names[state])
                 for state, place in at.items()]))
    return [
        Drawn("model-heads", _("Every head of the stream: {measure}").format(measure=title), grids, columns),
        Drawn("model-head", _("Layer {layer}, head {head} at every multiplier: {measure}").format(
            layer=chosen[0], head=chosen[1], measure=title), curve,
            {"multiplier": found.multipliers[order], measure: line[order]}),
    ]


def _behind(engine: LocalEngine, prompt: Prompt, stream: str, power: int, layer: int, theme: str,
            _: Translate) -> list[Drawn]:
    """The gradient behind the chosen layer's softmax, as bars per head."""
    with banners.guard(_):
        with st.spinner(_("Back-propagating through every layer …")):
            found = _gradients(engine, prompt)[stream]
        behind = controls.choice(_("Gradient at"), {"scores": _("scores"), "queries": _("queries")}, key=BEHIND)
        divisor = float(found.multipliers[-1])
        at = {"with": lab.MULTIPLIERS.index(1.0), "chosen": POWERS.index(power)}
        if divisor > DIVIDES:
            at = {"with": at["with"], "without": len(found.multipliers) - 1, "chosen": at["chosen"]}
        values = {state: (found.at_scores if behind == "scores" else found.at_queries)[place, layer]
                  for state, place in at.items()}
        st.markdown(_gradient_sentence(values, behind, layer, divisor, _))
        names = _names(divisor, power, _)
        labels = [_("head {head}").format(head=head) for head in range(len(values["with"]))]
        title = _("norm of the gradient")
        figure = scaling.grouped_bars(values, names=names, labels=labels, x_title="", y_title=title, theme=theme)
        picture = Drawn("model-gradient", _("Gradient behind layer {layer}, by head").format(layer=layer), figure,
                      {"head": np.arange(len(labels)), **{names[state]: each for state, each in values.items()}})
        drawn.show([picture], per_row=1)
        return [picture]
    return []


def _gradient_sentence(values: dict[str, np.ndarray], behind: str, layer: int, divisor: float, _: Translate) -> str:
    total = {state: float(np.linalg.norm(each)) for state, each in values.items()}
    times = {state: readable(norm / total["with"] if total["with"] > 0 else 0.0) for state, norm in total.items()}
    if behind == "queries" and "without" in values:
        text = _("**At the queries of layer {layer} the gradient is {without} times as large without the division, "
                 "{chosen} times at the chosen multiplier** (own scaling = 1): the scaling is a factor on the way "
                 "back, so leaving it out multiplies by {divisor:.3g} what the softmax lets through.")
    elif behind == "queries":
        text = _("**At the queries of layer {layer} the gradient is {chosen} times as large at the chosen multiplier** "
                 "(own scaling = 1).")
    elif "without" in values:
        text = _("**Behind layer {layer}'s softmax the gradient is {without} times as large without the division, "
                 "{chosen} times at the chosen multiplier** (own scaling = 1).")
    else:
        text = _("**Behind layer {layer}'s softmax the gradient is {chosen} times as large at the chosen multiplier** "
                 "(own scaling = 1).")
    origin = _("The same gradient arrives from above each time: that of −ln p of the output, back-propagated through "
               "the model as it is.")
    return text.format(layer=layer, divisor=divisor, without=times.get("without"), chosen=times["chosen"]) + "  \n" + \
        origin


def _output(engine: LocalEngine, prompt: Prompt, divisor: float, power: int, theme: str, _: Translate) -> list[Drawn]:
    """What the model writes in each state, and the probability it then gives to each token of its original output."""
    with banners.guard(_):
        multipliers = {"with": 1.0} | ({"without": divisor} if divisor > DIVIDES else {})
        multipliers |= {"chosen": lab.MULTIPLIERS[POWERS.index(power)]}
        with st.spinner(_("Running the model at each multiplier …")):
            found = {state: _written(engine, prompt, multiplier) for state, multiplier in multipliers.items()}
        if None in found.values():
            st.info(_("An encoder writes no text; type its mask token into the sentence to see it filled in."))
            return []
        names = _names(divisor, power, _)
        st.markdown(_output_sentence(found, names, _))
        tokens = found["with"].tokens
        probabilities = {state: np.exp(each.logprobs) for state, each in found.items()}
        figure = scaling.grouped_bars(
            probabilities, names=names, labels=tokens, x_title=_("token of the original output"),
            y_title=_("probability"), most=1.02, theme=theme)
        picture = Drawn("model-output", _("Probability of each token of the original output"), figure,
                      {"token": tokens, **{f"ln p, {names[state]}": each.logprobs for state, each in found.items()}})
        drawn.show([picture], per_row=1)
        return [picture]
    return []


def _output_sentence(found: dict[str, RescaledOutput], names: dict[str, str], _: Translate) -> str:
    own, changed = found["with"], found.get("without", found["chosen"])
    numbers = {"own": written(own.logprob, ".2f"), "changed": written(changed.logprob, ".2f"),
               "output": banners.escape(changed.output) or "–"}
    if "without" not in found:
        text = _("**At the chosen multiplier the model writes \"{output}\"** and gives its original output a "
                 "log-probability of {changed} instead of {own}.")
    elif changed.output == own.output:
        text = _("**Without the division the model still writes \"{output}\"**, and gives it a log-probability of "
                 "{changed} instead of {own}.")
    else:
        text = _("**Without the division the model writes \"{output}\"**, and gives its original output a "
                 "log-probability of {changed} instead of {own}.")
    lines = [text.format(**numbers), "",
             f"| {_('state')} | {_('the model writes')} | {_('ln p of the original output')} |", "|---|---|---|"]
    for state, each in found.items():
        output = (banners.escape(each.output) or "–") + ("" if each.complete else " …")
        lines.append(f"| {names[state]} | {output} | **{written(each.logprob, '.3f')}** |")
    return "\n".join(lines)
