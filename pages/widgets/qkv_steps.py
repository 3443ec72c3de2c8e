"""The seven steps of one head as a page shows them: shapes, the chosen pair's numbers in words, pictures.

Each function takes a walk and gives a `Shown`; it draws nothing. Numbers are
the engine's; the only arithmetic here is of single cells for the sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.walk_types import Projection, Walk
from pages.figures import attention, palette, qkv
from pages.widgets.banners import escape
from pages.widgets.drawn import Drawn
from pages.widgets.language import Translate
from pages.widgets.stream_view import StreamView
from pages.widgets.texts import joined, signed


@dataclass(frozen=True, eq=False)
class Place:
    """What is looked at: a walk, the labels of its axes, a pair, and how to show it.

    Attributes:
        row, column: positions of the query and the key.
        order: of the neuron view, "dimension" or "size".
    """

    walk: Walk
    view: StreamView
    row: int
    column: int
    order: str
    theme: palette.Theme
    _: Translate

    @property
    def query(self) -> str:
        return self.view.queries[self.row]

    @property
    def key(self) -> str:
        return self.view.keys[self.column]

    def words(self) -> dict[str, str]:
        """The two tokens as Markdown."""
        return {"query": f"**{escape(self.query)}**", "key": f"**{escape(self.key)}**"}


@dataclass(frozen=True, eq=False)
class Shown:
    """One step.

    Attributes:
        shapes: matrices and their shapes, plain text.
        headline: Markdown, with the pair's numbers.
        pictures: below each other.
        clickable: names of pictures whose cells are tokens × tokens.
        note: Markdown below, or "".
        sortable: the neuron view is among the pictures.
    """

    shapes: str
    headline: str
    pictures: list[Drawn]
    clickable: tuple[str, ...] = ()
    note: str = ""
    sortable: bool = False


def entrance(at: Place) -> Shown:
    """Step 1: embedding + position."""
    _, walk = at._, at.walk
    names = {"token": _("token"), "position": _("position"), "type": _("segment")}
    rows, labels, gaps = [], [], []
    for which, word in dict.fromkeys([(at.row, at.query), *([(at.column, at.key)] if walk.self_attention else [])]):
        gaps.append(len(rows))
        for part in walk.parts:
            rows.append(part.scale * part.vectors[which])
            factor = f"{part.scale:.3g} × " if abs(part.scale - 1) > 1e-3 else ""
            labels.append(f"{factor}{names[part.kind]} · {word}")
        rows.append(walk.residual[which])
        labels.append(_("residual stream · {word}").format(word=word))
        if walk.prenormed:
            rows.append(walk.input[which])
            labels.append(_("its norm · {word}").format(word=word))
    n, d = walk.input.shape
    kinds = [part.kind for part in walk.parts]
    words = at.words() | {"d": d, "length": f"{np.linalg.norm(walk.residual[at.row]):.2f}", "layer": walk.head.layer}
    if "position" in kinds:
        headline = _("{query} enters the model as **{d} numbers**: its row of the token table plus the row of its "
                     "position.")
    else:
        headline = _("{query} enters the model as **{d} numbers**, its row of the token table. This model adds no "
                     "position here; it tells order elsewhere.")
    if walk.head.layer > 0 or walk.head.stream == "cross":
        headline = joined(headline, _("By layer {layer} the residual stream has carried that sum through everything "
                                      "before; its length is now {length}."))
    else:
        headline = joined(headline, _("The vector that layer {layer} reads has length {length}."))
    shapes = f"X ({n}×{d})" + (f"   norm(X) ({n}×{d})" if walk.prenormed else "")
    return Shown(shapes, headline.format(**words), [_rows("entrance", rows, labels, at, gaps[1:])])


def projections(at: Place) -> Shown:
    """Step 2: q, k, v."""
    _, walk = at._, at.walk
    rows, labels, gaps = [], [], []
    for letter, part, place, word in (("q", walk.query, at.row, at.query), ("k", walk.key, at.column, at.key),
                                      ("v", walk.value, at.column, at.key)):
        gaps.append(len(rows))
        stages = [(part.projected, "")]
        if part.normed:
            stages.append((part.before, _("after its norm")))
        if part.rotated:
            stages.append((part.after, _("after rotation")))
        for values, stage in stages:
            rows.append(values[place])
            labels.append(" · ".join(filter(None, (letter, word, stage))))
    read = _read(walk)
    shapes = "\n".join((_product(read, walk.query, "Q"), *(
        _product(read if walk.self_attention else "X_enc", part, letter)
        for part, letter in ((walk.key, "K"), (walk.value, "V")))))
    norms = {"q": np.linalg.norm(walk.query.after[at.row]), "k": np.linalg.norm(walk.key.after[at.column]),
             "v": np.linalg.norm(walk.value.after[at.column])}
    headline = _("Three matrices make three kinds of vectors: {query} asks with **q** (length {q:.2f}), {key} answers "
                 "with **k** ({k:.2f}) and would hand over **v** ({v:.2f}).").format(**at.words(), **norms)
    notes = []
    if walk.query.rotated:
        turned = np.linalg.norm(walk.query.after[at.row] - walk.query.before[at.row])
        notes.append(_("This model rotates q and k by their position (RoPE): the rotation moves q of {query} by "
                       "{moved:.2f} and leaves its length as it is.").format(**at.words(), moved=turned))
    if walk.query.multiplier != 1:
        notes.append(_("This model multiplies q by {factor:.3g} itself.").format(factor=walk.query.multiplier))
    pictures = [_rows("projections", rows, labels, at, gaps[1:])]
    if walk.n_kv_heads < walk.n_heads:
        shared = _(", ").join(map(str, walk.sharing))
        notes.append(_("Grouped heads: query heads {heads} read the same key and value, head {kv} of {n_kv}.").format(
            heads=shared, kv=walk.sharing[0] // len(walk.sharing), n_kv=walk.n_kv_heads))
        figure = qkv.sharing(walk.n_heads, walk.n_kv_heads, head=walk.head.head, theme=at.theme,
                             texts={"queries": _("query heads"), "keys": _("key/value heads")})
        heads = np.arange(walk.n_heads)
        pictures.append(Drawn("sharing", _("Which query heads share a key"), figure, {
            _("query heads"): heads, _("key/value heads"): heads // (walk.n_heads // walk.n_kv_heads)}))
    return Shown(shapes, headline, pictures, note=joined(*notes))


def dot(at: Place) -> Shown:
    """Step 3: q·k for the chosen row."""
    _, walk = at._, at.walk
    q, k = walk.query.after[at.row], walk.key.after[at.column]
    values = q.astype(np.float64) * k
    strongest = int(np.abs(values).argmax())
    score = float(walk.products[at.row, at.column])
    headline = _("q of {query} times k of {key}: {d} products add up to **{score}**. The largest single one is "
                 "dimension {strongest} with {most}.").format(
        **at.words(), d=len(q), score=signed(score, 3), strongest=strongest, most=signed(values[strongest], 3))
    neuron = qkv.products(q, k, order=at.order, theme=at.theme, texts={
        "dimension": _("dimension"), "product": "qᵢkᵢ", "sum": _("running sum")})
    row = qkv.bars(walk.products[at.row], labels=at.view.keys, name="q·k", selected=at.column, theme=at.theme)
    dimension = np.arange(len(q))
    return Shown(
        f"q (1×{len(q)}) · Kᵀ ({len(q)}×{len(walk.key.after)}) = (1×{len(walk.key.after)})", headline, [
            Drawn("products", _("The neuron view: product of every dimension, and the running sum"), neuron,
                  {_("dimension"): dimension, "q": q, "k": k, "qᵢkᵢ": values}),
            Drawn("row-products", _("q of {word} with every key").format(word=at.query), row,
                  {_("key"): at.view.keys, "q·k": walk.products[at.row]})], sortable=True)


def mask(at: Place) -> Shown:
    """Step 4: ÷√d_k, then the mask."""
    _, walk = at._, at.walk
    before, after = float(walk.products[at.row, at.column]), float(walk.scaled[at.row, at.column])
    d = walk.query.after.shape[1]
    factor, product = f"× {walk.terms.scaling:.4g}", f"{signed(before, 3)} × {walk.terms.scaling:.4g}"
    if abs(walk.terms.scaling - d**-0.5) < 1e-6:
        factor = f"÷ {d**0.5:.3g}"
        product = rf"{signed(before, 3)} ÷ $\sqrt{{{d}}}$ = {signed(before, 3)} {factor}"
    headline = _("{query} → {key}: {product} = **{scaled}**.").format(
        **at.words(), product=product, scaled=signed(after, 3))
    hidden = int((~walk.terms.visible).sum())
    if not walk.terms.visible[at.row, at.column]:
        headline = joined(headline, _("The mask hides this cell: its score becomes −∞, whatever it was."))
    notes = [_("The mask hides {hidden} of {cells} cells.").format(hidden=hidden, cells=walk.terms.visible.size)
             if hidden else _("The mask hides nothing here: every query sees every key.")]
    if walk.terms.bias is not None:
        notes.append(_("Before the mask this model adds a bias of its own for the distance: {bias} here.").format(
            bias=signed(float(walk.terms.bias[at.row, at.column]), 3)))
    if walk.terms.softcap is not None:
        notes.append(_("This model bends large scores by {cap:g} · tanh(score / {cap:g}).").format(
            cap=walk.terms.softcap))
    if abs(walk.terms.scaling - d**-0.5) >= 1e-6 and walk.query.multiplier == 1:
        notes.append(_("This model does not divide by $\\sqrt{{d_k}}$; its own factor is {factor:.4g}.").format(
            factor=walk.terms.scaling))
    figure = qkv.masked_scores(walk.scaled, walk.terms.visible, query_labels=at.view.queries, key_labels=at.view.keys,
                               theme=at.theme, texts=_texts(_) | {"score": _("score"), "masked": _("masked")})
    n, m = walk.scores.shape
    return Shown(f"Q Kᵀ ({n}×{m}) {factor} + {_('mask')} ({n}×{m})", headline,
                 [_table("scores", _("Scores, the mask drawn over them"), figure, walk.scores, at)], ("scores",),
                 note=joined(*notes))


def softmax(at: Place) -> Shown:
    """Step 5: softmax."""
    _, walk = at._, at.walk
    weights, seen = walk.weights[at.row], walk.terms.visible[at.row]
    uniform = 1 / max(int(seen.sum()), 1)
    headline = _("Softmax turns the row of {query} into shares that add up to 1: {key} gets **{weight:.3f}**, where an "
                 "even share would be {uniform:.3f}.").format(
        **at.words(), weight=float(weights[at.column]), uniform=uniform)
    note = ""
    if walk.terms.sink is not None:
        note = _("A learned sink takes {share:.3f} of this row.").format(share=float(walk.sink[at.row]))
    shown = np.where(walk.terms.visible, walk.weights, np.nan)
    figure = attention.pattern_heatmap(shown, query_labels=at.view.queries, key_labels=at.view.keys,
                                       texts=_texts(_), selected_query=at.row, theme=at.theme)
    bars = attention.row_bars(shown[at.row], key_labels=at.view.keys, uniform=np.full(len(weights), uniform),
                              number=".3f", theme=at.theme, texts={
        "weight": _("weight"), "uniform": _("uniform"), "others": _("{count} others, together {mass}")})
    n, m = walk.weights.shape
    return Shown(f"softmax ({n}×{m}) → A ({n}×{m})", headline, [
        _table("weights", _("The pattern"), figure, shown, at),
        Drawn("row-weights", _("The row of {word}").format(word=at.query), bars,
              {_("key"): at.view.keys, _("weight"): weights})], ("weights",), note=note)


def mix(at: Place) -> Shown:
    """Step 6: the weighted sum of v."""
    _, walk = at._, at.walk
    weights, v = walk.weights[at.row], walk.value.after
    order = [at.column, *(key for key in np.argsort(-weights, kind="stable") if key != at.column)][:12]
    rows = [weights[key] * v[key] for key in order] + [walk.mixed[at.row]]
    labels = [f"{weights[key]:.3f} · v({at.view.keys[key]})" for key in order]
    labels.append(_("their sum, for {word}").format(word=at.query))
    along = float(weights[at.column] * v[at.column] @ walk.mixed[at.row] / (walk.mixed[at.row] @ walk.mixed[at.row]))
    headline = _("Each key's v is taken by its weight; the sum is what the head brings to {query}. {key} supplies "
                 "**{share:.0%}** of the sum along its own direction, with a weight of {weight:.3f}.").format(
        **at.words(), share=round(along, 2) + 0.0, weight=float(weights[at.column]))
    n, m = walk.weights.shape
    note = _("Drawn are the {count} largest of {all}; the sum is over all.").format(count=len(order), all=m) \
        if m > len(order) else ""
    return Shown(f"A ({n}×{m}) · V ({m}×{v.shape[1]}) = Z ({n}×{v.shape[1]})", headline,
                 [_rows("mix", rows, labels, at, [len(order)])], note=note)


def output(at: Place) -> Shown:
    """Step 7: concatenated, projected, added to the residual."""
    _, walk = at._, at.walk
    lengths = walk.parts_out[:, at.row]
    n_heads, n, d_value = walk.heads.shape
    headline = _("The {n_heads} heads' sums side by side go through W_O. Of what reaches {query}, this head's part has "
                 "length **{own:.2f}**, all parts together {all:.2f}; the residual it is added to has {residual:.2f}.",
                 ).format(**at.words(), n_heads=n_heads, own=lengths[walk.head.head],
                          all=np.linalg.norm(walk.output[at.row]), residual=np.linalg.norm(walk.residual[at.row]))
    rows = [walk.residual[at.row], walk.own[at.row], walk.output[at.row], walk.total[at.row]]
    labels = [_("residual, before"), _("this head's part"), _("all heads, W_O"), _("residual, after")]
    if not np.array_equal(walk.addend, walk.output):
        rows.insert(3, walk.addend[at.row])
        labels.insert(3, _("its norm"))
    if walk.after is not None:
        rows.append(walk.after[at.row])
        labels.append(_("after LayerNorm (post-LN)"))
    concatenated = walk.heads[:, at.row].reshape(-1)
    heads = qkv.vector_rows([concatenated], labels=[f"Z · {at.query}"], texts=_row_texts(_), theme=at.theme)
    heads.add_shape(type="rect", x0=walk.head.head * d_value - 0.5, x1=(walk.head.head + 1) * d_value - 0.5, y0=-0.5,
                    y1=0.5, line={"color": palette.ACCENT[at.theme], "width": 3})
    names = [_("head {head}").format(head=index) for index in range(n_heads)]
    parts = qkv.bars(lengths, labels=names, name=_("length of the part"), selected=walk.head.head, number=".2f",
                     theme=at.theme)
    width = n_heads * d_value
    return Shown(
        _sums(walk), headline, [
            Drawn("concatenated", _("All heads side by side; this head's stretch is outlined"), heads,
                  {_("dimension"): np.arange(width), _("value"): concatenated}),
            _rows("residual", rows, labels, at, [len(rows) - 1 if walk.after is not None else len(rows)]),
            Drawn("parts", _("What each head adds to {word}").format(word=at.query), parts,
                  {_("head"): names, _("length of the part"): lengths})])


#: The steps in the order of `engine.walk_types.STEPS`.
RENDER: dict[str, Callable[[Place], Shown]] = {
    "input": entrance, "projections": projections, "dot": dot, "mask": mask, "softmax": softmax, "mix": mix,
    "output": output,
}


def _read(walk: Walk) -> str:
    """What the layer's queries are made of: the residual stream, or in a pre-LN layer its norm."""
    return "norm(X)" if walk.prenormed else "X"


def _product(read: str, part: Projection, letter: str) -> str:
    """One projection with its shapes, its bias where it has one, and the norm or rotation that follows."""
    (d, d_in), length = part.weight.shape, len(part.after)
    bias = f" + b_{letter} ({d})" if part.bias.any() else ""
    made = f"{read} ({length}×{d_in}) · W_{letter} ({d_in}×{d}){bias} = {letter} ({length}×{d})"
    return " → ".join([made, *(name for name, done in (("norm", part.normed), ("RoPE", part.rotated)) if done)])


def _sums(walk: Walk) -> str:
    """The output projection and the residual's sum with their shapes, and the norm where this layer has one."""
    n_heads, n, d_value = walk.heads.shape
    width, d = n_heads * d_value, walk.d_model
    bias = f" + b_O ({d})" if walk.output_bias.any() else ""
    addend = "O" if np.array_equal(walk.addend, walk.output) else "norm(O)"
    after = "" if walk.after is None else f" → norm(X′) ({n}×{d})"
    return (f"Z ({n}×{width}) · W_O ({width}×{d}){bias} = O ({n}×{d})\n"
            f"X ({n}×{d}) + {addend} ({n}×{d}) = X′ ({n}×{d}){after}")


def _texts(_: Translate) -> dict[str, str]:
    return {"query": _("query"), "key": _("key"), "weight": _("weight")}


def _row_texts(_: Translate) -> dict[str, str]:
    return {"dimension": _("dimension"), "value": _("value")}


def _rows(name: str, rows: list, labels: list[str], at: Place, gaps: list[int]) -> Drawn:
    _ = at._
    figure = qkv.vector_rows(rows, labels=labels, texts=_row_texts(_), gaps=gaps, theme=at.theme)
    columns = {_("dimension"): np.arange(len(rows[0]))} | {
        f"{place} {label}": row for place, (label, row) in enumerate(zip(labels, rows, strict=True))}
    return Drawn(name, _("The numbers, one column a dimension"), figure, columns)


def _table(name: str, title: str, figure, cells: np.ndarray, at: Place) -> Drawn:
    columns = {at._("query"): at.view.queries} | {
        f"{place} {label}": cells[:, place] for place, label in enumerate(at.view.keys)}
    return Drawn(name, title, figure, columns)
