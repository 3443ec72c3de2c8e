"""What the five cards of the home page show: numbers of the embedded model, each computed, none written down.

Each function asks the engine one question and returns a sentence with its
number and a figure. They know which page tells more; they draw nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engine import Head, LocalEngine, Prompt, errors, kv_memory
from engine.kv_presets import PRESETS
from pages.figures import home as figures
from pages.figures import palette
from pages.widgets import evidence_questions, evidence_texts, normalization_data, positions_order, sentences, texts
from pages.widgets.banners import human_bytes
from pages.widgets.evidence_texts import plain
from pages.widgets.language import Translate
from pages.widgets.texts import signed

MODEL = "zh-en"
#: The flagship, from the ready questions.
FLAGSHIP = evidence_questions.load()[0]
#: For the word order: the shortest example, whose three words mean something else the other way round.
ORDER = min((example.text for example in sentences.examples("encoder-decoder")), key=len)
#: The book of the memory card, in tokens, the shape that reads it, and the GPU it would have to fit on.
BOOK_TOKENS, BOOK_MODEL, GPU_BYTES = 200_000, "llama-3-8b", 24 * 2**30


@dataclass(frozen=True, eq=False)
class Answer:
    """One card's answer: a sentence with a number in it (Markdown), and its figure."""

    sentence: str
    figure: go.Figure


def query_key_value(engine: LocalEngine, theme: palette.Theme, _: Translate) -> Answer:
    """The head in which 苹果 looks at 吃 most."""
    prompt = Prompt(MODEL, FLAGSHIP.text)
    axes = engine.trace(prompt).tokens("encoder")
    tokens = [token.text for token in axes.key]
    row, column = tokens.index(FLAGSHIP.query), tokens.index(FLAGSHIP.key)
    weights = engine.patterns(prompt, "encoder")[:, :, row]
    layer, head = np.unravel_index(int(weights[:, :, column].argmax()), weights.shape[:2])
    found = engine.query_key_value(prompt, Head("encoder", int(layer), int(head)))
    sentence = _("Each word asks with q, answers with k and hands over v. In layer {layer}, head {head} of this "
                 "model the q of {query} meets the k of {key} at **{score}**, which softmax makes a weight "
                 "of **{weight:.2f}** (dashed: uniform, {uniform:.2f}).")
    return Answer(
        sentence.format(layer=layer, head=head, query=FLAGSHIP.query, key=FLAGSHIP.key,
                        score=signed(float(found.q[row] @ found.k[column]) * found.scaling),
                        weight=float(weights[layer, head, column]), uniform=1 / len(tokens)),
        figures.bars(weights[layer, head], labels=tokens, baseline=1 / len(tokens), theme=theme),
    )


def positions(engine: LocalEngine, theme: palette.Theme, _: Translate) -> Answer:
    """Two orders of a sentence, with positions and without."""
    compared = positions_order.compared(engine, Prompt(MODEL, ORDER))
    on, off = compared.vector_residual_on, compared.vector_residual_off
    sentence = _("Every position adds its own wave to a word's vector. With the first and last word of {sentence} "
                 "swapped, the words' vectors change by **{on}** of the largest value; with positions switched "
                 "off by **{off}**: without them the model cannot tell the two orders apart.")
    return Answer(
        # Both as decimals: of a per cent and a power of ten one does not see which is how much larger.
        sentence.format(sentence=ORDER, on=f"{on:.2f}",
                        off=np.format_float_positional(off, precision=1, fractional=False, trim="-")),
        figures.bars([on, off], labels=[_("positions on"), _("positions off")], theme=theme),
    )


def normalization(engine: LocalEngine, theme: palette.Theme, _: Translate) -> Answer:
    """What another sentence in the batch does to one sentence, as the page's first experiment opens."""
    site = [site for site in normalization_data.sites(engine, MODEL, FLAGSHIP.text) if site.stack == "encoder"][-1]
    read = normalization_data.batch(engine, MODEL, FLAGSHIP.text, site)
    change = normalization_data.swap_companion(read, normalization_data.FIRST_SWAP)
    told = _("LayerNorm needs nothing but the word itself. With one of the batch's other sentences replaced, this "
             "sentence's normalised values change by **{layer:g}** under LayerNorm and by up to **{batch:.2f}** under "
             "BatchNorm with this batch's statistics, as in training (running statistics would give 0).")
    return Answer(
        told.format(layer=change.layer, batch=change.batch),
        figures.bars([change.layer, change.batch], labels=["LayerNorm", "BatchNorm"], theme=theme),
    )


def memory(engine: LocalEngine, theme: palette.Theme, _: Translate) -> Answer:
    """The cache of a whole book."""
    shape = PRESETS[BOOK_MODEL]
    tokens = np.linspace(0, BOOK_TOKENS, 41).astype(int)
    gib = np.array([kv_memory.cache_bytes(shape, int(n)) for n in tokens]) / 2**30
    each, book = kv_memory.cache_bytes(shape, 1), kv_memory.cache_bytes(shape, BOOK_TOKENS)
    sentence = _("A model keeps the k and v of every word it has read. {model} keeps **{each}** a token, so a "
                 "book of {tokens:,} tokens takes **{book}**, more than a GPU of {gpu} has (dashed).")
    return Answer(
        sentence.format(model=BOOK_MODEL, each=human_bytes(each), tokens=BOOK_TOKENS, book=human_bytes(book),
                        gpu=human_bytes(GPU_BYTES)),
        figures.line(tokens / 1000, gib, limit=GPU_BYTES / 2**30, x_unit="k", y_unit=" GiB", theme=theme),
    )


def evidence(engine: LocalEngine, theme: palette.Theme, _: Translate) -> Answer:
    """The flagship question, asked in full."""
    found = _evidence(engine)
    cut, other_cut, hide, other_hide = evidence_texts.judged(found)
    grey = _("Bars: how the margin changes, in nats; grey: ± the median of the other words, {cut} and {hide}.")
    return Answer(
        texts.joined(evidence_texts.found(found, _), evidence_texts.start_and_end(found, _),
                     evidence_texts.looks(found, _), grey.format(cut=plain(other_cut), hide=plain(other_hide))),
        figures.bars([cut, hide], sizes=[other_cut, other_hide], number="+.2f", theme=theme,
                     labels=[_("cut the edge"), _("hide the word")]),
    )


@st.cache_resource(max_entries=1, show_spinner=False)
def _evidence(_engine: LocalEngine):
    return _engine.evidence(Prompt(MODEL, FLAGSHIP.text), FLAGSHIP.query, FLAGSHIP.key, contrast=FLAGSHIP.contrast)


def is_here(engine: LocalEngine) -> bool:
    """Whether the embedded model is where it belongs."""
    try:
        engine.config(MODEL)
    except errors.EngineError:
        return False
    return True
