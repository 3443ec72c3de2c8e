"""What the page about norms asks of the engine, kept for as long as nothing about it changes.

Every slider afterwards is arithmetic on these arrays. It draws nothing.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import streamlit as st

from engine import LocalEngine, Prompt, Trace, glyphs, norm_activations, norm_experiments, norm_sites
from engine.norm_activations import Activations, FutureChange
from engine.norm_experiments import Change
from engine.norm_sites import Site
from engine.streaming import Workbench

CORPUS = Path(__file__).resolve().parents[2] / "assets" / "corpus"
#: Other sentences in the batch, and how many of them the pictures show.
N_COMPANIONS, N_SHOWN = 31, 3
#: Which of the reference sentences, counted from 1, takes another one's place at first.
FIRST_SWAP = N_SHOWN + 1
#: Most tokens of padding that the page offers.
MOST_PADDING = 16


@cache
def companions(language: str) -> tuple[str, ...]:
    """The first reference sentences in `language`, "zh" or "en"."""
    lines = (CORPUS / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line.strip())[:N_COMPANIONS]


def company(text: str) -> tuple[str, ...]:
    """Sentences to put into one batch with `text`: Chinese ones where it holds a Chinese character."""
    return companions("zh" if any(glyphs.is_han(character) for character in text) else "en")


@st.cache_resource(max_entries=32, show_spinner=False)
def sites(_engine: LocalEngine, model: str, text: str) -> tuple[Site, ...]:
    """The model's norms; () where it has none of the known forms."""
    return _engine.submit(model, partial(norm_sites.sites, text=text, limits=_engine.limits)).result()


@st.cache_resource(max_entries=16, show_spinner=False)
def batch(_engine: LocalEngine, model: str, text: str, site: Site) -> Activations:
    """What enters the norm for the text and its company, one batch."""
    return _engine.submit(model, partial(
        norm_activations.read_batch, texts=(text, *company(text)), site=site, limits=_engine.limits)).result()


def swap_companion(read: Activations, swap: int) -> Change:
    """The text among the companions shown, and with the `swap`-th reference sentence, from 1, for the first of them."""
    rest = [read.sentence(i) for i in range(1, 1 + N_SHOWN)]
    return norm_experiments.change_companions(read.sentence(0), rest, [read.sentence(swap), *rest[1:]], eps=read.eps)


@st.cache_resource(max_entries=16, show_spinner=False)
def padded(_engine: LocalEngine, model: str, text: str, site: Site) -> Activations:
    """The text and the company that is shown, with padding to spare."""
    return _engine.submit(model, partial(
        norm_activations.read_batch, texts=(text, *company(text)[:N_SHOWN]), site=site, limits=_engine.limits,
        padding=MOST_PADDING)).result()


def future(engine: LocalEngine, trace: Trace, site: Site, position: int) -> FutureChange:
    """The run's tokens before a causal norm, and again with one changed."""
    return _future(engine, trace, trace.prompt, site, position)


@st.cache_resource(max_entries=64, show_spinner=False)
def _future(_engine: LocalEngine, _trace: Trace, prompt: Prompt, site: Site, position: int) -> FutureChange:
    return _engine.submit(prompt.model, partial(
        norm_activations.change_future, trace=_trace, site=site, position=position)).result()


@st.cache_resource(show_spinner=False)
def workbench() -> Workbench:
    """The one worker that builds and trains small networks for all sessions."""
    return Workbench("norms")
