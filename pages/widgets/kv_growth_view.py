"""A loaded model writes, step by step, and its real cache is watched beside the formula.

It waits outside of the model's slot and only reads what the worker reports. It
knows every way in which a run can end; it computes no bytes, seconds or FLOPs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine import LocalEngine, Progress, kv_growth
from engine.kv_growth import Growing, Growth
from pages.figures import memory
from pages.figures.frame import plotly_config, written
from pages.figures.memory import readable_bytes
from pages.widgets import chart_export, kv_texts, model_box, permalink, prompt_box, sentences
from pages.widgets.banners import escape
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.texts import joined

STEPS, STEP = "kv_steps", "kv_step"
BOUNDS = (2, kv_growth.MOST_STEPS)
USUAL_STEPS = 48
#: Seconds between two looks at a run, and between two pictures of it.
TICK, REDRAW = 0.05, 0.3


def ask(engine: LocalEngine, _: Translate) -> tuple[str, str, int] | None:
    """Draws model, text and number of steps; returns them, or None while there is no text."""
    cards = engine.models()
    state = st.session_state
    if prompt_box.MODEL not in state:
        state[prompt_box.MODEL] = cards[0].name if cards else None
    keep(prompt_box.TEXT, state.get(prompt_box.TEXT, sentences.load()[0].text))
    _settle(STEPS, bounds=BOUNDS, usual=USUAL_STEPS)
    with st.container(horizontal=True, vertical_alignment="bottom", key="kv-growth-box"):
        text = st.text_input(_("Text to go on from"), key=prompt_box.TEXT, persist_state="session")
        name = model_box.choose(_("Model"), cards, key=prompt_box.MODEL, _=_)
        n_steps = st.number_input(_("Steps"), *BOUNDS, key=STEPS, width=120, persist_state="session")
        st.button(_("Write"), type="primary", icon=":material/play_arrow:", key="kv-write")
    return (name, text, int(n_steps)) if name and text and text.strip() else None


def _settle(name: str, *, bounds: tuple[int, int], usual: int) -> None:
    """Brings a number from the address to its type and bounds; one that is right already is left alone."""
    given = str(st.session_state.get(name, usual))
    number = min(max(int(given), bounds[0]), bounds[1]) if given.isdecimal() and len(given) < 6 else usual
    keep(name, number, among=bounds)


def show(engine: LocalEngine, *, language: Language, _: Translate) -> None:
    """Draws controls, the run while it lasts, and what it showed."""
    asked = ask(engine, _)
    if asked is None:
        st.info(_("Type a text above to see a cache grow."), icon=":material/edit:")
        return
    state = st.session_state
    again = state.get("kv-write") and state.get("kv-grown", (None,))[0] == asked
    if state.get("kv-grown", (None,))[0] != asked or again:
        if state.pop("kv-grown", None) is not None:
            state.pop(STEP, None)  # it was a step of another run
        state["kv-grown"] = (asked, _run(engine, asked, _))
    _result(state["kv-grown"][1], asked, language=language, _=_)
    complete = permalink.write({"view": "growth", "model": asked[0], "text": asked[1], STEPS: asked[2],
                                STEP: state.get(STEP)})
    st.caption(_("The address of this page reopens this view.") if complete
               else _("The text is too long for the address; it reopens this view without it."))


def _run(engine: LocalEngine, asked: tuple[str, str, int], _: Translate) -> Growth:
    model, text, n_steps = asked
    growing, place = Growing(), st.empty()
    place.markdown(_("Waiting for the model") + " …")
    try:
        growing.future = engine.submit(model, partial(
            kv_growth.grow, text=text, n_steps=n_steps, limits=engine.limits, report=growing.report),
            report=growing.report_progress)
        drawn = waited = 0.0
        while not growing.wait(TICK):
            waited += TICK
            if growing.so_far is None:
                place.markdown(_stage(growing.progress, _) + " …")
            if growing.so_far is not None and waited - drawn >= REDRAW:
                drawn = waited
                _progress(place, growing.so_far, n_steps, f"kv-live-{waited:.2f}", _)
        return growing.result()
    finally:
        place.empty()


def _stage(progress: Progress, _: Translate) -> str:
    stages = {"downloading": _("Downloading"), "loading": _("Loading the model"),
              "probing": _("Checking its maps against eager attention")}
    stage = stages.get(progress.stage, _("Waiting for the model"))
    if not progress.total:
        return stage
    return f"{stage}: {readable_bytes(progress.done)} / {readable_bytes(progress.total)}"


def _progress(place, growth: Growth, n_steps: int, key: str, _: Translate) -> None:
    done, again = len(growth.lengths), len(growth.seconds_uncached)
    stage = _("With the cache: step {done} of {steps}") if done < n_steps else (
        _("Without the cache: step {done} of {steps}") if again < n_steps else _("Counting FLOPs"))
    with place.container():
        st.progress(min(1.0, (done + again) / (2 * n_steps)), text=stage.format(done=done if done < n_steps else again,
                                                                                steps=n_steps))
        until = int(growth.lengths[0]) + n_steps - 1
        st.plotly_chart(_growth_figure(growth, None, _).update_xaxes(range=[0, until]), theme=None, key=key)


def _growth_figure(growth: Growth, step: int | None, _: Translate) -> go.Figure:
    return memory.growth(
        growth.lengths, growth.logical.sum(axis=1), storage=growth.storage.sum(axis=1),
        formula=growth.formula.sum(axis=1), selected=step, theme=st.context.theme.type or "light",
        texts={"tokens": _("tokens in the cache"), "held": _("real cache, numbers in it"),
               "storage": _("real cache, memory it holds"), "formula": _("formula")})


def _result(growth: Growth, asked: tuple[str, str, int], *, language: Language, _: Translate) -> None:
    theme, steps = st.context.theme.type or "light", len(growth.lengths)
    _say(growth, _)
    _settle(STEP, bounds=(0, steps - 1), usual=steps - 1)
    step = st.slider(_("Look at step"), 0, steps - 1, key=STEP, persist_state="session",
                     help=_("Step 0 reads the text; every later step adds one token."))
    figure = _growth_figure(growth, step, _)
    layers = memory.layers(growth.logical[step], formula=growth.formula[step], theme=theme,
                           texts={"layer": _("layer"), "held": _("real cache"), "formula": _("formula")})
    with st.container(key="pictures"):
        left, right = st.columns(2, gap="medium")
    with left:
        st.caption(_("The whole cache, step by step"))
        st.plotly_chart(figure, theme=None, config=plotly_config("cache-growth"), key="kv-growth",
                        alt=_("Bytes of the cache over the tokens in it"))
    with right:
        st.caption(_("Each layer after step {step}: {n:,} tokens, {held}").format(
            step=step, n=int(growth.lengths[step]), held=readable_bytes(growth.logical[step].sum())))
        st.plotly_chart(layers, theme=None, config=plotly_config("cache-layers"), key="kv-growth-layers",
                        alt=_("Bytes of each layer"))
    figures = {_("Bytes of the cache over the tokens in it"): figure, _("Bytes of each layer"): layers}
    figures |= _costs(growth, step, theme, _) | _device(growth, step, theme, _)
    chart_export.offer(f"cache-{asked[0]}".replace("/", "-"), tables={_("Every step"): lambda: columns(growth)},
                       figures=figures, language=language, _=_,
                       facts=lambda: [(_("Model"), asked[0]), (_("Text"), asked[1]), (_("Output"), growth.output),
                                      (_("Device and number format"), f"{growth.device}, {growth.dtype}")])


def columns(growth: Growth) -> dict[str, np.ndarray]:
    """Every number of every step, for a table."""
    found = {
        "step": np.arange(len(growth.lengths)), "tokens": growth.lengths, "cache_bytes": growth.logical.sum(axis=1),
        "storage_bytes": growth.storage.sum(axis=1), "formula_bytes": growth.formula.sum(axis=1),
        "seconds_with_cache": growth.seconds_cached, "seconds_without_cache": growth.seconds_uncached,
    }
    if growth.flops_cached is not None:
        found |= {"flops_with_cache": growth.flops_cached, "flops_without_cache": growth.flops_uncached}
    if growth.memory is not None:
        found |= {"live_bytes": growth.memory.live, "reserved_bytes": growth.memory.reserved,
                  "device_bytes": growth.memory.device}
    return found | {f"layer_{layer}_bytes": growth.logical[:, layer] for layer in range(growth.logical.shape[1])}


def _say(growth: Growth, _: Translate) -> None:
    held, formula = int(growth.logical[-1].sum()), int(growth.formula[-1].sum())
    st.markdown("### " + _("After {n:,} tokens the cache holds **{held}**.").format(
        n=int(growth.lengths[-1]), held=readable_bytes(held)))
    shape, size = growth.shape, growth.dtype_bytes
    token = f"{shape.latent}" if shape.latent else f"2 · {shape.n_kv_heads} · {shape.d_head}"
    each = shape.n_layers * shape.numbers * size
    st.markdown(_("{layers} layers · {token} numbers · {bytes} bytes = **{each}** for each token{source}. The formula "
                  "says {formula}; the difference is **{difference}** bytes.").format(
        layers=shape.n_layers, token=token, bytes=size, each=readable_bytes(each), formula=readable_bytes(formula),
        difference=written(held - formula, ","),
        source=_(", and as much for each of the source's {n}, once").format(n=growth.n_source) if growth.n_source
        else ""))
    if shape.windows:
        reasons = kv_texts.reasons(_)
        st.caption(joined(*[kv_texts.windows(shape, _), *(reasons[code] for code in (
            "window_minus_one", "pinned_prompt", "spare_slot"))]))
    st.caption(_("It wrote (the end of the text is forbidden, so that the cache keeps growing): {output}").format(
        output=escape(growth.output[:200])))
    if not growth.same_output:
        st.caption(_("Without the cache the model chose other tokens at some step: rounding decided a tie."))


def _costs(growth: Growth, step: int, theme: str, _: Translate) -> dict:
    """Time and work, cumulated, with a cache and without."""
    texts = {"tokens": _("tokens in the cache"), "cached": _("with the cache"), "uncached": _("without the cache")}
    seconds = [np.cumsum(values) for values in (growth.seconds_cached, growth.seconds_uncached)]
    st.subheader(_("What the cache saves"))
    figures = {}
    with st.container(key="pictures-costs"):
        left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(_("All steps so far: **{cached:.2f} s** with the cache, **{uncached:.2f} s** without.").format(
            cached=seconds[0][step], uncached=seconds[1][step]))
        name = _("Time of all steps so far")
        figures[name] = memory.costs(growth.lengths, cached=seconds[0], uncached=seconds[1], unit="s", theme=theme,
                                     texts=texts | {"value": name})
        st.plotly_chart(figures[name], theme=None, config=plotly_config("cache-time"), key="kv-seconds", alt=name)
    with right:
        if growth.flops_cached is None:
            st.caption(_("The FLOPs of this model could not be counted."))
            return figures
        work = [np.cumsum(values) for values in (growth.flops_cached, growth.flops_uncached)]
        st.markdown(_("All steps so far: **{ratio:.1f} times** the work without the cache.").format(
            ratio=work[1][step] / work[0][step]))
        name = _("FLOPs of all steps so far")
        figures[name] = memory.costs(growth.lengths, cached=work[0], uncached=work[1], unit="", theme=theme,
                                     texts=texts | {"value": name})
        st.plotly_chart(figures[name], theme=None, config=plotly_config("cache-flops"), key="kv-flops", alt=name)
    st.caption(_("A step reads all tokens before it, with the cache and without: its work grows with the length. The "
                 "cache saves computing the old keys and values again; the memory it takes grows in step with the "
                 "tokens. FLOPs are torch's count."))
    return figures


def _device(growth: Growth, step: int, theme: str, _: Translate) -> dict:
    """What the GPU itself reports, beside the cache; off a GPU, the sentence that says so."""
    if growth.memory is None:
        st.caption(_("On a GPU this page also shows live tensors, the allocator's reserve and the device's use; this "
                     "run was on {device}.").format(device=growth.device))
        return {}
    st.subheader(_("What the GPU reports"))
    st.markdown(_("From step 0 to step {step} the cache changed by **{cache}**, live tensors by **{live}**, the "
                  "allocator's reserve by **{reserved}** and the device's use by **{device}**.").format(
        step=step, **{name: _change(values[step] - values[0]) for name, values in {
            "cache": growth.logical.sum(axis=1), "live": growth.memory.live, "reserved": growth.memory.reserved,
            "device": growth.memory.device}.items()}))
    series = {_("live tensors"): growth.memory.live, _("the allocator's reserve"): growth.memory.reserved,
              _("in use on the device, by everybody"): growth.memory.device}
    name = _("Live tensors, reserve and use of the GPU")
    figure = memory.device(growth.lengths, series=series, tokens=_("tokens in the cache"), theme=theme)
    st.plotly_chart(figure, theme=None, config=plotly_config("gpu-memory"), key="kv-device", alt=name)
    st.caption(_("torch's allocator takes memory from the device in blocks of 2 MiB or more and gives it to tensors, "
                 "so the reserve grows in steps. The device's use also holds CUDA's own context and other programs."))
    return {name: figure}


def _change(n_bytes: int) -> str:
    return ("+" if n_bytes >= 0 else "−") + readable_bytes(abs(int(n_bytes)))
