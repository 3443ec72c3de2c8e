"""Evidence in plain words: the sentence of the verdict, its reasons, its thresholds; in the interface's language.

It turns codes and numbers into sentences and measures nothing. What is shown
as Markdown is escaped here; numbers always carry their sign and unit.
"""

from __future__ import annotations

import math

import numpy as np

from engine import Evidence
from engine.evidence.outputs import contains
from engine.evidence.statistics import bar_of
from engine.evidence_types import Reason, Thresholds
from pages.figures.frame import written
from pages.widgets import texts
from pages.widgets.banners import escape
from pages.widgets.error_texts import N_
from pages.widgets.language import Translate
from pages.widgets.texts import signed

#: Verdict → its short name, and the colour of its badge.
NAMES = {
    "attends and is used": (N_("attends and is used"), "green"),
    "attends but is not used": (N_("attends but is not used"), "orange"),
    "used without direct attention": (N_("used without direct attention"), "violet"),
    "no evidence": (N_("no evidence"), "gray"),
}

#: Of "used without direct attention" what is shown where the direct edge itself is used: its look alone is ordinary.
_EDGE_USED = N_("direct edge used; the look is not rare")

#: What is said of a question, by `_kind`; "unrare" is a look well above the usual, but not rare enough to be evidence.
_SENTENCES = {
    "attends and is used": N_("**Yes.** {query} attends to {key}, and {cut_found}."),
    "attends but is not used": N_("**It looks, but the output does not depend on it.** {query} attends to {key}, yet "
                                  "neither cutting that edge nor hiding {key} costs the output enough to count."),
    "attends, use unshown": N_("**It looks, but nothing shows that the output needs it more than other words.** "
                               "{query} attends to {key}; yet {cut_found}, and {hide_found}."),
    "redundant": N_("**Not by this edge.** {query} attends to {key}, and {hide_found}, yet {cut_found}; the "
                    "information also comes another way."),
    "redundant, edge unclear": N_("**Not clearly by this edge.** {query} attends to {key}, and {hide_found}, yet "
                                  "{cut_found}."),
    "ordinary": N_("**The direct edge is used, though no look stands out.** What {query} takes from {key} counts, for "
                   "{cut_found}; but so much attention to a word in that place is nothing rare."),
    "ordinary, unrare": N_("**The direct edge is used, though the look is not rare enough to count.** What {query} "
                           "takes from {key} counts, for {cut_found}."),
    "indirect": N_("**Not by looking.** No head of {query} stands out in looking at {key}, and {cut_found}. Yet "
                   "{hide_found}, so the information comes another way."),
    "indirect, edge unclear": N_("**Used, but not shown to be by looking.** No head of {query} stands out in looking "
                                 "at {key}, and {cut_found}. Yet {hide_found}."),
    "indirect, unrare": N_("**Used, but not shown to be by looking.** For this output {hide_found}, yet {cut_found}."),
    "no evidence": N_("**No evidence.** No head of {query} stands out in looking at {key}, and taking {key} away does "
                      "not cost the output enough to count."),
    "no evidence, use unshown": N_("**No evidence.** No head of {query} stands out in looking at {key}; {cut_found}, "
                                   "and {hide_found}."),
    "no evidence, unrare": N_("**No evidence.** Taking {key} away does not cost the output enough to count."),
    "no evidence, unrare, use unshown": N_("**No evidence.** Nothing shows that the output needs {key} more than "
                                           "other words; {cut_found}, and {hide_found}."),
}

#: Reason code of an effect → what was found, as a part of a sentence.
_FOUND = {
    "cut_matters": N_("cutting that edge costs the output"),
    "cut_uncompared": N_("cutting that edge costs the output, with no other word to compare with"),
    "cut_within_controls": N_("cutting that edge costs not clearly more than cutting those to other words"),
    "cut_too_small": N_("cutting that edge changes too little to count"),
    "cut_raises": N_("cutting that edge makes the output more likely"),
    "hide_matters": N_("hiding {key} costs the output"),
    "hide_uncompared": N_("hiding {key} costs the output, with no other word to compare with"),
    "hide_within_controls": N_("hiding {key} costs not clearly more than hiding other words"),
    "hide_too_small": N_("hiding {key} changes too little to count"),
    "hide_raises": N_("hiding {key} makes the output more likely"),
}
#: The same where the effects are on a margin, whose other side may be what changed.
_FOUND_OF_MARGIN = _FOUND | {
    "cut_matters": N_("cutting that edge shrinks the margin"),
    "cut_uncompared": N_("cutting that edge shrinks the margin, with no other word to compare with"),
    "hide_matters": N_("hiding {key} shrinks the margin"),
    "hide_uncompared": N_("hiding {key} shrinks the margin, with no other word to compare with"),
    "cut_raises": N_("cutting that edge widens the margin"),
    "hide_raises": N_("hiding {key} widens the margin"),
}

#: Reason code → its sentence, with the numbers it names; how each is written is decided by the number's name.
REASONS = {
    "head_attends": N_("Layer {layer}, head {head} gives it {mass} (uniform: {uniform}; this head at this distance: "
                       "{offset}; p = {p}). Heads that attend: {heads}."),
    "carriers_attend": N_("The heads that carry the cut's effect, layer {layer} head {head} foremost, together give it "
                          "{mass} (uniform: {uniform}; at this distance: {offset}; one test, p = {p})."),
    "only_positional": N_("The most is in layer {layer}, head {head}: {mass}, above uniform ({uniform}), but hardly "
                          "above what this head gives to any word at this distance (mean {offset}, p = {p}): position, "
                          "not this word."),
    "not_significant": N_("The most is in layer {layer}, head {head}: {mass}, above uniform ({uniform}) and above this "
                          "head's mean at this distance ({offset}), but not rare enough there to count among so many "
                          "heads (p = {p})."),
    "no_head_attends": N_("The most is in layer {layer}, head {head}: {mass}, beside uniform {uniform} and {offset} at "
                          "this distance (p = {p}). No head stands out."),
    "flows": N_("Through all layers together {rollout} of the looking leads there (uniform heads: {uniform})."),
    "cut_matters": N_("Cutting the edge: {delta} nats; cutting another word's: {control}. It matters."),
    "cut_uncompared": N_("Cutting the edge: {delta} nats. It matters by its size; with no other word to compare with, "
                         "whether it is more than another's is untested."),
    "cut_within_controls": N_("Cutting the edge: {delta} nats, too close to another word's to count: {control}."),
    "cut_too_small": N_("Cutting the edge: {delta} nats, too little to matter (another word's: {control})."),
    "cut_raises": N_("Cutting the edge makes the output more likely: {delta} nats (another word's: {control})."),
    "hide_matters": N_("Hiding the word from everyone: {delta} nats; another word: {control}. It matters."),
    "hide_uncompared": N_("Hiding the word from everyone: {delta} nats. It matters by its size; with no other word to "
                          "compare with, whether it is more than another's is untested."),
    "hide_within_controls": N_("Hiding the word from everyone: {delta} nats, too close to another word's to count: "
                              "{control}."),
    "hide_too_small": N_("Hiding the word from everyone: {delta} nats, too little to matter (another: {control})."),
    "hide_raises": N_("Hiding the word from everyone makes the output more likely: {delta} nats (another: {control})."),
    "replacing_changes": N_("Replacing it took the measured form out of the output in {changed} of {tried} tries "
                            "(mean {delta} nats)."),
    "replacing_changes_nothing": N_("Replacing it never took the measured form out of the output in {tried} tries "
                                    "(mean {delta} nats)."),
    "edge_redundant": N_("It attends and the word matters, but the edge alone ({cut} nats) is not the road: hiding the "
                         "word costs {hide}. Other words carry its information too."),
    "ordinary_edge_used": N_("The edge matters ({delta} nats), yet so much attention to a word in that place is "
                             "not rare enough to count."),
    "patch_agrees": N_("Its vector taken from the sentences with the other words: {delta} nats. The vector alone "
                       "carries the word's information."),
    "judged_by_margin": N_("Judged on the margin of {word} over {contrast}, which is cleaner than one probability."),
    "output_words_disagree": N_("Cutting points at {by_cut} as the output word, cross-attention at {by_attention}: "
                                "choose the one you mean."),
    "first_of_several": N_("{text} stands in the text {occurrences} times; this is the one chosen, the first if none "
                           "was."),
    "widened": N_("The model reads {text} as one piece, so all of it was taken."),
    "reference_too_small": N_("With so many heads one alone cannot be significant: the smallest p here is "
                              "{p_smallest}, {needed} would be needed."),
    "attention_of_masked_query": N_("The looking word is masked in this run, so the attention is that of the mask in "
                                    "its place."),
}

#: Of these the sentence is another where the effects are on a margin.
_REASONS_OF_MARGIN = REASONS | {
    "cut_raises": N_("Cutting the edge widens the margin: {delta} nats (another word's: {control})."),
    "hide_raises": N_("Hiding the word from everyone widens the margin: {delta} nats (another: {control})."),
}

_SIGNED = {"delta", "cut", "hide"}

_THRESHOLDS = {
    "false_discovery": N_("false discoveries allowed among the heads called significant (Benjamini–Hochberg)"),
    "carriers_p": N_("largest p of the one test of the heads that carry the cut's effect, taken together"),
    "over_uniform": N_("a head's mass, at least so many times the uniform mass"),
    "over_offset": N_("a head's mass, at least so much above its mean mass at this distance"),
    "cut_nats": N_("nats that cutting the edge must cost"),
    "cut_over_controls": N_("times the median effect of cutting the edges to the other words"),
    "hide_nats": N_("nats that hiding the word from everyone must cost"),
    "hide_over_controls": N_("times the median effect of hiding the other words"),
}


def name(evidence: Evidence, _: Translate) -> tuple[str, str]:
    """The verdict's short name as it is shown, and the colour of its badge."""
    if any(reason.code == "ordinary_edge_used" for reason in evidence.reasons):
        return _(_EDGE_USED), "blue"
    shown, colour = NAMES[evidence.verdict]
    return _(shown), colour


def sentence(evidence: Evidence, _: Translate) -> str:
    """The verdict in words of Markdown, from where to where hiding B moves it, and the three numbers that carry it."""
    return texts.joined(found(evidence, _), start_and_end(evidence, _), three_numbers(evidence, _))


def found(evidence: Evidence, _: Translate) -> str:
    """What was found, in words without numbers."""
    _look, cut, hide = _codes(evidence)
    effects, key = _FOUND if evidence.contrast is None else _FOUND_OF_MARGIN, quoted(evidence.key.text, _)
    return _(_SENTENCES[_kind(evidence)]).format(
        query=quoted(evidence.query.text, _), key=key, cut_found=_(effects[cut]),
        hide_found=_(effects[hide]).format(key=key))


def start_and_end(evidence: Evidence, _: Translate) -> str:
    """What is measured before and after B is hidden: how large an effect is shows only beside what it is taken from."""
    if evidence.contrast is None:
        before, after = (written(value, ".2f") for value in (evidence.logprob, evidence.logprob + evidence.hide_delta))
        told = (_("Hiding {key} leaves log p({target}) at {before}.") if before == after else
                _("Hiding {key} moves log p({target}) from {before} to {after}."))
        return told.format(key=quoted(evidence.key.text, _), target=escape(evidence.target), before=before, after=after)
    before, after = evidence.margin, evidence.margin + evidence.margin_hide_delta
    if before <= 0 or written(before, ".2f") == written(after, ".2f"):
        told = _("Hiding {key} moves the margin of {target} over {contrast} from {before} to {after} nats.")
    elif after < 0:
        told = _("Hiding {key} turns the lead of {target} over {contrast}, {before} nats, into one of {contrast} over "
                 "{target}, {lead} nats: the sense flips.")
    elif after < before:
        told = _("Hiding {key} shrinks the lead of {target} over {contrast} from {before} to {after} nats; the sense "
                 "does not flip.")
    else:
        told = _("Hiding {key} widens the lead of {target} over {contrast} from {before} to {after} nats; the sense "
                 "does not flip.")
    return told.format(key=quoted(evidence.key.text, _), target=quoted(evidence.target, _),
                       contrast=quoted(evidence.contrast, _), before=written(before, ".2f"),
                       after=written(after, ".2f"), lead=written(-after, ".2f"))


def _codes(evidence: Evidence) -> tuple[str, str, str]:
    """The codes of the reasons that carry the verdict: of the look, of the cut, of the hiding."""
    codes = [reason.code for reason in evidence.reasons]
    return codes[0], *(next(code for code in codes if code.startswith(part)) for part in ("cut_", "hide_"))


def _kind(evidence: Evidence) -> str:
    """Which of `_SENTENCES` says what was found, no more."""
    codes = {reason.code for reason in evidence.reasons}
    look, cut, hide = _codes(evidence)
    unrare = ", unrare" if look == "not_significant" else ""
    unclear = ", edge unclear" if cut == "cut_within_controls" else ""
    small = cut == "cut_too_small" and hide == "hide_too_small"
    if evidence.verdict == "attends and is used":
        return evidence.verdict
    if evidence.verdict == "attends but is not used":
        return evidence.verdict if small else "attends, use unshown"
    if evidence.verdict == "no evidence":
        return evidence.verdict + unrare + ("" if small else ", use unshown")
    if "edge_redundant" in codes:
        return "redundant" + unclear
    return "ordinary" + unrare if "ordinary_edge_used" in codes else "indirect" + (unrare or unclear)


def three_numbers(evidence: Evidence, _: Translate) -> str:
    """The strongest head's mass, the cut edge and the hidden word, each beside what it is compared with."""
    cut, controls, hide, hide_controls = judged(evidence)
    told = _("Cutting that edge in all heads moves {target} by {cut} nats ({others}); hiding {key} from everyone "
             "moves it by {hide} nats ({hidden}).")
    return texts.joined(looks(evidence, _), told.format(
        target=measured(evidence, _), cut=f"**{signed(cut)}**", others=others(controls, _),
        key=quoted(evidence.key.text, _), hide=f"**{signed(hide)}**", hidden=others(hide_controls, _)))


def others(control: float, _: Translate) -> str:
    """What an effect is compared with: the other words' median, or that there is no other word."""
    if not math.isfinite(control):
        return _("no other word to compare with")
    return _("other words: {control}").format(control=plain(control))


def looks(evidence: Evidence, _: Translate) -> str:
    """The mass that the verdict rests on: the strongest head's, or that of the carriers together."""
    key = quoted(evidence.key.text, _)
    if evidence.carriers_attend and not evidence.attending.any():
        told = _("The heads that carry the effect together give {key} {mass} (usual at this distance: {usual}).")
        return told.format(key=key, mass=f"**{plain(evidence.carriers_mass)}**", usual=plain(evidence.carriers_offset))
    layer, head = strongest_head(evidence)
    mass, usual = evidence.attention[layer, head], evidence.baseline_offset[layer, head]
    told = _("The strongest head of {query}, layer {layer} head {head}, gives {key} {mass} (usual at this distance: "
             "{usual}).")
    bar = 0.0
    if _codes(evidence)[0] == "not_significant":
        bar = bar_of(evidence.p_values, (layer, head), level=evidence.thresholds.false_discovery)
        told = _("The strongest head of {query}, layer {layer} head {head}, gives {key} {mass}, above the {usual} "
                 "usual at this distance, but that is not rare enough to count: p = {p}; with {heads} heads it would "
                 "have to be {bar} or less.")
    if not np.isfinite(usual):
        usual = evidence.baseline_uniform[layer, head]
        told = _("The strongest head of {query}, layer {layer} head {head}, gives {key} {mass} (uniform: {usual}).")
    return told.format(query=quoted(evidence.query.text, _), key=key, layer=layer, head=head,
                       mass=f"**{plain(mass)}**", usual=plain(usual), heads=evidence.attention.size,
                       p=f"{evidence.p_values[layer, head]:.2g}", bar=f"{bar:.2g}")


def measured(evidence: Evidence, _: Translate) -> str:
    """What the deltas are of, as Markdown: the output's word, or its margin over the contrast."""
    if evidence.contrast is None:
        return quoted(evidence.target, _)
    return _("the margin of {target} over {contrast}").format(
        target=quoted(evidence.target, _), contrast=quoted(evidence.contrast, _))


def formula(target: str, contrast: str | None) -> str:
    """What deltas are of as a formula, plain text: the log-probability of `target`, or its margin over `contrast`."""
    return f"log p({target.strip()})" + ("" if contrast is None else f" − log p({contrast})")


def strongest_head(evidence: Evidence) -> tuple[int, int]:
    """(layer, head) with the most mass among those that attend, or among all."""
    among = evidence.attending if evidence.attending.any() else np.ones_like(evidence.attending)
    at = np.unravel_index(np.argmax(np.where(among, evidence.attention, -1.0)), evidence.attention.shape)
    return int(at[0]), int(at[1])


def judged(evidence: Evidence) -> tuple[float, float, float, float]:
    """Cut Δ, median |Δ| of its controls, hide Δ, median |Δ| of its: on the margin where there is a contrast."""
    if evidence.contrast is None:
        deltas = (evidence.delta_logprob, evidence.control_deltas, evidence.hide_delta, evidence.hide_control_deltas)
    else:
        deltas = (evidence.margin_delta, evidence.margin_control_deltas, evidence.margin_hide_delta,
                  evidence.margin_hide_control_deltas)
    cut, cut_controls, hide, hide_controls = deltas
    return cut, median_size(cut_controls), hide, median_size(hide_controls)


def median_size(controls: tuple[tuple[str, float], ...]) -> float:
    """Median |Δ| of (word, Δ) pairs; NaN without any."""
    sizes = [abs(delta) for _word, delta in controls if math.isfinite(delta)]
    return float(np.median(sizes)) if sizes else float("nan")


def reasons(evidence: Evidence, _: Translate) -> list[str]:
    """Every reason as a sentence of Markdown, in the order of the evidence."""
    return [explain(reason, _, contrast=evidence.contrast) for reason in evidence.reasons]


def explain(reason: Reason, _: Translate, *, contrast: str | None = None) -> str:
    """One reason as Markdown; with a contrast its effect is on the margin."""
    said = REASONS if contrast is None else _REASONS_OF_MARGIN
    return _(said[reason.code]).format(**{name: _spoken(name, value, _) for name, value in reason.numbers})


def thresholds(values: Thresholds, _: Translate) -> list[tuple[str, str]]:
    """(number, what it bounds) of every threshold, plain text."""
    return [(f"{getattr(values, name):g}", _(text)) for name, text in _THRESHOLDS.items()]


def replacing(evidence: Evidence, _: Translate) -> str:
    """In how many sentences with another B the measured form is gone, and in how many the contrast is there instead.

    A form may go without its sense ("an apple" for "apples"), so both are told. "" where no output was written.
    """
    tried = [one for one in evidence.replacements if one.changed is not None]
    if not tried:
        return ""
    if evidence.family == "encoder-only":
        told = _("In {changed} of {tried} sentences with another B another word is likeliest.")
    elif evidence.contrast is None:
        told = _("In {changed} of {tried} sentences with another B the form {target} is no longer written.")
    else:
        told = _("In {changed} of {tried} sentences with another B the form {target} is no longer written; {contrast} "
                 "is written in {flipped}.")
    return told.format(
        changed=sum(bool(one.changed) for one in tried), tried=len(tried), target=quoted(evidence.target, _),
        contrast=quoted(evidence.contrast or "", _),
        flipped=sum(contains(one.output, evidence.contrast) for one in tried) if evidence.contrast else 0)


def replaced(evidence: Evidence, target: str, _: Translate) -> dict[bool, str]:
    """Whether a sentence with B replaced `changed` → in words; `target` is the measured word as it is to be written."""
    if evidence.family == "encoder-only":
        return {True: _("another word is likeliest"), False: _("the same word is likeliest")}
    return {True: _("no longer writes {target}").format(target=target),
            False: _("still writes {target}").format(target=target)}


def quoted(text: str, _: Translate) -> str:
    """A person's or a model's words inside a sentence of Markdown."""
    return _('"{text}"').format(text=escape(text))


def plain(value: float) -> str:
    """A mass or a size: two digits; "–" for none."""
    return "–" if not math.isfinite(value) else f"{value:.2f}"


def _spoken(name: str, value: float | int | str, _: Translate) -> str:
    if isinstance(value, str):
        return quoted(value, _)
    if isinstance(value, int):
        return str(value)
    if name.startswith("p") or name == "needed":
        return f"{value:.2g}"
    return signed(value) if name in _SIGNED else plain(value)
