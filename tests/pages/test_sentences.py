"""The example sentences are complete, distinct and fit the limits."""

from __future__ import annotations

from engine import limits
from pages.widgets import language, sentences


def test_there_are_enough_for_every_family():
    assert len(sentences.examples("encoder-decoder")) >= 12
    for family in ("decoder-only", "encoder-only"):
        assert len(sentences.examples(family)) >= 3
    assert sentences.examples("") == sentences.load()


def test_the_main_job_comes_first():
    assert sentences.load()[0].text == "我喜欢吃苹果"


def test_each_is_whole_and_its_own():
    texts = [example.text for example in sentences.load()]
    assert len(set(texts)) == len(texts)
    for example in sentences.load():
        assert 0 < len(example.text) <= limits.DEFAULT.text_characters
        for spoken in language.LANGUAGES:
            assert example.look(spoken).strip() and "\n" not in example.look(spoken)
        assert example.look_zh != example.look_en
