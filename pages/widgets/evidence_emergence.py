"""When did the model learn it? The question put to the snapshots of its training, on request.

It shows what the engine measured at each snapshot and says from which one on it counts; it measures nothing. What
it shows, `section` gives to the report.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine import Emergence, Evidence, LocalEngine
from engine.emergence_types import Moment
from pages.figures import emergence as figures
from pages.figures import palette
from pages.figures.frame import plotly_config
from pages.figures.report import Section
from pages.widgets import chart_export, evidence_run, evidence_texts, texts
from pages.widgets.banners import escape
from pages.widgets.evidence_panels import Picture
from pages.widgets.evidence_question import Question
from pages.widgets.evidence_texts import median_size, plain, quoted
from pages.widgets.keeping import keep
from pages.widgets.language import Language, Translate
from pages.widgets.texts import signed

#: Characters of a snapshot's output that the table shows: an untrained model repeats itself.
_LONGEST_OUTPUT = 60
#: How the table's columns stand: numbers to the right.
_COLUMNS = ("---:", "---:", ":---", "---:", "---:", "---:")


def offer(engine: LocalEngine, question: Question, evidence: Evidence, *, language: Language, theme: palette.Theme,
          _: Translate) -> Emergence | None:
    """Draws the switch where the model has snapshots, and what they say once it is on; returns that, if anything."""
    if not engine.has_snapshots(evidence.prompt.model):
        return None
    st.header(_("When did the model learn it?"))
    keep("snapshots", st.session_state.get("snapshots") in (True, "True"))
    asked = st.toggle(
        _("Ask the snapshots of its training"), key="snapshots", persist_state="session",
        help=_("While it was trained, the model was kept at ten moments. Each reads the same sentence, is measured on "
               "the same output, and loses the same edge and the same word."))
    if not asked:
        st.caption(_("A look can come before it is of use, or without ever being of any: ten snapshots of the training "
                     "tell. It takes some seconds."))
        return None
    found = evidence_run.emergence(engine, question, evidence, _)
    if found is not None:
        _show(found, language=language, theme=theme, _=_)
    return found


def _show(found: Emergence, *, language: Language, theme: palette.Theme, _: Translate) -> None:
    st.markdown(headline(found, _))
    drawn = pictures(found, theme=theme, _=_)
    with st.container(key="columns-snapshots"):
        for column, (title, picture) in zip(st.columns(2, gap="large"), drawn.items(), strict=True):
            with column:
                st.subheader(title)
                st.plotly_chart(picture.figure, theme=None, config=plotly_config(f"evidence-{picture.name}"),
                                key=f"snapshots-{picture.name}", alt=picture.alt)
    head, *rows = _rows(found, _)
    st.markdown("\n".join(f"| {' | '.join(row)} |" for row in (head, _COLUMNS, *rows)))
    st.caption(_note(found, _))
    chart_export.offer(
        "evidence-snapshots", tables={_("Every snapshot"): lambda: _columns(found)}, language=language, _=_,
        figures={title: picture.figure for title, picture in drawn.items()},
        facts=lambda: [(_("Model"), found.evidence.prompt.model), (_("Sentence"), found.evidence.source),
                       ("A", found.evidence.query.text), ("B", found.evidence.key.text),
                       (_("Measured on"), evidence_texts.formula(found.evidence.target, found.evidence.contrast))])


def section(found: Emergence, *, theme: palette.Theme, _: Translate) -> Section:
    """What the page shows of it, for the report."""
    return Section(
        _("When did the model learn it?"), (headline(found, _), _note(found, _)), rows=tuple(_rows(found, _)),
        figures=tuple((picture.figure, picture.alt) for picture in pictures(found, theme=theme, _=_).values()))


def pictures(found: Emergence, *, theme: palette.Theme, _: Translate) -> dict[str, Picture]:
    """Title → picture: where the heads looked, and what the output lost."""
    steps = [f"{moment.step:,}" for moment in found.moments]
    looks = figures.looks(np.stack([moment.attention for moment in found.moments]), steps=steps, theme=theme,
                          texts={"mass": _("mass from A to B"), "step": _("training step")})
    losses = figures.losses(
        hide=_deltas(found, "hide"), cut=_deltas(found, "cut"), hide_control=_controls(found, "hide_control_deltas"),
        cut_control=_controls(found, "control_deltas"), steps=steps, theme=theme,
        texts={"hide": _("B hidden from all"), "cut": _("edge A → B cut"), "step": _("training step"),
               "hide_control": _("other words hidden (median)"), "cut_control": _("other edges cut (median)"),
               "delta": _("Δ of the output measured, nats")})
    return {
        _("Where each head of A looked"): Picture("looks", looks, _("Table of heads by snapshots: mass from A to B")),
        _("What the output lost"): Picture("losses", losses, _("Lines: effect of hiding B and of cutting the edge, "
                                                               "snapshot by snapshot, beside other words"))}


def headline(found: Emergence, _: Translate) -> str:
    """From which snapshot on hiding B counts, or cutting the edge; what the strongest head gave B meanwhile."""
    if found.hide_since is not None:
        at = found.moments[found.hide_since]
        told = _("**Hiding {key} counts from step {step} on** (epoch {epoch:.1f}): there it moves what is measured by "
                 "{then} nats ({others_then}); in the finished model by {now} ({others}).")
        told = _since(told, found, at, "hide", "hide_control_deltas", _)
        return texts.joined(told, evidence_texts.start_and_end(found.evidence, _), _edge(found, _), _look(found, at, _))
    if found.cut_since is not None:
        at = found.moments[found.cut_since]
        told = _("**Cutting the edge A → B counts from step {step} on** (epoch {epoch:.1f}): there it moves what is "
                 "measured by {then} nats ({others_then}); in the finished model by {now} ({others}).")
        told = _since(told, found, at, "cut", "control_deltas", _)
        return texts.joined(told, _hiding(found, _), _look(found, at, _))
    last = found.moments[-1]
    told = _("**Neither cutting the edge nor hiding {key} counts in the finished model**: cutting moves what is "
             "measured by {cut} nats ({others_cut}), hiding by {hide} ({others_hide}).").format(
        key=quoted(found.evidence.key.text, _), cut=signed(last.cut), others_cut=_others(last.control_deltas, _),
        hide=signed(last.hide), others_hide=_others(last.hide_control_deltas, _))
    counted = [moment for moment in found.moments if moment.cut_counts or moment.hide_counts]
    if counted:
        told = texts.joined(told, _("Earlier it did count, at {n} of the {total} snapshots, the last time at step "
                                    "{step}.").format(n=len(counted), total=len(found.moments),
                                                      step=f"{counted[-1].step:,}"))
    return texts.joined(told, _look(found, last, _))


def _since(told: str, found: Emergence, at: Moment, effect: str, controls: str, _: Translate) -> str:
    """`told` with an effect's numbers at the first moment from which on it counts, and in the finished model."""
    last = found.moments[-1]
    return told.format(
        key=quoted(found.evidence.key.text, _), step=f"{at.step:,}", epoch=at.epoch,
        then=signed(getattr(at, effect)), others_then=_others(getattr(at, controls), _),
        now=signed(getattr(last, effect)), others=_others(getattr(last, controls), _))


def _hiding(found: Emergence, _: Translate) -> str:
    """Why hiding B does not count where cutting the edge does."""
    last, bound = found.moments[-1], found.evidence.thresholds
    control = median_size(last.hide_control_deltas)
    numbers = {"key": quoted(found.evidence.key.text, _), "hide": signed(last.hide), "control": plain(control)}
    if last.hide > -bound.hide_nats:
        return _("Hiding {key} does not count in the finished model: {hide} nats.").format(**numbers)
    return _("Hiding {key} does not count in the finished model: {hide} nats, less than {times:g} times the other "
             "words' {control}.").format(**numbers, times=bound.hide_over_controls)


def _edge(found: Emergence, _: Translate) -> str:
    last = found.moments[-1]
    if found.cut_since is None:
        return _("Cutting the edge A → B alone does not count in the finished model: {cut} nats ({others}).").format(
            cut=signed(last.cut), others=_others(last.control_deltas, _))
    return _("Cutting the edge A → B alone counts from step {step} on.").format(
        step=f"{found.moments[found.cut_since].step:,}")


def _look(found: Emergence, at: Moment, _: Translate) -> str:
    """The strongest head's mass, from the start over the moment told of to the end."""
    first, last = found.moments[0], found.moments[-1]
    loudest = max(found.moments, key=lambda moment: float(moment.attention.max()))
    shown = sorted({moment.step: moment for moment in (first, at, loudest, last)}.values(),
                   key=lambda moment: moment.step)
    return _("The most that any head gave it: {masses} (uniform: {uniform}).").format(
        masses=_(", ").join(_("{mass} at step {step}").format(mass=plain(float(moment.attention.max())),
                                                              step=f"{moment.step:,}") for moment in shown),
        uniform=plain(float(found.evidence.baseline_uniform.max())))


def _others(controls: tuple[tuple[str, float], ...], _: Translate) -> str:
    return evidence_texts.others(median_size(controls), _)


def _deltas(found: Emergence, name: str) -> np.ndarray:
    return np.array([getattr(moment, name) for moment in found.moments])


def _controls(found: Emergence, name: str) -> np.ndarray:
    return np.array([median_size(getattr(moment, name)) for moment in found.moments])


def _note(found: Emergence, _: Translate) -> str:
    return _("Measured on {target}, the finished model's output, which every snapshot is given. Snapshots are kept "
             "at four bits a weight: compare them to one digit. The last is the model itself; before it, the "
             "training went on with new sentences. Bold: it counts, by the thresholds above.").format(
        target=evidence_texts.measured(found.evidence, _))


def _rows(found: Emergence, _: Translate) -> list[tuple[str, ...]]:
    """The table's head and rows: step, epoch, what the snapshot itself writes, the measured output, the effects."""
    value = "log p" if found.evidence.contrast is None else _("margin")
    rows = [(_("Training step"), _("Epoch"), _("The snapshot writes"), value, _("B hidden"), _("Edge cut"))]
    for moment in found.moments:
        output = moment.output if len(moment.output) <= _LONGEST_OUTPUT else moment.output[:_LONGEST_OUTPUT - 1] + "…"
        hide, cut = signed(moment.hide), signed(moment.cut)
        rows.append((f"{moment.step:,}", f"{moment.epoch:.1f}", escape(output) or "–", signed(moment.value),
                     f"**{hide}**" if moment.hide_counts else hide, f"**{cut}**" if moment.cut_counts else cut))
    return rows


def _columns(found: Emergence) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        name: [getattr(moment, name) for moment in found.moments]
        for name in ("step", "epoch", "output", "value", "hide", "cut", "hide_counts", "cut_counts")}
    columns["hide_control"] = list(_controls(found, "hide_control_deltas"))
    columns["cut_control"] = list(_controls(found, "control_deltas"))
    n_layers, n_heads = found.moments[0].attention.shape
    for layer in range(n_layers):
        for head in range(n_heads):
            columns[f"mass_L{layer}_H{head}"] = [float(moment.attention[layer, head]) for moment in found.moments]
    return columns
