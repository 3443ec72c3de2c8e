"""Everything on the evidence page as files: one HTML report that opens offline, and JSON with every number.

Files are made when they are asked for, from the same panels that the page shows.
"""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from engine import Emergence, Evidence
from pages.figures import files, palette, report
from pages.figures.report import Section
from pages.widgets import evidence_compare, evidence_emergence, evidence_panels, evidence_texts, texts
from pages.widgets.banners import escape
from pages.widgets.evidence_panels import Effects
from pages.widgets.evidence_texts import plain, quoted
from pages.widgets.language import Language, Translate
from pages.widgets.texts import signed


def offer(evidence: Evidence, second: Evidence | None, emergence: Emergence | None, *, measure: str,
          language: Language, theme: palette.Theme, _: Translate) -> None:
    """Draws the download buttons."""
    name = f"evidence-{evidence.prompt.model.replace('/', '-')}"
    left, right, _rest = st.columns([2, 2, 5], gap="small")
    left.download_button(
        _("Report as HTML (opens offline)"), icon=":material/description:", width="stretch", key="report-html",
        data=lambda: html(evidence, second, emergence, measure=measure, language=language, theme=theme, _=_),
        file_name=f"{name}.html", mime="text/html", on_click="ignore")
    right.download_button(
        _("Every number as JSON"), icon=":material/data_object:", width="stretch", key="report-json",
        data=lambda: json(evidence, second, emergence), file_name=f"{name}.json", mime="application/json",
        on_click="ignore")


def json(evidence: Evidence, second: Evidence | None = None, emergence: Emergence | None = None) -> str:
    """All fields of the evidence, of the one it is compared with and of the snapshots asked, as JSON; NaN is null."""
    return files.to_json({
        "evidence": asdict(evidence), "compared_with": second and asdict(second),
        "snapshots": emergence and [asdict(moment) for moment in emergence.moments]})


def html(evidence: Evidence, second: Evidence | None = None, emergence: Emergence | None = None, *, measure: str,
         language: Language, theme: palette.Theme, _: Translate) -> str:
    """The report, in `language`."""
    sections, found = [_question(evidence, _)], evidence_panels.effects(evidence, measure=measure, _=_)
    for panel in evidence_panels.panels(evidence, measure=measure, theme=theme, _=_):
        sections.append(Section(panel.title, (panel.answer, panel.note), figures=tuple(
            (picture.figure, picture.alt) for picture in panel.pictures)))
    sections += [_words(evidence, found, _), _replacements(evidence, found, _), _decided(evidence, _)]
    if emergence is not None:
        sections.append(evidence_emergence.section(emergence, theme=theme, _=_))
    if second is not None:
        maps = evidence_compare.differences(evidence, second, theme=theme, _=_)
        sections.append(Section(
            _("Side by side"), (evidence_texts.sentence(second, _),),
            rows=(("", quoted(evidence.source, _), quoted(second.source, _)),
                  (_("Model"), evidence.prompt.model, second.prompt.model),
                  *evidence_compare.numbers(evidence, second, _)),
            figures=tuple((picture.figure, picture.alt) for picture in maps)))
    return report.page(sections, title=f"{_('Evidence')} · {_('The Attention Microscope')}", language=language.locale,
                       theme=theme)


def _question(evidence: Evidence, _: Translate) -> Section:
    return Section(
        evidence_texts.name(evidence, _)[0], (evidence_texts.sentence(evidence, _),),
        rows=((_("Question"), ""), (_("Sentence"), quoted(evidence.source, _)),
              (_("Output"), quoted(evidence.output, _)), (_("Model"), evidence.prompt.model),
              ("A", quoted(evidence.query.text, _)), ("B", quoted(evidence.key.text, _)),
              (_("Measured on"), evidence_texts.measured(evidence, _)),
              (_("Stream"), texts.streams(_)[evidence.stream])))


def _words(evidence: Evidence, found: Effects, _: Translate) -> Section:
    names = evidence_panels.measure_names(_)
    rows = [(_("Word"), *(names[name] for name in evidence.correlations.measures))]
    for word, cut, hide in zip(evidence.words, found.word_cut, found.word_hide, strict=True):
        role = {"query": " (A)", "key": " (B)"}.get(word.role, "")
        rows.append((quoted(word.text, _) + role, plain(word.attention), plain(word.attention_max), plain(word.rollout),
                     plain(word.value), signed(-cut), signed(-hide)))
    return Section(_("Every word"), (_("Losses are those of {of}, in nats.").format(of=escape(found.of)),), tuple(rows))


def _replacements(evidence: Evidence, found: Effects, _: Translate) -> Section:
    answers = evidence_texts.replaced(evidence, quoted(evidence.target, _), _) | {None: "–"}
    origins = {"chosen": _("chosen"), "near": _("close to B in the model"), "random": _("drawn at random")}
    rows = [(_("In B's place"), _("From"), _("Output"), _("Changed?"), "Δ", _("Δ, vector patched"))]
    rows += [(quoted(tried.word, _), origins[tried.origin], quoted(tried.output, _) if tried.output else "–",
              answers[tried.changed], signed(replaced), signed(patched))
             for tried, replaced, patched in zip(evidence.replacements, found.replaced, found.patched, strict=True)]
    return Section(_("Words in B's place"), (_("Δ is the change of {of}, in nats.").format(of=escape(found.of)),),
                   tuple(rows))


def _decided(evidence: Evidence, _: Translate) -> Section:
    return Section(_("How this was decided"), tuple(evidence_texts.reasons(evidence, _)), rows=(
        (_("Threshold"), _("Meaning")), *evidence_texts.thresholds(evidence.thresholds, _)))
