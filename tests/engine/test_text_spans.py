"""Spans of what is hard to trace to its characters: outputs written in bytes.

The oracle of the bytes is UTF-8: the tokens of a character are those that spell its bytes.
"""

from __future__ import annotations

import pytest

from engine import text
from tests.engine.test_text import byte_fallback

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
