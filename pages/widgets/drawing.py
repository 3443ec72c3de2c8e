"""Pictures as files, drawn while a person waits, or the reason why not."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from pages.figures.images import images
from pages.widgets.language import Translate

#: Format → media type.
MEDIA = {"png": "image/png", "svg": "image/svg+xml"}
_one_at_a_time = threading.Lock()


def draw(figures: Sequence[go.Figure], _: Translate) -> list[dict[str, bytes]]:
    """The files of each figure, format → content; none, and a warning on the page, where they could not be drawn."""
    with st.spinner(_("Drawing")), _one_at_a_time:  # a browser takes a core and 200 MB
        try:
            return images(figures)
        except (RuntimeError, OSError) as error:
            st.warning(_("PNG and SVG need an installed Chrome or Chromium, which could not be started ({reason}). The "
                         "picture's own toolbar saves a PNG without it.").format(reason=type(error).__name__))
            return []
