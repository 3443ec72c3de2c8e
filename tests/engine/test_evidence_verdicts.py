"""The verdict on models whose heads are set by hand: right for all four, in three families, wherever things stand.

What is right is known from `tests.engine.planted`, not from the engine. The
reference corpus is the one that ships; what it costs is bounded by a cache
folder of its own and fewer runs for the encoder-only model.
"""

from __future__ import annotations

import functools

import pytest

from engine import LocalEngine, Prompt
from engine.evidence import reference
from engine.evidence_types import REASONS, VERDICTS
from tests.engine import planted
from tests.engine.bounds import BRIEF

USED, UNUSED, INDIRECT, NOTHING = VERDICTS

#: (verdict, A, B, sentences): as it is, longer, and with other words doubled. The road stands between snow and train.
CASES = (
    (USED, "bank", "river", ("the old river was next to his shop and the bank",
                             "we went to the river and it was in the small old city with a new shop next to her bank",
                             "the the old old river was was next to his his shop shop and and the the bank")),
    (UNUSED, "table", "cat", ("the old cat was on the table",
                              "we took the cat and it was in the small old city with a new shop next to her table",
                              "the the old old cat was was on on the the table")),
    (INDIRECT, "train", "snow", ("the snow was on the road and the train",
                                 "we have snow in the small old city and it is on the old road to her new train",
                                 "the the snow was was on on the the road and and the the train")),
    (NOTHING, "book", "dog", ("the old dog has my shop and her book",
                              "we took the dog and it was in the small old city with a new shop next to her book",
                              "the the old old dog has has my my shop shop and and her her book")),
)
QUESTIONS = [pytest.param(verdict, a, b, text, id=f"{b}-{a}-{kind}")
             for verdict, a, b, texts in CASES
             for kind, text in zip(("plain", "longer", "doubled"), texts, strict=True)]


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ATTENTION_CACHE", str(tmp_path_factory.mktemp("references")))
    patch.setattr(reference, "REFERENCE_RUNS", 400)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    for family in planted.FAMILIES:
        planted.save(family, folder / family, planted.verdict_heads(family))
        planted.save(family, folder / f"{family}-moved", planted.verdict_heads(family, moved=True))
        for writes in (False, True):
            planted.save(family, folder / f"{family}-previous-{writes}", planted.previous_head(family, writes=writes))
    return LocalEngine(assets=folder, folder=folder, device="cpu", bounds=BRIEF)


@pytest.fixture(scope="module")
def asked(engine):
    """(model, text, A, B) → the engine's evidence with the words that it suggests, each question once."""
    return functools.cache(lambda model, text, a, b: engine.evidence(Prompt(model, text), a, b))


@pytest.mark.parametrize("family", planted.FAMILIES)
@pytest.mark.parametrize(("verdict", "a", "b", "text"), QUESTIONS)
def test_each_verdict(asked, family, verdict, a, b, text):
    evidence = asked(family, text, a, b)
    assert evidence.verdict == verdict, evidence.reasons
    for reason in evidence.reasons:
        assert tuple(name for name, _ in reason.numbers) == REASONS[reason.code]


@pytest.mark.parametrize("family", planted.FAMILIES)
@pytest.mark.parametrize(("verdict", "a", "b", "text"), [param for param in QUESTIONS if param.id.endswith("plain")])
def test_each_verdict_with_the_heads_elsewhere(engine, asked, family, verdict, a, b, text):
    here = asked(family, text, a, b)
    moved = engine.evidence(Prompt(f"{family}-moved", text), a, b, replacements=())
    assert moved.verdict == here.verdict == verdict
    if verdict in (USED, UNUSED):
        assert moved.attending.sum() == here.attending.sum() == 1
        assert not (moved.attending & here.attending).any()


@pytest.mark.parametrize("family", planted.FAMILIES)
def test_numbers_behind_the_verdicts(asked, family):
    """One planted head takes all the mass and carries all of the effect; what is indirect is not direct."""
    used = asked(family, CASES[0][3][0], "bank", "river")
    head = (0, 0)
    assert used.attending[head] and used.attending.sum() == 1
    assert used.attention[head] == pytest.approx(1.0, abs=1e-3)
    assert used.delta_by_head[head] == pytest.approx(used.delta_logprob, abs=1e-3) and used.delta_logprob < -5
    assert abs(used.delta_by_head).sum() == pytest.approx(-used.delta_logprob, abs=1e-3)
    assert used.delta_by_layer[0] == pytest.approx(used.delta_logprob, abs=1e-3)
    assert used.hide_delta == pytest.approx(used.delta_logprob, abs=1e-3)
    assert used.patch_delta == pytest.approx(used.delta_logprob, abs=0.1)
    assert max(abs(delta) for _, delta in used.control_deltas) < 1e-3
    assert used.carriers[head] == pytest.approx(1.0, abs=1e-3)
    assert used.value_share[head] > 0.9
    assert all(replacement.changed for replacement in used.replacements if replacement.changed is not None)

    indirect = asked(family, CASES[2][3][0], "train", "snow")
    assert abs(indirect.delta_logprob) < 0.01 and indirect.hide_delta < -5 and indirect.patch_delta < -5
    middle = dict(indirect.control_deltas)["road"]
    assert middle < -5  # the last leg of the way is an edge of A's


@pytest.mark.parametrize("family", planted.FAMILIES)
@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("text", ["he went to the old river bank", "at the shop we have put it next to a river bank",
                                  "the river bank", "the old old river bank"])
def test_a_previous_token_head_is_no_evidence_of_attention(engine, family, writes, text):
    """It gives the word before nearly all, as in any sentence; where it writes, the word is used all the same."""
    evidence = engine.evidence(Prompt(f"{family}-previous-{writes}", text), "bank", "river", replacements=())
    assert evidence.attention[0, 1] > 0.99
    assert not evidence.verdict.startswith("attends")
    assert evidence.verdict == (INDIRECT if writes else NOTHING)
    assert evidence.baseline_offset[0, 1] > 0.95 and evidence.reasons[0].code == "only_positional"


@pytest.mark.parametrize("family", planted.FAMILIES)
def test_of_two_rivers_one_alone_is_not_needed_and_both_together_are(engine, family):
    text = "the river river was next to his shop and the bank"
    prompt = Prompt(family, text)
    one = engine.evidence(prompt, "bank", ("river", 1), replacements=())
    assert one.verdict == UNUSED and one.attention[0, 0] == pytest.approx(0.5, abs=0.01)
    both = engine.evidence(prompt, "bank", "river river", replacements=())
    assert both.verdict == USED and both.attention[0, 0] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("family", "verdict"), [("encoder-decoder", USED), ("decoder-only", USED)])
def test_a_in_the_output(engine, family, verdict):
    """"shore" is written from the row that reads "see" (or "bank"), which looks at the bank (or at the river)."""
    key = "bank" if family == "encoder-decoder" else "river"
    evidence = engine.evidence(Prompt(family, CASES[0][3][0]), "shore", key, query_in="output")
    assert evidence.query.side == "output" and evidence.target == "shore"
    assert evidence.verdict == verdict
    assert evidence.stream == ("cross" if family == "encoder-decoder" else "decoder")
    assert evidence.attending[0, 2 if family == "encoder-decoder" else 0]


def test_the_word_that_stands_for_a(engine, asked):
    evidence = asked("encoder-decoder", CASES[0][3][0], "bank", "river")
    assert [word.text for word in evidence.output_words] == ["see", "shore"]
    assert (evidence.output_word, evidence.output_word_by_cut, evidence.output_word_by_attention) == (1, 1, 1)
    assert evidence.output_words[1].cut_delta < -5 < -0.01 < evidence.output_words[0].cut_delta
    other = engine.evidence(Prompt("encoder-decoder", CASES[0][3][0]), "bank", "river", output_word="see")
    assert other.output_word == 0 and other.output_word_chosen and other.target == "see"
    assert other.verdict == UNUSED


@pytest.mark.parametrize("family", planted.FAMILIES)
def test_margins_against_a_contrast(engine, family):
    """log p(word) − log p(contrast), each measured on its own, is what the margin says; long contrasts too."""
    prompt = Prompt(family, CASES[0][3][0])
    contrasts = ("table",) if family == "encoder-only" else ("table", "table small road")
    for contrast in contrasts:
        evidence = engine.evidence(prompt, "bank", "river", contrast=contrast, replacements=())
        assert evidence.verdict == USED and evidence.contrast == contrast
        assert evidence.margin > 5 and evidence.margin_delta < -5 and evidence.margin_hide_delta < -5
        codes = [reason.code for reason in evidence.reasons]
        assert "judged_by_margin" in codes
