"""Evidence in words: every code and verdict has its sentence, in both languages, with the engine's own numbers."""

from __future__ import annotations

import json
import string
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.evidence_types import REASONS, THRESHOLDS, VERDICTS, Reason
from pages.widgets import evidence_panels, evidence_report, evidence_texts, language
from pages.widgets.texts import signed
from tests.evidence_value import make, with_contrast

LANGUAGES = [language.translator(each) for each in language.LANGUAGES]
VALUES = {"layer": 1, "head": 2, "heads": 3, "changed": 1, "tried": 4, "occurrences": 2, "text": "a", "word": "b",
          "contrast": "c", "by_cut": "d", "by_attention": "e"}


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_has_a_sentence_of_its_numbers(code):
    named = {name for _text, name, _spec, _conversion in string.Formatter().parse(evidence_texts.REASONS[code]) if name}
    assert named <= set(REASONS[code])
    reason = Reason(code, tuple((name, VALUES.get(name, -.25)) for name in REASONS[code]))
    said = [evidence_texts.explain(reason, _) for _ in LANGUAGES]
    assert all(said) and said[0] != said[1]


def test_no_sentence_for_what_does_not_exist():
    assert set(evidence_texts.REASONS) == set(REASONS) and set(evidence_texts.NAMES) == set(VERDICTS)


@pytest.mark.parametrize("_", LANGUAGES)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_a_sentence_with_its_three_numbers(verdict, _):
    evidence = make(verdict=verdict)
    said = evidence_texts.sentence(evidence, _)
    for number in ("**0.61**", "**−0.83**", "**−2.40**", "0.04", "0.31"):
        assert number in said, number
    assert "苹果" in said and "吃" in said and "apples" in said


def test_the_sentence_of_an_indirect_use_says_which_kind():
    plain = make(verdict="used without direct attention")
    kinds = {evidence_texts.sentence(replace(plain, reasons=(*plain.reasons, *more)), LANGUAGES[1]).split("**")[1]
             for more in ((), (Reason("edge_redundant", (("cut", -.1), ("hide", -2.0))),),
                          (Reason("ordinary_edge_used", (("delta", -1.0),)),))}
    assert len(kinds) == 3


def test_where_the_edge_itself_is_used_the_badge_says_so():
    """The verdict's name alone would say "without direct attention" of a cut that costs all there is to lose."""
    plain = make(verdict="used without direct attention")
    used = replace(plain, reasons=(*plain.reasons, Reason("ordinary_edge_used", (("delta", -1.0),))))
    for _ in LANGUAGES:
        assert evidence_texts.name(plain, _)[0] == _("used without direct attention")
        assert evidence_texts.name(used, _)[0] == _("direct edge used; the look is not rare")
        assert evidence_texts.name(make(), _) == (_("attends and is used"), "green")
    report = evidence_report.html(used, measure="logprob", language=language.ENGLISH, theme="light",
                                  _=LANGUAGES[1])
    assert "<h2>direct edge used; the look is not rare</h2>" in report


@pytest.mark.parametrize(("margin", "delta", "said"), [
    (8.21, -2.74, 'shrinks the lead of "apples" over "Apple" from 8.21 to 5.47 nats; the sense does not flip'),
    (8.21, .23, 'widens the lead of "apples" over "Apple" from 8.21 to 8.44 nats; the sense does not flip'),
    (2.1, -5.6, 'turns the lead of "apples" over "Apple", 2.10 nats, into one of "Apple" over "apples", 3.50 nats: '
                'the sense flips'),
    (-1.5, -.5, 'moves the margin of "apples" over "Apple" from −1.50 to −2.00 nats'),
    (8.21, -.001, 'moves the margin of "apples" over "Apple" from 8.21 to 8.21 nats'),
])
def test_an_effect_stands_beside_what_it_is_taken_from(margin, delta, said):
    evidence = replace(with_contrast(), margin=margin, margin_hide_delta=delta)
    assert said in evidence_texts.sentence(evidence, LANGUAGES[1])
    assert ("flips" in evidence_texts.sentence(evidence, LANGUAGES[1])) is (margin > 0 > margin + delta)


def test_without_a_contrast_the_start_is_a_log_probability():
    assert 'Hiding "吃" moves log p(apples) from −0.05 to −2.45.' in evidence_texts.sentence(make(), LANGUAGES[1])
    assert "leaves log p(apples) at −0.05." in evidence_texts.sentence(make(hide_delta=.001), LANGUAGES[1])


def judged(verdict: str, look: str, cut: str, hide: str, **changes):
    """Evidence with these codes; `cut` and `hide` without their prefix."""
    plain = make(verdict=verdict, **changes)
    numbers = (("delta", -2.64), ("control", 1.43))
    return replace(plain, reasons=(Reason(look, plain.reasons[0].numbers), Reason(f"cut_{cut}", numbers),
                                   Reason(f"hide_{hide}", numbers)))


@pytest.mark.parametrize("verdict", ["attends but is not used", "no evidence"])
@pytest.mark.parametrize(("cut", "hide", "words"), [
    ("within_controls", "within_controls", ("not clearly more than cutting", "not clearly more than hiding")),
    ("raises", "too_small", ("more likely", "too little to count")),
    ("too_small", "raises", ("too little to count", "more likely")),
])
def test_a_large_effect_that_failed_another_criterion_is_never_called_none(verdict, cut, hide, words):
    look = "head_attends" if verdict.startswith("attends") else "no_head_attends"
    said = evidence_texts.sentence(judged(verdict, look, cut, hide), LANGUAGES[1])
    assert all(word in said for word in words)
    assert "does not depend" not in said and "not cost the output enough" not in said


@pytest.mark.parametrize("verdict", ["attends but is not used", "no evidence"])
def test_two_small_effects_are_called_none(verdict):
    said = evidence_texts.sentence(judged(verdict, "head_attends", "too_small", "too_small"), LANGUAGES[1])
    assert "enough to count" in said and "more likely" not in said and "not clearly" not in said


@pytest.mark.parametrize(("verdict", "more"), [
    ("no evidence", ()), ("used without direct attention", ()),
    ("used without direct attention", (Reason("ordinary_edge_used", (("delta", -1.0),)),)),
])
def test_a_look_above_the_usual_is_called_too_common_not_absent(verdict, more):
    """It failed by p alone: that is said, with p and what it would have to be, and no head is said not to stand out."""
    p_values = np.full((3, 4), .5)
    p_values[2, 1] = .012
    evidence = judged(verdict, "not_significant", "too_small", "matters", attending=np.zeros((3, 4), bool),
                      carriers_attend=False, p_values=p_values)
    chinese, english = (evidence_texts.sentence(replace(evidence, reasons=(*evidence.reasons, *more)), _)
                        for _ in LANGUAGES)
    bar = ("p = 0.012; with 12 heads it would have to be 0.0042 or less", "p = 0.012；12 个头时需 ≤ 0.0042")
    assert bar[0] in english and bar[1] in chinese
    assert all(word in said for said in (chinese, english) for word in ("苹果", "吃"))
    for words in ("stands out", "Not by looking", "nothing rare"):
        assert words not in english
    assert "突出" not in chinese and "并非靠直接看" not in chinese
    panel = evidence_panels.panels(evidence, measure="logprob", theme="dark", _=LANGUAGES[1])[0]
    assert "not rare enough" in panel.answer


def test_the_edge_is_called_idle_only_where_cutting_it_costs_little():
    look, more = "head_attends", Reason("edge_redundant", (("cut", -2.64), ("hide", -9.0)))
    for cut, other in (("too_small", True), ("raises", True), ("within_controls", False)):
        evidence = judged("used without direct attention", look, cut, "matters")
        said = evidence_texts.sentence(replace(evidence, reasons=(*evidence.reasons, more)), LANGUAGES[1])
        assert ("comes another way" in said) is other


@pytest.mark.parametrize("_", LANGUAGES)
def test_without_another_word_nothing_is_compared(_):
    """No control is not a control of 0."""
    alone = judged("attends and is used", "head_attends", "uncompared", "uncompared", control_deltas=(),
                   hide_control_deltas=())
    said = evidence_texts.sentence(alone, _)
    assert said.count(_("no other word to compare with")) == 3 and "0.00" not in said
    panels = evidence_panels.panels(alone, measure="logprob", theme="dark", _=_)
    assert _("no other word to compare with") in panels[2].answer
    layers = next(picture.figure for picture in panels[2].pictures if picture.name == "used-layers")
    assert all(shape.type != "rect" for shape in layers.layout.shapes)
    assert "NaN" not in evidence_report.json(alone)


def test_with_a_contrast_what_rises_is_the_margin():
    reason = Reason("cut_raises", (("delta", .3), ("control", .1)))
    assert "more likely" in evidence_texts.explain(reason, LANGUAGES[1])
    said = evidence_texts.explain(reason, LANGUAGES[1], contrast="Apple")
    assert "margin" in said and "more likely" not in said
    assert "差距变大" in evidence_texts.explain(reason, LANGUAGES[0], contrast="Apple")


def test_nothing_has_no_sign():
    assert [signed(value) for value in (-.001, .001, -.0, 0.0)] == ["0.00"] * 4
    assert [signed(value) for value in (-.006, .006, float("nan"))] == ["−0.01", "+0.01", "–"]
    assert [signed(value, 3) for value in (-.0004, -.006, 10.0)] == ["0.000", "−0.006", "+10.000"]
    assert [signed(value, 0) for value in (-7, 0, 20)] == ["−7", "0", "+20"]


def test_carriers_speak_where_no_single_head_attends():
    evidence = make(attending=np.zeros((3, 4), bool), carriers_mass=.47, carriers_offset=.11)
    said = evidence_texts.sentence(evidence, LANGUAGES[1])
    assert "**0.47**" in said and "0.11" in said and "**0.61**" not in said


def test_with_a_contrast_the_numbers_are_the_margins():
    said = evidence_texts.sentence(with_contrast(), LANGUAGES[1])
    assert "the margin" in said and "cutting that edge shrinks the margin" in said
    assert "**−1.66**" in said and "**−4.80**" in said and "−0.83" not in said and "Apple" in said


def test_what_was_typed_is_never_markdown():
    evidence = make(query=replace(make().query, text="**[x](y)** <b>"), target="`a` $b$")
    said = evidence_texts.sentence(evidence, LANGUAGES[1])
    assert r"\*\*\[x\]\(y\)\*\* \<b\>" in said and r"\`a\` \$b\$" in said


def test_every_threshold_is_shown():
    shown = evidence_texts.thresholds(THRESHOLDS, LANGUAGES[1])
    assert [number for number, _text in shown] == [f"{getattr(THRESHOLDS, each.name):g}" for each in fields(THRESHOLDS)]


@pytest.mark.parametrize(("evidence", "measure"), [
    (make(), "logprob"), (with_contrast(), "margin"), (with_contrast(), "logprob"),
    (make(replacements=(), patch_delta=float("nan")), "logprob"),
    (make(stream="cross", words=tuple(word for word in make().words if word.role != "query")), "logprob"),
    (make(delta_by_head=np.zeros((3, 4), np.float32), attending=np.zeros((3, 4), bool)), "logprob"),
])
@pytest.mark.parametrize("_", LANGUAGES)
def test_panels_stand_in_their_order_with_words_and_pictures(evidence, measure, _):
    panels = evidence_panels.panels(evidence, measure=measure, theme="dark", _=_)
    assert [panel.name for panel in panels] == ["attends", "flows", "used", "needed", "heads", "rankings"]
    assert all(panel.title and panel.answer and panel.pictures for panel in panels[:-1])
    names = [picture.name for panel in panels for picture in panel.pictures]
    assert len(set(names)) == len(names) and all(picture.alt for panel in panels for picture in panel.pictures)
    assert "nan" not in " ".join(panel.answer + panel.note for panel in panels)


def test_effects_on_the_margin_are_the_margins():
    evidence = with_contrast()
    plain, margin = (evidence_panels.effects(evidence, measure=measure, _=LANGUAGES[1])
                     for measure in evidence_panels.MEASURES)
    assert (plain.cut, margin.cut) == (-.83, -1.66) and (plain.control, margin.control) == (.04, .08)
    np.testing.assert_array_equal(margin.by_head, evidence.margin_delta_by_head)
    np.testing.assert_allclose(margin.word_cut[:3], 2 * plain.word_cut[:3])


def ranked(evidence, measure: str = "logprob"):
    """The panel of rankings, in English."""
    return evidence_panels.panels(evidence, measure=measure, theme="dark", _=LANGUAGES[1])[-1]


def of_words(correlations, n: int):
    return replace(correlations, n_words=n)


def test_the_measure_that_was_chosen_is_ranked_and_named():
    evidence = with_contrast()
    evidence = replace(evidence, correlations=of_words(evidence.correlations, 4),
                       margin_correlations=of_words(evidence.margin_correlations, 4))
    plain, margin = ranked(evidence), ranked(evidence, "margin")
    for panel, name, given in ((plain, r"log p\(apples\) loses", evidence.correlations),
                               (margin, r"log p\(apples\) − log p\(Apple\) loses", evidence.margin_correlations)):
        assert name in panel.answer and "over 4 words" in panel.answer
        np.testing.assert_array_equal(panel.pictures[0].figure.data[0].z, given.spearman)
    assert "mean of heads **+0.30**" in plain.answer.replace("\\", "")
    assert "mean of heads **−0.30**" in margin.answer.replace("\\", "")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_words_have_no_rank_and_no_empty_picture(n):
    panel = ranked(make(correlations=of_words(make().correlations, n)))
    assert panel.answer == f"Too few words to rank: at least 4 beside A are needed, here there are {n}."
    assert panel.pictures == () and panel.note == ""


def test_effects_that_count_for_nothing_are_not_ranked():
    """On the log-probability nothing costs anything; the margin has what to rank."""
    given = with_contrast()
    evidence = replace(given, correlations=of_words(given.correlations, 5),
                       margin_correlations=of_words(given.margin_correlations, 5),
                       words=tuple(replace(word, cut=word.cut / 10) for word in given.words))
    panel = ranked(evidence)
    assert "too small" in panel.answer and "0.1 nats" in panel.answer and panel.pictures == ()
    assert ranked(evidence, "margin").pictures


@pytest.mark.parametrize(("measure", "mean"), [("logprob", np.mean([-.85, -6.1])),
                                               ("margin", np.mean([3.1 - 4.2, -1.4 - 4.2]))])
def test_what_replacing_did_is_told_of_the_measure_that_was_chosen(measure, mean):
    panel = evidence_panels.panels(with_contrast(), measure=measure, theme="dark", _=LANGUAGES[1])[3]
    assert f"changes by {signed(mean)} nats" in panel.answer
    assert ('In 1 of 2 sentences with another B the form "apples" is no longer written; "Apple" is written in 1.'
            in panel.answer)


@pytest.mark.parametrize(("output", "written"), [("I like to make an apple.", 0), ("I like Apples.", 0),
                                                 ("I use Apple's phone.", 1)])
def test_another_form_is_not_the_contrast(output, written):
    evidence = with_contrast()
    tried = replace(evidence.replacements[1], output=output)
    said = evidence_texts.replacing(replace(evidence, replacements=(tried,)), LANGUAGES[1])
    assert said.startswith("In 1 of 1 ") and said.endswith(f'"Apple" is written in {written}.')


def test_the_reports_tables_are_of_the_measure_that_was_chosen():
    for measure, losses, patched in (("logprob", ("+0.83", "+2.40"), "−3.10"), ("margin", ("+1.66", "+4.80"), "−3.80")):
        page = evidence_report.html(with_contrast(), measure=measure, language=language.ENGLISH, theme="light",
                                    _=LANGUAGES[1])
        row = page[page.index("(B)</td>"):].split("</tr>")[0]
        assert tuple(row.replace("</td>", "").split("<td>")[-2:]) == losses
        assert f"<td>{patched}</td>" in page
        of = "log p(apples)" + (" − log p(Apple)" if measure == "margin" else "")
        assert f"Losses are those of {of}, in nats." in page and f"Δ is the change of {of}, in nats." in page


@pytest.mark.parametrize(("measure", "words", "not_words"), [
    ("margin", 'the lead of "apples" over "Apple" shrank', "probability"),
    ("logprob", "lost probability", "the lead of"),
])
def test_left_of_zero_says_what_was_measured(measure, words, not_words):
    note = evidence_panels.panels(with_contrast(), measure=measure, theme="dark", _=LANGUAGES[1])[2].note
    assert words in note and not_words not in note


@pytest.mark.parametrize(("family", "kept", "changed"), [
    ("encoder-decoder", 'still writes "apples"', 'no longer writes "apples"'),
    ("encoder-only", "the same word is likeliest", "another word is likeliest"),
])
def test_of_a_replacement_it_is_said_what_stayed(family, kept, changed):
    """An output that holds the measured word still may be another sentence all the same."""
    panel = evidence_panels.panels(make(family=family), measure="logprob", theme="dark", _=LANGUAGES[1])[3]
    names = [bar.name for bar in panel.pictures[0].figure.data]
    assert names[:2] == [changed, kept] and "random" in names[2]


def test_a_long_row_shows_where_it_differs():
    """Cut from the right alone, the new word would not be seen."""
    original = "The old firm has released a new phone."
    tried = replace(make().replacements[0], word="买", output="The old firm has bought a new phone.")
    same = replace(tried, word="卖", output=original)
    panel = evidence_panels.panels(make(output=original, replacements=(tried, same)), measure="logprob", theme="dark",
                                   _=LANGUAGES[1])[3]
    labels = [text.strip("\u2068\u2069") for text in panel.pictures[0].figure.layout.yaxis.ticktext]
    assert labels[1:3] == ["买 → …bought a new phone.", "卖 → The old f…d a new phone."]


@pytest.mark.parametrize(("offsets", "stream", "said"), [
    ((-1, -1), "encoder", "one token before"), ((1, 1), "encoder", "one token after"),
    ((-3, -3), "decoder", "3 tokens before"), ((2, 2), "encoder", "2 tokens after"),
    ((-5, -4), "encoder", "4–5 tokens before"), ((4, 6), "encoder", "4–6 tokens after"),
    ((-1, 2), "encoder", "at an offset of −1 … +2 tokens"), ((-2, -2), "cross", "at an offset of −2 tokens"),
])
def test_a_distance_is_told_as_before_and_after(offsets, stream, said):
    evidence = make(reference_offsets=offsets, stream=stream)
    note = evidence_panels.panels(evidence, measure="logprob", theme="dark", _=LANGUAGES[1])[0].note
    assert f"reference sentences, {said}." in note


@pytest.mark.parametrize(("stream", "names"), [("encoder", ("编码器自注意力", "Encoder self-attention")),
                                                ("cross", ("交叉注意力", "Cross-attention"))])
def test_streams_are_called_by_their_names(stream, names):
    for name, _ in zip(names, LANGUAGES, strict=True):
        note = evidence_panels.panels(make(stream=stream), measure="logprob", theme="dark", _=_)[0].note
        assert note.startswith(name) and f" {stream}" not in note


def test_json_holds_every_field_and_reads_back():
    evidence = make()
    given = json.loads(evidence_report.json(evidence, with_contrast()))
    assert set(given["evidence"]) == {each.name for each in fields(evidence)}
    np.testing.assert_allclose(given["evidence"]["attention"], evidence.attention, rtol=1e-6)
    assert given["evidence"]["margin"] is None and given["compared_with"]["margin"] == 4.2
    assert given["evidence"]["words"][2] == {
        "text": "吃", "span": [3, 4], "role": "key", "attention": .22, "attention_max": .61, "rollout": .18,
        "value": .25, "cut": -.83, "hide": -2.4, "cut_margin": None, "hide_margin": None}


class Reader(HTMLParser):
    """Collects what a browser would fetch, the words it would show, and the charts' places."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched, self.charts, self.shown, self._in_script = [], 0, "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        self.charts += ("class", "plotly-graph-div") in attributes
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        self.shown += "" if self._in_script else data


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_report_holds_everything_and_asks_nobody(spoken):
    _ = language.translator(spoken)
    hostile = make(source="<script>alert(1)</script>", target="</script>")
    page = evidence_report.html(hostile, with_contrast(), measure="logprob", language=spoken, theme="light", _=_)
    read = Reader(page)
    assert read.fetched == ["data:,"]
    assert read.charts == 8, "six pictures, and two maps of the difference"
    assert len(page) > 1_000_000, "Plotly's own script is inside"
    assert "<script>alert(1)" not in page
    for text in ("−0.83", "−2.40", "I like to use Apple.", "<script>alert(1)</script>", _("How this was decided"),
                 _("Side by side")):
        assert text in read.shown, text


def test_a_report_of_a_sentence_that_is_markup_runs_none_of_it():
    """Words, replacements and outputs reach tables, charts and scripts; none becomes a tag there."""
    mark = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    plain = make()
    hostile = make(
        source=mark, output=mark, target=mark, query=replace(plain.query, text=mark),
        key=replace(plain.key, text=mark), control_deltas=((mark, -0.1), *plain.control_deltas[1:]),
        words=tuple(replace(word, text=mark) for word in plain.words),
        replacements=tuple(replace(each, word=mark, output=mark) for each in plain.replacements))
    page = evidence_report.html(hostile, hostile, measure="logprob", language=language.ENGLISH, theme="light",
                                _=language.translator(language.ENGLISH))
    read = Reader(page)
    assert read.fetched == ["data:,"], "no tag of the sentence's is one"
    assert read.charts == 8 and mark in read.shown
    assert "<script>alert(1)" not in page and "</script><img" not in page and "<img src=x" not in page
