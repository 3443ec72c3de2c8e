"""The small badge that says how a trace came to be, and what its numbers mean.

It shows provenance; it computes none of it.
"""

from __future__ import annotations

import streamlit as st

from engine import Trace
from pages.widgets.banners import escape
from pages.widgets.language import Translate


def show(trace: Trace, _: Translate) -> None:
    """One line of facts with a popover that explains each."""
    given = trace.provenance
    short = f"{given.device} · {given.dtype} · SDPA · ±{max(given.probe_error, given.output_error):.0e}"
    with st.popover(short, icon=":material/verified:", help=_("How this was measured")):
        masks = ", ".join(f"{stream}: {kind}" for stream, kind in given.masks)
        versions = ", ".join(f"{name} {version}" for name, version in given.versions)
        rows = (
            (_("Model"), f"{given.model} ({given.revision[:19]})"),
            (_("Device and number format"), f"{given.device}, {given.dtype}"),
            (_("Captured through"), given.backend),
            (_("Masks"), masks),
            (_("Largest difference to eager attention, when the model was checked"), f"{given.probe_error:.1e}"),
            (_("Largest difference to the model's own attention output, in this run"), f"{given.output_error:.1e}"),
            (_("Worst row sum, off 1 by"), f"{given.row_sum_error:.1e}"),
            (_("Captured pass"), f"{given.seconds * 1000:.0f} ms"),
            (_("Versions"), versions),
        )
        st.markdown("\n".join(f"- {name}: **{escape(value)}**" for name, value in rows))
