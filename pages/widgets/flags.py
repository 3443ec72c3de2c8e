"""Says which tokens the model does not know, so that a bad translation is no riddle.

It reads the flags that the engine put on tokens; it judges nothing.
"""

from __future__ import annotations

import streamlit as st

from engine import Trace
from pages.widgets.banners import escape
from pages.widgets.language import Translate


def show(trace: Trace, _: Translate) -> None:
    """One line for unknown tokens and one for words that fell back to characters; nothing when all are known."""
    source = trace.axes[0].key_words
    unknown = _named((word.text for word in source if word.flag == "unknown"), _)
    fallback = _named((word.text for word in source if word.flag == "fallback"), _)
    if unknown:
        st.warning(_("Not in the model's vocabulary, so it reads them as <unk>: {words}. What it writes for them is a "
                     "guess.").replace("<", "\\<").format(words=unknown), icon=":material/help:")
    if fallback:
        st.info(_("Known to the model only as single characters: {words}. What it makes of them may be wrong.").format(
            words=fallback), icon=":material/text_fields:")


def _named(texts, _: Translate) -> str:
    return _(", ").join(f"**{escape(text)}**" for text in dict.fromkeys(texts))
