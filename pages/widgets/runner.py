"""Runs a prompt and shows how far it is, in the place where the output will stand.

It waits outside of the model's slot and only reads the engine's progress, so a
slow browser holds nobody up. It knows every way in which a run can end.
"""

from __future__ import annotations

import streamlit as st

from engine import LocalEngine, Progress, Prompt, Trace
from pages.widgets import banners
from pages.widgets.language import Translate

#: Seconds between two looks at the progress.
TICK = 0.04
#: Below this a run is over before a person could read how far it is.
PATIENCE = 0.12


def run(engine: LocalEngine, prompt: Prompt, _: Translate) -> Trace | None:
    """The trace of `prompt`, with its output shown as it is produced; None after an error, which is shown."""
    with st.container(key="output"):
        place = st.empty()
    with banners.guard(_):
        try:
            trace = follow(engine, prompt, place, _)
        except Exception:
            place.empty()
            raise
        _show_output(place, trace, _)
        return trace
    return None


def follow(engine: LocalEngine, prompt: Prompt, place, _: Translate) -> Trace:
    """The trace of `prompt`, with its progress in `place` while it runs.

    Raises:
        EngineError: as `LocalEngine.trace`.
    """
    running = engine.start(prompt)
    if not running.wait(PATIENCE):
        while not running.wait(TICK):
            _show_progress(place, running.progress, _)
    return running.result()


def _show_progress(place, progress: Progress, _: Translate) -> None:
    stages = {
        "queued": _("Waiting for the model"), "downloading": _("Downloading"), "loading": _("Loading the model"),
        "probing": _("Checking its maps against eager attention"), "writing": _("The model is writing"),
        "capturing": _("Capturing its attention"), "done": _("Done"),
    }
    label = stages[progress.stage]
    if progress.stage == "downloading" and progress.total:
        done, total = banners.human_bytes(progress.done), banners.human_bytes(progress.total)
        place.progress(min(1.0, progress.done / progress.total), text=f"{label}: {done} / {total}")
    elif progress.output:
        place.markdown(f"{label} … **{banners.escape(progress.output)}** ▌")
    else:
        place.markdown(f"{label} …")


def _show_output(place, trace: Trace, _: Translate) -> None:
    if trace.family == "encoder-only":
        label = _("The model fills the mask") if trace.output else ""
    elif trace.output_is_given:
        label = _("Target, as typed")
    else:
        label = _("The model writes")
    if not label:
        place.markdown(_("An encoder writes no text; type its mask token into the sentence to see it filled in."))
        return
    ending = "" if trace.output_complete else " …"
    output = f"**{banners.escape(trace.output)}**{ending}" if trace.output else f"*{_('nothing')}*"
    place.markdown(_("{what}: {text}").format(what=label, text=output))
