"""Spans of what is hard to trace to its characters: outputs written in bytes, and marks that no token reads.

The oracle of the bytes is UTF-8: the tokens of a character are those that spell its bytes.
"""

from __future__ import annotations

import pytest
import transformers

from engine import text
from tests.engine import oracle
from tests.engine.test_text import byte_fallback, word_piece

FALLBACK = byte_fallback()


def spelled(ids: list[int], output: str) -> list[tuple[int, int] | None]:
    """The span of each id by hand: bytes count towards their character, other entries match the text in order."""
    spans, at, left = [], 0, 0
    for entry in FALLBACK.convert_ids_to_tokens(ids):
        if entry.startswith("<0x"):
            left = left or len(output[at].encode())
            spans.append((at, at + 1))
            left -= 1
            at += not left
        else:
            word = entry.replace("▁", " ") if at else entry.lstrip("▁")
            assert output.startswith(word, at)
            start = at + (len(word) - len(word.lstrip()) if word.strip() else 0)
            spans.append((start, at + len(word)) if word else None)
            at += len(word)
    assert at == len(output) and not left
    return spans


@pytest.mark.parametrize("typed", [
    "曲项向天歌", "鹅鹅鹅曲项向天歌白毛浮绿水", "👨👩😀😀🏽🎉", "é曲😀é曲😀é曲😀",
    "曲I like 曲项向天歌曲项 like 😀😀😀 a曲项向天歌p", "曲" * 40,
])
def test_characters_written_in_bytes_keep_their_spans(typed):
    # Without the first marker, the text tokenised again gives other ids: aligned step by step.
    ids = FALLBACK(typed, add_special_tokens=False).input_ids[1:]
    output = FALLBACK.decode(ids)
    assert output == typed and FALLBACK(output, add_special_tokens=False).input_ids != ids
    assert [token.span for token in text.decode_tokens(FALLBACK, ids, output=output)] == spelled(ids, output)


@pytest.mark.parametrize("cut", [1, 2])
def test_an_output_that_ends_inside_a_character_has_a_sign_for_each_byte(cut):
    ids = FALLBACK("曲项向天歌", add_special_tokens=False).input_ids[1:-cut]
    output = FALLBACK.decode(ids)
    assert output == "\ufffd" * len(ids)  # so does the decoder: it gives up the whole run
    assert [token.span for token in text.decode_tokens(FALLBACK, ids, output=output)] == [
        (at, at + 1) for at in range(len(ids))]


@pytest.mark.parametrize(("typed", "expected"), [
    ("cafe\u0301", [(0, 1), (1, 2), (2, 3), (3, 5)]), ("我e\u0301吃", [(0, 1), (1, 3), (3, 4)]),
    ("e\u0301" * 3, [(0, 2), (2, 4), (4, 6)]), ("苹\u0301果", [(0, 1), (1, 2), (2, 3)]),
    ("a\u0308\u0323b", [(0, 2), (2, 3), (3, 4)]),
])
def test_a_mark_that_no_token_covers_belongs_to_its_letter(typed, expected):
    """zh-en's normaliser makes é of e and its mark, and its offsets forget the mark."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(oracle.ASSETS / "zh-en")
    tokens = [token for token in text.tokenise(tokenizer, typed).tokens if not token.special]
    assert [token.span for token in tokens] == expected
    assert [at for span in expected for at in range(*span)] == list(range(len(typed)))
    if typed == "cafe\u0301":
        assert [token.flag for token in tokens] == ["fallback"] * 3 + ["unknown"]


def test_a_normaliser_that_drops_marks_leaves_them_with_their_letters():
    tokens = text.tokenise(word_piece(), "i\u0301 like pea\u0301r").tokens
    assert [token.span for token in tokens] == [None, (0, 2), (3, 7), (8, 13), None]
