"""Characters that only spell unknown words are flagged, by the embedded model's own list."""

from __future__ import annotations

import json

import pytest

from engine import LocalEngine, Prompt, catalogue, errors, loading


def test_a_word_the_lexicon_lacks_is_flagged_and_a_known_one_is_not():
    tokens = LocalEngine(device="cpu").trace(Prompt("zh-en", "他学习量子力学，也吃苹果")).tokens("encoder").key
    flags = {token.text: token.flag for token in tokens}
    assert flags["量"] == "fallback"
    assert flags["吃"] == flags["苹果"] == flags["学习"] == ""


def test_the_shipped_list_names_single_characters():
    path = catalogue.EMBEDDED / "zh-en"
    ids = loading.fallback_ids(path)
    pieces = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert len(ids) > 100 and all(len(pieces[id_][0]) == 1 for id_ in ids)


def test_no_list_is_no_flag_and_a_broken_one_is_refused(tmp_path):
    assert loading.fallback_ids(tmp_path) == frozenset()
    (tmp_path / "lexicon.json").write_text('{"fallback_ids": [1, "2", true, 3]}')
    assert loading.fallback_ids(tmp_path) == {1, 3}
    (tmp_path / "lexicon.json").write_text("[")
    with pytest.raises(errors.ModelRefused):
        loading.fallback_ids(tmp_path)
