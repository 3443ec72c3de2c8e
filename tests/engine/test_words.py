"""Words out of tokens by the stated rule, and patterns summed to words, against a double loop."""

from __future__ import annotations

import numpy as np
import pytest

from engine import words
from engine.types import Token, Word


def tokens_of(source: str, pieces: str, **flags: str) -> list[Token]:
    """Tokens at the pieces' places in `source`, in order; pieces are parted by "|", `<…>` ones are special."""
    found, at = [], 0
    for id_, piece in enumerate(pieces.split("|")):
        if piece.startswith("<") and piece.endswith(">"):
            found.append(Token(piece, id_, None, special=True))
            continue
        start = source.index(piece, at)
        at = start + len(piece)
        found.append(Token(piece, id_, (start, at), special=False, flag=flags.get(piece, "")))
    return found


@pytest.mark.parametrize(("source", "pieces", "expected"), [
    ("I like apples.", "I|like|app|les|.", "I|like|apples|."),
    ("don't say 'no'", "don|'|t|say|'|no|'", "don't|say|'|no|'"),
    ("rock’n’roll", "rock|’|n|’roll", "rock’n’roll"),
    ("well-known", "well|-|known", "well|-|known"),
    ("我喜欢吃苹果", "我|喜欢|吃|苹果", "我|喜欢|吃|苹果"),
    ("我用GPT4。", "我|用|G|PT|4|。", "我|用|GPT4|。"),
    ("2024年", "2|0|2|4|年", "2024|年"),
    ("りんごを", "りん|ご|を", "りん|ご|を"),
    ("ภาษาไทย", "ภา|ษา|ไทย", "ภา|ษา|ไทย"),
    ("яблоко вкусное", "ябл|око|вкус|ное", "яблоко|вкусное"),
    ("사과를", "사과|를", "사과를"),
    ("cafe\u0301s", "cafe|\u0301|s", "cafe\u0301s"),
    ("हिन्दी", "हि|न्|दी", "हिन्दी"),
    ("a b", "a|b", "a|b"),
    ("<s> ab", "<s>|a|b|</s>", "<s>|ab|</s>"),
])
def test_words_follow_the_rule(source, pieces, expected):
    assert [word.text for word in words.group(tokens_of(source, pieces), source)] == expected.split("|")


def test_right_to_left_words_are_joined_and_isolated():
    source = "مرحبا بالعالم"
    shown = [word.text for word in words.group(tokens_of(source, "مر|حبا|بال|عالم"), source)]
    assert shown == ["\u2068مرحبا\u2069", "\u2068بالعالم\u2069"]
    joined = "می\u200cخواهم"
    assert len(words.group(tokens_of(joined, "می|\u200c|خواهم"), joined)) == 1


def test_fragments_of_a_character_merge_whatever_its_script():
    source = "a喜😀"
    fragments = [Token("a", 0, (0, 1), False), *(Token(f"喜·{k}/3", k, (1, 2), False) for k in (1, 2, 3)),
                 *(Token(f"😀·{k}/2", k, (2, 3), False) for k in (1, 2))]
    assert words.group(fragments, source) == (
        Word("a", 0, 1, False), Word("喜", 1, 4, False), Word("😀", 4, 6, False))


def test_unknown_tokens_stay_alone_but_their_fragments_do_not():
    source = "abcd"
    flagged = tokens_of(source, "a|b|c|d", b="unknown")
    assert [(word.text, word.flag) for word in words.group(flagged, source)] == [
        ("a", ""), ("b", "unknown"), ("cd", "")]
    halves = [Token("喜·1/2", 0, (0, 1), False, "unknown"), Token("喜·2/2", 0, (0, 1), False, "unknown")]
    assert words.group(halves, "喜") == (Word("喜", 0, 2, False, "unknown"),)


def test_a_word_carries_its_tokens_fallback_flag():
    source = "xyz"
    flagged = tokens_of(source, "x|y|z", x="fallback", y="fallback", z="fallback")
    assert words.group(flagged, source) == (Word("xyz", 0, 3, False, "fallback"),)


def test_tokens_without_a_span_stay_alone():
    marker = Token("␣", 5, None, False)
    assert [word.text for word in words.group([marker, *tokens_of("ab", "a|b"), marker], "ab")] == ["␣", "ab", "␣"]


def random_tokens(chance: np.random.Generator, source: str) -> list[Token]:
    found, at = [], 0
    while at < len(source):
        end = min(len(source), at + int(chance.integers(1, 4)))
        parts = int(chance.integers(1, 4)) if chance.random() < 0.2 else 1
        kind = chance.choice(["", "", "", "unknown", "fallback"])
        found += [Token(source[at:end], 0, (at, end), False, str(kind)) for _ in range(parts)]
        if chance.random() < 0.1:
            found.append(Token("<x>", 1, None, bool(chance.random() < 0.5)))
        at = end + int(chance.random() < 0.2)
    return found


def test_words_tile_any_tokens_exactly():
    chance = np.random.default_rng(3)
    alphabet = list("ab c'’9我喜あ.ะ\u0301مر\u200c한😀\u200d\n")
    for _ in range(400):
        source = "".join(chance.choice(alphabet, int(chance.integers(0, 25))))
        tokens = random_tokens(chance, source)
        grouped = words.group(tokens, source)
        assert [at for word in grouped for at in range(word.start, word.end)] == list(range(len(tokens)))
        for word in grouped:
            members = tokens[word.start:word.end]
            assert word.special == all(token.special for token in members)
            if len(members) > 1:
                assert not any(token.special or token.span is None for token in members)
                assert all(after.span[0] <= before.span[1]
                           for before, after in zip(members, members[1:], strict=False))


# --- aggregate -------------------------------------------------------------------------------------------------------


def random_words(chance: np.random.Generator, length: int) -> list[Word]:
    cuts = [0, *(at for at in range(1, length) if chance.random() < 0.5), length] if length else [0]
    return [Word("w", start, end, False) for start, end in zip(cuts, cuts[1:], strict=False)]


def loops(pattern: np.ndarray, query_words, key_words) -> np.ndarray:
    """The definition: for each pair of words, the mean over queries of the sum over keys, in float64."""
    out = np.zeros((len(query_words), len(key_words)))
    for row, query in enumerate(query_words):
        for column, key in enumerate(key_words):
            per_query = [sum(float(pattern[q, k]) for k in range(key.start, key.end))
                         for q in range(query.start, query.end)]
            out[row, column] = sum(per_query) / len(per_query)
    return out


def test_aggregate_equals_a_double_loop():
    """Tolerance 1e-6 absolute on weights up to 1: one rounding to float32."""
    chance = np.random.default_rng(4)
    for _ in range(100):
        q_len, k_len = chance.integers(0, 14, 2)
        pattern = chance.random((q_len, k_len)).astype(np.float32)
        pattern /= np.maximum(pattern.sum(1, keepdims=True), 1e-9)
        pattern[chance.random(q_len) < 0.1] = 0
        queries, keys = random_words(chance, q_len), random_words(chance, k_len)
        result = words.aggregate(pattern, query_words=queries, key_words=keys)
        assert result.dtype == np.float32 and np.isfinite(result).all()
        np.testing.assert_allclose(result, loops(pattern, queries, keys), rtol=0, atol=1e-6)


def test_aggregated_rows_keep_their_sums():
    pattern = np.full((4, 6), 1 / 6, np.float32)
    result = words.aggregate(
        pattern, query_words=[Word("a", 0, 3, False), Word("b", 3, 4, False)],
        key_words=[Word("a", 0, 1, False), Word("b", 1, 6, False)])
    np.testing.assert_allclose(result, [[1 / 6, 5 / 6]] * 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ranges", [[(0, 2)], [(0, 2), (3, 4)], [(0, 3), (2, 4)], [(1, 4)], [(0, 4), (4, 4)], []])
def test_words_that_do_not_tile_the_axis_are_an_error(ranges):
    askew = [Word("w", start, end, False) for start, end in ranges]
    whole = [Word("w", 0, 4, False)]
    with pytest.raises(ValueError, match="tile"):
        words.aggregate(np.zeros((4, 4), np.float32), query_words=askew, key_words=whole)
    with pytest.raises(ValueError, match="tile"):
        words.aggregate(np.zeros((4, 4), np.float32), query_words=whole, key_words=askew)
