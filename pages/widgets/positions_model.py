"""What the loaded model really uses for positions, read from its modules at a length of one's choice.

It shows `ModelPositions`; it reads no module itself.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import LocalEngine, positions, positions_lab
from engine.position_types import LinearBias, ModelPositions, PositionTable, RelativeBias, Rotation
from pages.figures import positions as figures
from pages.figures.frame import compact
from pages.widgets import controls, drawn
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.positions_encodings import table_columns, texts, theme
from pages.widgets.texts import joined, signed

#: Lengths offered; a model whose table ends earlier is read up to there.
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)


@st.cache_resource(max_entries=24, show_spinner=False)
def read(_engine: LocalEngine, model: str, n_positions: int) -> ModelPositions:
    """`positions_lab.read`, kept."""
    return positions_lab.read(_engine, model, n_positions=n_positions)


def show(engine: LocalEngine, model: str, spoken: Language, _: Translate) -> dict[str, str | int]:
    """Draws what `model` uses; returns what the address should say."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    with left:
        length = controls.steps(_("Length of the call, in tokens"), LENGTHS, key="length", default=64)
    with st.spinner(_("Reading the model's modules …")):
        found = read(engine, model, length)
    if not found.sources:
        st.info(_("No module of this model was found to tell positions: it may know order by its masks alone."),
                icon=":material/info:")
        return {"length": length}
    with right:
        places = {str(i): _name(source, _) for i, source in enumerate(found.sources)}
        chosen = st.selectbox(_("Module"), list(places), format_func=places.get, key=_valid("source", places),
                              persist_state="session")
    source = found.sources[int(chosen)]
    if isinstance(source, PositionTable):
        headline, pictures = _table(source, _)
    elif isinstance(source, Rotation):
        headline, pictures = _rotation(source, found, _)
    elif isinstance(source, RelativeBias):
        headline, pictures = _relative(source, found, _)
    else:
        headline, pictures = _linear(source, _)
    st.markdown(headline)
    drawn.show(pictures)
    drawn.offer("positions-model", pictures, facts=[(_("Model"), model), (_("Module"), source.module)],
                language=spoken, _=_)
    return {"length": length, "source": chosen, "own_at": st.session_state.get("own_at")}


def _valid(key: str, options: dict[str, str]) -> str:
    value = st.session_state.get(key)
    keep(key, value if value in options else next(iter(options)), among=tuple(options))
    return key


def _name(source: PositionTable | Rotation | RelativeBias | LinearBias, _: Translate) -> str:
    kind = {PositionTable: _("table"), Rotation: _("rotation"), RelativeBias: _("relative bias"),
            LinearBias: _("linear bias (ALiBi)")}[type(source)]
    layers = f" ({source.layers})" if isinstance(source, Rotation) and source.layers else ""
    return f"{source.module}{layers} · {kind}"


def _table(source: PositionTable, _: Translate) -> tuple[str, list[Drawn]]:
    n, d = source.values.shape
    at = controls.slider(_("Position i"), 0, n - 1, key="own_at", default=min(20, n - 1))
    numbers = {"module": escape(source.module), "n": n, "d": d, "rows": source.rows, "error": compact(source.error)}
    layouts = {"interleaved": _("sines and cosines alternating"), "concatenated": _("all sines, then all cosines"),
               "tensor2tensor": _("all sines, then all cosines, in steps of 1/(d/2 − 1)")}
    if source.layout in layouts:
        headline = _("**{module}** adds {n:,} × {d} numbers that are sinusoids ({layout}): the largest difference to "
                     "the formula is **{error}**.").format(layout=layouts[source.layout], **numbers)
    else:
        headline = _("**{module}** adds {n:,} × {d} numbers that were learned: even the nearest sinusoids are off by "
                     "**{error}**.").format(**numbers)
    if source.rows:
        headline = joined(headline, _("The table has {rows:,} rows and ends there.").format(**numbers))
    alike = positions.similarity(source.values, at)
    theirs = texts(_)
    name = _("cosine with position {at}").format(at=at)
    return headline, [
        Drawn("model-table", _("The model's own table"), figures.table(
            source.values, texts=theirs, row=at, theme=theme()), table_columns(source.values, _)),
        Drawn("model-similarity", _("How alike position i is to all others"), figures.lines(
            np.arange(n), {name: alike}, x_name=theirs["position"], y_name=_("cosine"), marker=(at, 1.0),
            theme=theme()), {theirs["position"]: np.arange(n), name: alike}),
    ]


def _rotation(source: Rotation, found: ModelPositions, _: Translate) -> tuple[str, list[Drawn]]:
    waves = positions.wavelengths(source.frequencies)
    parameters = dict(source.parameters)
    layouts = {"half split": _("dimension j turns with j + d/2"), "interleaved": _("neighbouring dimensions turn"),
               "one a pair": _("one cosine a pair")}
    headline = _("**{module}** turns {pairs} pairs ({layout}); called at {n:,} tokens its slowest pair takes "
                 "**{slow:,.0f}** positions a turn. Frequencies differ from the formula by {error}.").format(
        module=escape(source.module), pairs=len(waves), layout=layouts[source.layout], n=found.n_positions,
        slow=waves[-1], error=_("an unknown amount") if np.isnan(source.formula_error)
        else compact(source.formula_error))
    if parameters:
        given = ", ".join(f"{escape(str(key))} = {escape(str(value))}" for key, value in parameters.items())
        headline = joined(headline, _("Set up with {parameters}.").format(parameters=given))
    if abs(source.attention_factor - 1) > 1e-4:
        headline = joined(headline, _("Queries and keys also grow by {temperature:.3f}: scores by its square.").format(
            temperature=source.attention_factor))
    base = float(parameters.get("rope_theta", 10_000.0))
    unscaled = positions.wavelengths(positions.rope_frequencies(2 * len(waves), base))
    series = {_("read from the module"): waves, _("unscaled"): unscaled}
    pairs = np.arange(len(waves))
    shown = np.unique(np.linspace(0, len(waves) - 1, 7).astype(int))
    trail = np.arange(min(found.n_positions, 40))
    names = [_("pair {pair}").format(pair=pair) for pair in shown]
    angles = source.frequencies[shown, None] * trail
    return headline, [
        Drawn("model-wavelengths", _("Wavelengths of the model's own rotation"), figures.lines(
            pairs, series, x_name=_("pair of dimensions"), y_name=_("positions a turn"), log_y=True, points=True,
            level=(found.n_ctx, _("longest context {length:,}").format(length=found.n_ctx)) if found.n_ctx else None,
            theme=theme()), {_("pair of dimensions"): pairs} | series),
        Drawn("model-pairs", _("The model's own pairs over its first positions"), figures.turning_pairs(
            angles, names=names, theme=theme()), {_("position"): trail} | dict(zip(names, angles, strict=True))),
    ]


def _relative(source: RelativeBias, found: ModelPositions, _: Translate) -> tuple[str, list[Drawn]]:
    used = len(np.unique(source.buckets if source.bidirectional else source.buckets[:found.n_positions]))
    strongest = np.unravel_index(np.abs(source.bias).argmax(), source.bias.shape)
    headline = _("**{module}** adds a learned number by bucket and head: at {n:,} tokens **{used}** of {total} buckets "
                 "are in use ({direction}). The strongest is {value}, head {head} at offset {offset}.").format(
        module=escape(source.module), n=found.n_positions, used=used, total=source.n_buckets,
        direction=_("both directions") if source.bidirectional else _("backwards only"),
        value=signed(float(source.bias[strongest])), head=int(strongest[0]),
        offset=signed(int(source.offsets[strongest[1]]), 0))
    heads = [_("head {head}").format(head=h) for h in range(len(source.bias))]
    return headline, [
        Drawn("model-bias", _("The model's own bias by offset, one line a head"), figures.graded_lines(
            source.offsets, source.bias, names=heads, x_name=_("key − query"), y_name=_("bias"),
            chosen=int(strongest[0]), theme=theme()),
            {_("key − query"): source.offsets} | dict(zip(heads, source.bias, strict=True))),
        Drawn("model-buckets", _("Its buckets by offset"), figures.lines(
            source.offsets, {_("bucket"): source.buckets}, x_name=_("key − query"), y_name=_("bucket"),
            shape="hvh", theme=theme()), {_("key − query"): source.offsets, _("bucket"): source.buckets}),
    ]


def _linear(source: LinearBias, _: Translate) -> tuple[str, list[Drawn]]:
    heads = np.arange(len(source.slopes))
    headline = _("**{module}** is handed a penalty that grows with the distance: slopes from **{most:.4f}** to "
                 "{least:.4f}, off BLOOM's rule by {error}.").format(
        module=escape(source.module), most=source.slopes.max(), least=source.slopes.min(),
        error=compact(source.error))
    return headline, [Drawn("model-slopes", _("Slopes of all heads"), figures.lines(
        heads, {_("slope"): source.slopes}, x_name=_("head"), y_name=_("slope"), log_y=True, points=True,
        theme=theme()), {_("head"): heads, _("slope"): source.slopes})]
