"""What the calculator is asked: which model's shape, how many tokens or which book, and how it is run.

It turns widgets into values. What a stranger pasted is checked by the engine,
which says what was wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import streamlit as st

from engine import LocalEngine, book_text, errors, kv_growth, kv_memory
from engine.kv_memory import KVShape, Setting
from pages.widgets import kv_texts, prompt_box
from pages.widgets.banners import escape
from pages.widgets.keeping import keep
from pages.widgets.language import Translate

SOURCES = ("preset", "config", "name")
#: Names of the page's address that the calculator's widgets carry, with the type of their values.
NAMES: dict[str, type] = {
    "kv_source": str, "kv_preset": str, "kv_config": str, "kv_name": str, "kv_tokens": int, "kv_batch": int,
    "kv_beams": int, "kv_dtype": int, "kv_kind": str, "kv_block": int, "kv_capacity": int, "kv_gpu": int,
    "kv_scores": bool, "kv_logits": bool, "kv_from": str, "kv_counter": str,
    "kv_text": str,
}
DEFAULTS: dict[str, Any] = {
    "kv_source": "preset", "kv_preset": "llama-3-8b", "kv_tokens": 8192, "kv_batch": 1, "kv_beams": 1, "kv_dtype": 2,
    "kv_kind": "dynamic", "kv_block": kv_memory.BLOCK_SIZE, "kv_capacity": 8192, "kv_gpu": 24, "kv_scores": False,
    "kv_logits": False, "kv_from": "number",
}
BOUNDS = {
    "kv_tokens": (1, 10_000_000), "kv_batch": (1, 4096), "kv_beams": (1, 64), "kv_block": (1, 4096),
    "kv_capacity": (1, 10_000_000), "kv_gpu": (1, 100_000),
}
#: The slider's stops: four to a doubling.
STOPS = tuple(sorted({round(2 ** (quarter / 4)) for quarter in range(16, 88)}))
#: A shape with what `kv_memory.measure` takes to build it: a preset's name or a parsed config.json.
Found = tuple[KVShape, str | dict[str, Any]]
#: Longest book, in MB of its file.
BOOK_MB = 8


@dataclass(frozen=True)
class Question:
    """What the calculator works with.

    Attributes:
        shape: of the model, parameters counted.
        config: what `kv_memory.measure` takes: a preset's name or a parsed config.json.
        n_tokens: of each sequence.
        counted: what was counted, for the sentence; "" for a number.
        setting: how it is run.
        gpu_bytes: size of the GPU.
        parts: those of the need that are added up.
    """

    shape: KVShape
    config: str | dict[str, Any]
    n_tokens: int
    counted: str
    setting: Setting
    gpu_bytes: int
    parts: tuple[str, ...]


def settle() -> None:
    """Brings values from the address to their types and bounds, and sets what is missing."""
    state = st.session_state
    allowed = {"kv_source": SOURCES, "kv_preset": tuple(kv_memory.PRESETS), "kv_kind": kv_memory.KINDS,
               "kv_dtype": (1, 2, 4), "kv_from": ("number", "text")}
    for name, kind in NAMES.items():
        value = state.get(name)
        if isinstance(value, str) and kind is int:
            digits = value if value.isdecimal() and len(value) < 12 else ""
            value = int(digits) if digits else None
        elif isinstance(value, str) and kind is bool:
            value = value == "True"
        if isinstance(value, int) and name in BOUNDS and not BOUNDS[name][0] <= value <= BOUNDS[name][1]:
            value = None
        if value is None or (name in allowed and value not in allowed[name]):
            value = DEFAULTS.get(name)
        if value is None:
            state.pop(name, None)
        else:
            keep(name, value)


def ask(engine: LocalEngine, _: Translate) -> Question | None:
    """Draws the controls; returns the question, or None while a config or a text is still missing.

    Raises:
        EngineError: the config, the hub or the text is not usable.
    """
    settle()
    left, right = st.columns(2, gap="medium")
    with left:
        model = _model(engine, _)
    with right:
        counted = _tokens(engine, _)
    setting = _setting(_)
    with st.spinner(_("Reading the model's shape")):
        found = model()
    length = counted()
    if found is None or length is None:
        return None
    state = st.session_state
    chosen = {"logits": state["kv_logits"], "scores": state["kv_scores"]}
    parts = tuple(part for part in kv_memory.PARTS if chosen.get(part, True))
    return Question(*found, *length, setting, int(state["kv_gpu"]) * 2**30, parts)


def _model(engine: LocalEngine, _: Translate) -> Callable[[], Found | None]:
    """Draws the model's controls; what they mean is found out later, so that a refusal leaves the others in place."""
    labels = {"preset": _("Known models"), "config": _("Paste a config.json"), "name": _("By name")}
    source = st.segmented_control(_("Model"), SOURCES, key="kv_source", format_func=labels.get, required=True,
                                  persist_state="session")
    if source == "preset":
        def described(name: str) -> str:
            shape = kv_memory.PRESETS[name]
            inner = f"MLA {shape.latent}" if shape.latent else f"{shape.n_kv_heads} × {shape.d_head}"
            return f"{name} · {shape.n_layers} × {inner}"

        name = st.selectbox(_("Layers × KV heads × d_head"), list(kv_memory.PRESETS), key="kv_preset",
                            format_func=described, persist_state="session")
        return lambda: (kv_memory.PRESETS[name], name)
    if source == "config":
        text = st.text_area(_("config.json"), key="kv_config", height=118, persist_state="session",
                            placeholder='{"model_type": "llama", "num_hidden_layers": 32, …}')
        return lambda: _described(text) if text and text.strip() else None
    names = [card.name for card in engine.models()]
    if (typed := st.session_state.get("kv_name")) and typed not in names:
        names.append(typed)
    name = st.selectbox(_("A model of this machine, or a hub id"), names, key="kv_name", accept_new_options=True,
                        index=None, placeholder="org/name", filter_mode="contains", persist_state="session",
                        help=_("Of a model on the hub only its config.json is downloaded."))

    def named() -> Found | None:
        prompt_box.ask_before_fetching(name, _, config_only=True)
        return _named(name) if name else None

    return named


@st.cache_data(max_entries=32, show_spinner=False)
def _described(text: str) -> Found:
    config = kv_memory.parse(text)
    return replace(kv_memory.shape_of(config), n_params=kv_memory.count_parameters(config)), config


@st.cache_data(max_entries=32, show_spinner=False)
def _named(name: str) -> Found:
    from pages.widgets import runtime

    config = runtime.engine().config(name)
    return replace(kv_memory.shape_of(config), n_params=kv_memory.count_parameters(config), name=name), config


def _tokens(engine: LocalEngine, _: Translate) -> Callable[[], tuple[int, str] | None]:
    """Draws the length's controls; a text is counted later, so that a refusal leaves the other controls in place."""
    labels = {"number": _("A number of tokens"), "text": _("A text, or a whole book")}
    how = st.segmented_control(_("Length"), list(labels), key="kv_from", format_func=labels.get, required=True,
                               persist_state="session")
    if how == "number":
        n_tokens = _number(_)
        return lambda: (n_tokens, "")
    return _book(engine, _)


def _number(_: Translate) -> int:
    state = st.session_state
    # By comparison, not by a callback: a slider moved there and back within one interrupted run calls none.
    if "kv_slider" in state and state["kv_slider"] != state.get("kv_slid"):
        keep("kv_tokens", state["kv_slider"])
    stops = STOPS if state["kv_tokens"] in STOPS else tuple(sorted({*STOPS, state["kv_tokens"]}))
    keep("kv_slider", state["kv_tokens"], among=stops)
    state["kv_slid"] = state["kv_tokens"]
    slider, exact = st.columns([3, 1], vertical_alignment="bottom")
    slider.select_slider(_("Tokens in each sequence"), stops, key="kv_slider",
                         format_func=lambda stop: f"{stop:,}", persist_state="session")
    least, most = BOUNDS["kv_tokens"]
    return int(exact.number_input(_("Exactly"), least, most, key="kv_tokens", step=1, persist_state="session"))


def _book(engine: LocalEngine, _: Translate) -> Callable[[], tuple[int, str] | None]:
    names = [card.name for card in engine.models()]
    state = st.session_state
    usual = names[0] if names else None
    keep("kv_counter", state.get("kv_counter") if state.get("kv_counter") in names else usual)
    counter = st.selectbox(_("Counted with the tokenizer of"), names, key="kv_counter", persist_state="session")
    text = st.text_area(_("Paste a text"), key="kv_text", height=80, persist_state="session")
    uploaded = st.file_uploader(_("or upload one (.txt)"), type=["txt", "md"], key="kv_book", max_upload_size=BOOK_MB)
    if uploaded is not None:
        try:
            book = book_text.read(uploaded.getvalue(), uploaded.name)
        except errors.InvalidPrompt as error:
            return partial(_refuse, error)
        text = book.text
        if book.replaced:
            st.caption(_("{name} was read as {encoding}; unreadable places replaced: {n:,}.").format(
                name=escape(uploaded.name), encoding=book.encoding, n=book.replaced))
        else:
            st.caption(_("{name} was read as {encoding}.").format(name=escape(uploaded.name), encoding=book.encoding))
    if not text or not text.strip() or counter is None:
        return lambda: None

    def count() -> tuple[int, str]:
        with st.spinner(_("Counting")):
            n_tokens = _counted(counter, hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), text)
        return max(1, n_tokens), _("{characters:,} characters").format(characters=len(text))

    return count


def _refuse(error: errors.EngineError) -> NoReturn:
    raise error


@st.cache_data(max_entries=16, show_spinner=False)
def _counted(model: str, digest: str, _text: str) -> int:
    """Kept by the text's digest; the text itself is not kept."""
    from pages.widgets import runtime

    text = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in _text)
    return runtime.engine().submit(model, partial(kv_growth.count_tokens, text=text)).result()


def _setting(_: Translate) -> Setting:
    state, kinds, dtypes = st.session_state, kv_texts.kinds(_), kv_texts.dtypes(_)
    stay = {"persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom", key="kv-setting"):
        st.number_input(_("Sequences at once"), *BOUNDS["kv_batch"], key="kv_batch", width=140, **stay)
        st.number_input(_("Beams"), *BOUNDS["kv_beams"], key="kv_beams", width=110, **stay)
        st.selectbox(_("Bits per number"), list(dtypes), key="kv_dtype", format_func=dtypes.get, width=230, **stay)
        kind = st.selectbox(_("Cache"), list(kinds), key="kv_kind", format_func=kinds.get, width=250, **stay)
        if kind == "paged":
            st.number_input(_("Tokens a block"), *BOUNDS["kv_block"], key="kv_block", width=130, **stay)
        if kind == "static":
            st.number_input(_("Tokens reserved"), *BOUNDS["kv_capacity"], key="kv_capacity", width=150, **stay)
        st.number_input(_("GPU, GiB"), *BOUNDS["kv_gpu"], key="kv_gpu", width=120, **stay)
        st.checkbox(_("Score matrix written out"), key="kv_scores", **stay,
                    help=_("Eager attention writes every layer's scores out, one layer at a time; SDPA and "
                           "FlashAttention never do."))
        st.checkbox(_("Logits of the whole prompt"), key="kv_logits", **stay,
                    help=_("Only the last position's are needed to go on writing; some programs compute all."))
    return Setting(batch=int(state["kv_batch"]), beams=int(state["kv_beams"]), dtype_bytes=int(state["kv_dtype"]),
                   kind=kind, block_size=int(state["kv_block"]), capacity=int(state["kv_capacity"]))
