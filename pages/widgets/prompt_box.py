"""The sentence, the model and the optional target: what a person asks with.

It turns widgets into a `Prompt` and offers examples that suit the model. It
checks nothing: the engine does, and says what was wrong.
"""

from __future__ import annotations

import re

import streamlit as st

from engine import LocalEngine, Prompt, Trace
from pages.widgets import model_box, sentences
from pages.widgets.banners import escape, readable
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.offers import offer

#: What may be a hub id; anything else the engine refuses without asking anybody.
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", re.ASCII)
MODEL, TEXT, TARGET, EXAMPLE, AGREED = "model", "text", "target", "example", "agreed_models"
AGREED_CONFIGS = "agreed_configs"


def ask(engine: LocalEngine, _: Translate) -> Prompt | None:
    """Draws the controls; returns the prompt, or None while there is no sentence.

    Args:
        engine: whose models are offered; another name may be typed.
    """
    cards = engine.models()
    by_name = {card.name: card for card in cards}
    state = st.session_state
    for kept in (TEXT, TARGET):
        if kept in state:
            # On a first visit another page's widget of that key holds the value; this page's would begin empty.
            keep(kept, state[kept])
    if MODEL not in state:
        state[MODEL] = cards[0].name if cards else None
    left, right = st.columns([3, 2], gap="medium")
    with right:
        name = model_box.choose(_("Model"), cards, key=MODEL, _=_, help=_(
            "Embedded models, folders of your models folder, or a hub id such as org/name@revision."))
        for broken in engine.broken_models():
            st.caption(_("{name} cannot be used: {reason}").format(
                name=escape(broken.name), reason=escape(readable("reason", broken.reason))))
        family = by_name[name].family if name in by_name else ""
        target = ""
        if family in ("encoder-decoder", ""):
            target = st.text_input(
                _("Target text (optional)"), key=TARGET, placeholder=_("empty: the model's own output"),
                persist_state="session",
                help=_("Only for encoder–decoders: look at this output instead of the model's own."),
            )
    if TEXT not in state:
        state[TEXT] = next((example.text for example in sentences.examples(family)), "")
    with left:
        text = st.text_area(
            _("Sentence"), key=TEXT, height=118, placeholder=_("Type a sentence, then press Ctrl+Enter"),
            persist_state="session",
        )
        st.button(_("Look inside"), type="primary", icon=":material/biotech:", key="look")
    _offer_examples(family, _)
    ask_before_fetching(name, _)
    if not name or not text or not text.strip():
        return None
    return Prompt(model=name, text=text, target=target if target and target.strip() else None)


def ask_before_fetching(name: str | None, _: Translate, *, config_only: bool = False) -> None:
    """Stops the page until the person has agreed to fetch a model from the hub, once a model and session.

    An address can name any repository, and to open a link is not to agree to gigabytes, nor to ask the hub at all.

    Args:
        name: of the model; a name that is no hub id is not asked about.
        config_only: only its config.json would be fetched; to agree to that is not to agree to the weights.
    """
    agreed: set[str] = st.session_state.setdefault(AGREED, set())
    looked_up: set[str] = st.session_state.setdefault(AGREED_CONFIGS, set())
    if not name or not HUB_ID.fullmatch(name) or name in agreed or (config_only and name in looked_up):
        return
    if config_only:
        text, label = _("{name} would be looked up on the model hub: only its config.json would be downloaded."), _(
            "Look it up")
    else:
        text, label = _("{name} would be fetched from the model hub: its weights as safetensors, no code."), _(
            "Fetch it")
    st.info(text.format(name=f"**{escape(name)}**"), icon=":material/cloud_download:")
    if st.button(label, key="fetch"):
        (looked_up if config_only else agreed).add(name)
        st.rerun()
    st.stop()


def _offer_examples(family: str, _: Translate) -> None:
    offered = {example.text: example for example in sentences.examples(family)}

    state = st.session_state

    def take(text: str) -> None:
        state[TEXT], state[TARGET] = text, ""

    chosen = state[TEXT] if state.get(TEXT) in offered else None
    offer(_("Examples"), list(offered), key=EXAMPLE, chosen=chosen, take=take)


def hint(trace: Trace, language: Language) -> None:
    """Says what to look at among the heads, where the sentence is an example for such a model."""
    for example in sentences.examples(trace.family):
        if example.text == trace.prompt.text:
            st.caption(f":material/lightbulb: {example.look(language)}")
