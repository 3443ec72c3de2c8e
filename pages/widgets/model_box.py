"""The box in which a person chooses a model, or types a hub id.

Its choices are written in the interface's language, and the browser answers in
what it was shown last; it is understood in every language. It loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from engine import ModelCard
from pages.widgets.banners import human_bytes
from pages.widgets.keeping import keep
from pages.widgets.language import LANGUAGES, Translate, translator


def choose(label: str, cards: Iterable[ModelCard], *, key: str, _: Translate, help: str | None = None) -> str | None:
    """Draws the box; returns the name of a model of `cards`, what was typed, or None.

    Args:
        cards: the models to offer.
        key: of the widget. What stands in the session state under it is what the box stands at.
    """
    state = st.session_state
    by_name = {card.name: card for card in cards}
    shown = {describe(card, translator(each)): card.name for each in LANGUAGES for card in by_name.values()}
    chosen = shown.get(state.get(key), state.get(key)) or None
    keep(key, chosen)
    return st.selectbox(
        label, [*by_name, *([chosen] if chosen and chosen not in by_name else [])], key=key, index=None,
        accept_new_options=True, filter_mode="contains", persist_state="session", help=help,
        format_func=lambda name: describe(by_name[name], _) if name in by_name else name,
        placeholder=_("Choose a model, or type a hub id: org/name"),
    )


def describe(card: ModelCard, _: Translate) -> str:
    """One line on a model: name, family, layers × heads, size, licence."""
    families = {
        "encoder-decoder": _("encoder–decoder"), "decoder-only": _("decoder-only"), "encoder-only": _("encoder-only"),
    }
    parts = [card.name, families.get(card.family, card.model_type)]
    if card.n_layers:
        parts.append(f"{card.n_layers}×{card.n_heads}")
    parts += [human_bytes(card.bytes), card.license or _("licence unknown")]
    return " · ".join(parts)
