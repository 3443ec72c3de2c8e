"""The calculator's answer: a sentence, what a GPU must hold at every length, each layer, and the real object weighed.

It shows the engine's arithmetic and its measurement side by side; it computes neither.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import streamlit as st

from engine import LocalEngine, kv_budget, kv_memory
from pages.figures import memory
from pages.figures.frame import plotly_config, written
from pages.figures.memory import readable_bytes
from pages.widgets import chart_export, kv_controls, kv_texts, permalink
from pages.widgets.banners import escape
from pages.widgets.kv_controls import Question
from pages.widgets.language import Language, Translate
from pages.widgets.texts import joined

#: Points of the curve over lengths.
POINTS = 160
#: The curve reaches the edge where that is at most so many times the length asked for.
REACH = 16
#: What `kv_memory.measure` builds a model's numbers of, by their bytes.
_BUILT = {4: "float32", 2: "bfloat16", 1: "float16"}


def show(engine: LocalEngine, *, language: Language, _: Translate) -> None:
    """Draws controls and answer."""
    question = kv_controls.ask(engine, _)
    if question is None:
        st.info(_("Choose a model and a length above."), icon=":material/edit:")
        return
    need = kv_memory.need(question.shape, question.n_tokens, question.setting)
    longest = kv_memory.longest(question.shape, question.setting, gpu_bytes=question.gpu_bytes, parts=question.parts)
    _say(question, need, longest, _)
    theme = st.context.theme.type or "light"
    lengths, curve = _curve(question, longest)
    names = kv_texts.parts(_)
    needs = memory.needs(
        lengths, parts=curve, names=names, gpu_bytes=question.gpu_bytes, n_tokens=question.n_tokens, longest=longest,
        texts={"tokens": _("tokens in each sequence"), "gpu": _("GPU: {size}").format(
            size=readable_bytes(question.gpu_bytes)), "here": _("here: {n:,}").format(n=question.n_tokens),
            "longest": _("fits up to {n:,}").format(n=longest if longest is not None else 0)}, theme=theme)
    st.plotly_chart(needs, theme=None, config=plotly_config("memory-needs"), key="kv-needs",
                    alt=_("What a GPU must hold at each length"))
    _formulas(question, need, _)
    shapes = kv_memory.variants(question.shape)
    kinds = kv_texts.variants(shapes, _)
    per_layer = {kind: kv_budget.cache_of(shape, question.n_tokens, question.setting) for kind, shape in shapes.items()}
    totals = memory.variants([kinds[kind] for kind in per_layer],
                             np.array([values.sum(dtype=float) for values in per_layer.values()]), own=0, theme=theme)
    layers = memory.kinds_by_layer({kinds[kind]: values for kind, values in per_layer.items()}, layer=_("layer"),
                                   theme=theme)
    st.subheader(_("The same model with other attention"))
    with st.container(key="pictures"):
        left, right = st.columns(2, gap="medium")
    with left:
        st.caption(_("The whole cache at {tokens}").format(tokens=kv_texts.tokens(question.n_tokens, _)))
        st.plotly_chart(totals, theme=None, config=plotly_config("attention-kinds"), key="kv-variants",
                        alt=_("The whole cache under each kind of attention"))
    with right:
        st.caption(_("Layer by layer"))
        st.plotly_chart(layers, theme=None, config=plotly_config("memory-layers"), key="kv-layers",
                        alt=_("Bytes of each layer"))
    _weigh(question, _)
    chart_export.offer(
        f"kv-{question.shape.name or 'model'}".replace("/", "-"),
        tables={_("Needs at each length"): lambda: {"tokens": lengths, **curve,
                                                    "total": sum(curve[part] for part in curve)},
                _("Bytes of each layer"): lambda: {"layer": np.arange(question.shape.n_layers), **per_layer}},
        figures={_("What a GPU must hold at each length"): needs, _("Bytes of each layer"): layers},
        facts=lambda: [(_("Model"), question.shape.name), (_("Tokens"), f"{question.n_tokens:,}"),
                       *((names[part], readable_bytes(getattr(need, part))) for part in question.parts)],
        language=language, _=_)
    _write_permalink(_)


def _write_permalink(_: Translate) -> None:
    state = st.session_state
    hidden = {f"kv_{source}" for source in kv_controls.SOURCES if source != state["kv_source"]}
    if state["kv_from"] != "text":
        hidden |= {"kv_text", "kv_counter"}
    complete = permalink.write({"view": "calculator", **{
        name: None if name in hidden else state.get(name) for name in kv_controls.NAMES}})
    complete = complete and (state["kv_from"] != "text" or state.get("kv_book") is None)
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))


def _say(question: Question, need: kv_memory.Need, longest: int | None, _: Translate) -> None:
    shape, total = question.shape, need.total(question.parts)
    counted = f" ({escape(question.counted)})" if question.counted else ""
    st.markdown("### " + _("{model} keeps **{cache}** for {tokens}{counted}.").format(
        model=escape(shape.name), cache=readable_bytes(need.cache), tokens=kv_texts.tokens(question.n_tokens, _),
        counted=counted))
    fits, bits = total <= question.gpu_bytes, 8 * question.setting.dtype_bytes
    line = _("With weights at {bits} bits and what else is ticked: **{total}**.")
    if longest is None:
        edge = _("However long it gets, it fits.")
    elif longest < 0:
        edge = _("Not even the weights at {bits} bits fit.").format(bits=bits)
    else:
        edge = _("It no longer fits from **{n:,}** tokens on.").format(n=longest + 1)
    verdict = (_("That fits on a GPU of {gpu}.") if fits else _("That does not fit on a GPU of {gpu}.")).format(
        gpu=readable_bytes(question.gpu_bytes))
    place = st.success if fits else st.warning
    place(joined(line.format(bits=bits, total=readable_bytes(total)), verdict, edge),
          icon=":material/check_circle:" if fits else ":material/block:")
    setting = question.setting
    if setting.kind == "static" and setting.capacity < question.n_tokens:
        st.caption(":material/info: " + _("{reserved:,} reserved tokens cannot hold {n:,}: counted as if just {n:,} "
                                          "were reserved.").format(reserved=setting.capacity, n=question.n_tokens))
    if shape.n_ctx and question.n_tokens > shape.n_ctx:
        st.caption(":material/info: " + _("This model was trained for {n:,} tokens; beyond, memory is not the only "
                                          "limit.").format(n=shape.n_ctx))


def _curve(question: Question, longest: int | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Lengths up to beyond the one asked for and the edge, if it is not far, and each part's bytes there."""
    most = 2 * question.n_tokens
    if longest is not None and 0 < longest < REACH * question.n_tokens:
        most = max(most, int(1.25 * longest))
    lengths = np.unique(np.linspace(0, max(most, 16), POINTS).astype(int))
    needs = [kv_memory.need(question.shape, int(length), question.setting) for length in lengths]
    return lengths, {part: np.array([float(getattr(need, part)) for need in needs]) for part in question.parts}


def _formulas(question: Question, need: kv_memory.Need, _: Translate) -> None:
    """Each part's formula with the numbers in it, beside its value."""
    shape, setting, n = question.shape, question.setting, question.n_tokens
    size, sequences = setting.dtype_bytes, setting.batch * setting.beams
    rows = {
        "weights": (_("parameters · bytes"), f"{shape.n_params:,} · {size}"),
        "cache": (_("layers · (d_latent + d_rope) · bytes · tokens kept · sequences") if shape.latent
                  else _("layers · (2 · n_kv_heads · d_head) · bytes · tokens kept · sequences"),
                  _cache_terms(question)),
        "logits": (_("sequences · tokens · d_vocab · bytes"), f"{sequences} · {n:,} · {shape.d_vocab:,} · {size}"),
        "scores": (_("sequences · n_heads · tokens² · bytes"), f"{sequences} · {shape.n_heads} · {n:,}² · {size}"),
    }
    names = kv_texts.parts(_)
    lines = [f"| | {_('formula')} | {_('now')} | |", "|---|---|---|---:|"]
    lines += [f"| {names[part]} | {rows[part][0]} | `{rows[part][1]}` | **{_unbroken(getattr(need, part))}** |"
              for part in kv_memory.PARTS if part in question.parts]
    st.markdown("\n".join(lines))
    st.caption(joined(*_notes(question, _)))


def _unbroken(count: int) -> str:
    """Bytes for a narrow column: number and unit stay on one line."""
    return readable_bytes(count).replace(" ", "\u00a0")


def _cache_terms(question: Question) -> str:
    """The cache's formula with numbers, a term for each number of tokens that layers keep."""
    shape, setting = question.shape, question.setting
    numbers = f"({shape.latent})" if shape.latent else f"(2 · {shape.n_kv_heads} · {shape.d_head})"
    sequences = setting.batch * setting.beams
    size, quantised = setting.dtype_bytes, setting.kind in ("int8", "int4")
    kept = kv_budget.tokens_kept(shape, question.n_tokens, setting).tolist()
    whole = kv_memory.whole_tokens(shape, question.n_tokens).tolist() if quantised else [0] * shape.n_layers
    terms = []
    for (slots, plain), n_layers in sorted(Counter(zip(kept, whole)).items(), reverse=True):
        tokens = f"{size} · {slots:,}" if not quantised else (
            f"({slots - plain:,} · ({setting.kind[3:]}/8 + 2 · {size}/{kv_memory.GROUP_SIZE}) + {plain} · {size})")
        terms.append(f"{n_layers} · {numbers} · {tokens} · {sequences}")
    return " + ".join(terms)


def _notes(question: Question, _: Translate) -> list[str]:
    shape, setting = question.shape, question.setting
    each = shape.n_layers * shape.numbers * setting.dtype_bytes
    notes = [_("One token takes {each} in all layers together.").format(each=f"{each:,} B")]
    if shape.windows:
        notes.append(kv_texts.windows(shape, _))
    if setting.kind == "dynamic" and shape.windows:
        notes.append(_("A dynamic cache keeps one token less than the window."))
    if shape.cross:
        notes.append(_("An encoder–decoder keeps the source's keys and values too: here as many tokens again."))
    if shape.stored_kv_heads:
        notes.append(_("transformers stores all {heads} heads of this model, {times} times as much.").format(
            heads=shape.stored_kv_heads, times=shape.stored_kv_heads // shape.n_kv_heads))
    if setting.kind in ("int8", "int4"):
        notes.append(_("Quantised: {group} numbers share a scale and a zero point. A prompt is coded at once; up to "
                       "{residual} newer tokens stay whole until everything is coded anew. This is the most it holds; "
                       "each step unpacks one layer at a time on top.").format(
            group=kv_memory.GROUP_SIZE, residual=kv_memory.RESIDUAL_TOKENS - 1))
    if setting.kind == "paged":
        notes.append(_("Paged: each sequence is rounded up to whole blocks of {block} tokens. Blocks that sequences "
                       "share are counted for each; the pool they come from is reserved in advance.").format(
            block=setting.block_size))
    if setting.kind == "paged" and shape.paged_kv_heads:
        notes.append(_("transformers' paged cache makes room for all {heads} heads of this model, {times} times as "
                       "much.").format(heads=shape.paged_kv_heads, times=shape.paged_kv_heads // shape.n_kv_heads))
    if kv_memory.calculated_only(shape, setting.kind):
        notes.append(_("transformers has no such cache for this model: calculated only."))
    notes.append(_("Activations, the allocator's reserve and the driver come on top."))
    return notes


def _weigh(question: Question, _: Translate) -> None:
    """Builds the shape without memory, fills a real cache object, and shows what it weighs beside the formula."""
    state = st.session_state
    kind = "static" if question.setting.kind == "static" else "dynamic"
    asked = (str(question.config), question.n_tokens, kind, question.setting)
    st.subheader(_("Measured, not believed"))
    what = [_("The whole model is built at full size on a device without memory, it fills a real {kind} of "
              "transformers, and its bytes are read off.").format(
        kind="StaticCache" if kind == "static" else "DynamicCache")]
    if question.setting.kind not in ("static", "dynamic"):
        what.append(_("What is weighed is the growing cache, without blocks or codes."))
    st.caption(joined(*what))
    if st.button(_("Build it and weigh its cache"), key="kv-weigh", icon=":material/scale:"):
        with st.spinner(_("Building")):
            state["kv-weighed"] = (asked, kv_memory.measure(
                question.config, question.n_tokens, batch=question.setting.batch * question.setting.beams, kind=kind,
                dtype=_BUILT[question.setting.dtype_bytes], capacity=question.setting.capacity))
    kept = state.get("kv-weighed")
    if kept is None or kept[0] != asked:
        return
    _show_measured(kept[1], _)


def _show_measured(measured: kv_memory.Measured, _: Translate) -> None:
    held, formula = int(measured.prompt.logical.sum()), int(measured.formula.sum())
    st.markdown(_("The real cache object holds **{held:,}** bytes, the formula says **{formula:,}**: a difference of "
                  "**{difference}** bytes.").format(held=held, formula=formula,
                                                      difference=written(measured.difference, ",")))
    rows = [
        (_("formula, with whole windows"), formula), (_("real cache, numbers in it"), held),
        (_("real cache, memory it holds after the prompt"), int(measured.prompt.storage.sum())),
        (_("numbers in it after one token more"), int(measured.step.logical.sum())),
        (_("memory it holds after one token more"), int(measured.step.storage.sum())),
    ]
    lines = [f"| | {_('bytes')} | |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:,} | {readable_bytes(value)} |" for name, value in rows]
    st.markdown("\n".join(lines))
    texts = kv_texts.reasons(_)
    for reason in measured.reasons:
        st.markdown(f"- {texts[reason]}")
    st.caption(_("{n:,} parameters built and run in {seconds:.1f} s.").format(
        n=measured.n_params, seconds=measured.seconds))
