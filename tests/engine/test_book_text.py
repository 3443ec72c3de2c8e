"""Books in every encoding that is read, with broken places, and files that are no texts."""

from __future__ import annotations

import codecs
import random

import pytest

from engine import book_text, errors

BOOK = "我喜欢吃苹果。\r\n" * 1000


@pytest.mark.parametrize(("content", "encoding"), [
    (BOOK.encode(), "UTF-8"), (codecs.BOM_UTF8 + BOOK.encode(), "UTF-8"), (BOOK.encode("gb18030"), "GB 18030"),
    (codecs.BOM_UTF16_LE + BOOK.encode("utf-16-le"), "UTF-16 LE"),
    (codecs.BOM_UTF16_BE + BOOK.encode("utf-16-be"), "UTF-16 BE"),
])
def test_a_whole_book_is_read_as_it_is(content, encoding):
    assert book_text.read(content, "book.txt") == book_text.Book(BOOK, encoding, 0)


@pytest.mark.parametrize(("codec", "encoding", "mark"), [
    ("utf-8", "UTF-8", b""), ("gb18030", "GB 18030", b""), ("utf-16-le", "UTF-16 LE", codecs.BOM_UTF16_LE)])
def test_a_book_cut_within_a_character_keeps_the_rest(codec, encoding, mark):
    content = mark + (BOOK + "果").encode(codec)[:-1]
    assert book_text.read(content, "book.txt") == book_text.Book(BOOK + "\ufffd", encoding, 1)


def test_a_replaced_character_of_the_books_own_is_no_broken_place():
    assert book_text.read(("\ufffd" * 9 + BOOK).encode(), "book.txt").replaced == 0


@pytest.mark.parametrize("content", [b"", b" \r\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_an_empty_file_is_said_to_be_empty(content):
    with pytest.raises(errors.InvalidPrompt) as caught:
        book_text.read(content, "book.txt")
    assert caught.value.code == "book_empty" and caught.value.numbers["file"] == "book.txt"


@pytest.mark.parametrize("content", [
    random.Random(0).randbytes(5000), codecs.BOM_UTF16_LE + random.Random(1).randbytes(5000),
    BOOK.encode("utf-16-le"), codecs.BOM_UTF32_LE + BOOK.encode("utf-32-le"), b"GIF89a\0\0" + b"a" * 5000,
    b"\x01\x02\x03abc" * 100, "déjà vu, à côté".encode("latin-1") * 100,
])
def test_what_is_no_text_is_refused(content):
    with pytest.raises(errors.InvalidPrompt) as caught:
        book_text.read(content, "book.txt")
    assert caught.value.code == "book_not_text"
