"""The interface's language: which one, the control that changes it, and its texts.

The language stands in the address as `?lang=zh` or `?lang=en`, always, so that
a permalink opens in the language it was made in. On a first visit without it,
the browser's own preference decides. Catalogues are gettext's; the texts in the
source are English, so English needs none. Knows nothing of what the texts say.
"""

from __future__ import annotations

import gettext
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st

from pages.widgets import navigation

Translate = Callable[[str], str]

DOMAIN = "microscope"
LOCALES = Path(__file__).resolve().parents[2] / "assets" / "locales"
PARAMETER = "lang"
WIDGET = "language"
_LAST = "language_last"


@dataclass(frozen=True)
class Language:
    """One language of the interface.

    Attributes:
        code: as it stands in the address.
        locale: folder of its catalogue under assets/locales; also Babel's name.
        name: as its own readers write it; the same in every interface language.
    """

    code: str
    locale: str
    name: str


CHINESE = Language("zh", "zh_CN", "中文")
ENGLISH = Language("en", "en", "English")
LANGUAGES = (CHINESE, ENGLISH)


def by_code(code: str | None) -> Language | None:
    """The language of `code`, or None if it is not one of the interface's."""
    return next((language for language in LANGUAGES if language.code == code), None)


def preferred(locale: str | None) -> Language:
    """The language for a browser's `locale`, such as "zh-TW"; English for any other or for none."""
    return CHINESE if (locale or "").lower().split("-")[0].split("_")[0] == "zh" else ENGLISH


def choose() -> Language:
    """Draws the language control and returns what stands in it; call before `st.navigation`."""
    navigation.run_app_first()
    address = st.query_params.get(PARAMETER)
    state = st.session_state
    # Read from the address once: on a rerun it may still be the one from before a switch. Kept beside the control,
    # which `st.switch_page` sets back to its default.
    if _LAST not in state:
        state[_LAST] = (by_code(address) or preferred(st.context.locale)).code
    with st.container(key="language-bar", horizontal=True, horizontal_alignment="right"):
        code = st.segmented_control(
            "中文 / English",
            [language.code for language in LANGUAGES],
            default=state[_LAST],
            format_func=lambda code: by_code(code).name,
            key=WIDGET,
            required=True,
            label_visibility="collapsed",
        )
    state[_LAST] = code
    if address != code:
        st.query_params[PARAMETER] = code
    return by_code(code)


def chosen() -> Language:
    """The language that `choose` returned in this run; for pages, which run after it."""
    navigation.run_app_first()
    return by_code(st.session_state.get(_LAST)) or ENGLISH


@cache
def translator(language: Language) -> Translate:
    """The function that pages call `_`: an English text in, the text in `language` out."""
    if language == ENGLISH:
        return gettext.NullTranslations().gettext
    return gettext.translation(DOMAIN, LOCALES, languages=[language.locale]).gettext
