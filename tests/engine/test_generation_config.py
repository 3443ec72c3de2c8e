"""A model's generation_config.json: what decides the text acts, what we don't run neither acts nor crashes.

The oracle is transformers' own generation from the same checkpoint with a plain generation_config.
"""

from __future__ import annotations

import functools
import json
import shutil

import pytest

from engine import LocalEngine, Prompt, errors
from engine.limits import Limits
from tests.engine import oracle

TOKENS = 16
BOUNDS = Limits(new_tokens_decoder=TOKENS, new_tokens_target=TOKENS)
TEXT = "我喜欢吃苹果, the apple."
#: Each of these crashed a run, or ended it early, when `generate` read it.
NOT_FOLLOWED = {
    "dictionary": {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4}, "DoLa": {"dola_layers": "high"},
    "constraint": {"force_words_ids": [[9]], "num_beams": 3}, "stop": {"stop_strings": ["a"]},
    "healing": {"token_healing": True}, "static": {"cache_implementation": "static"},
    "quantised": {"cache_implementation": "quantized"}, "offloaded": {"cache_implementation": "offloaded"},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "guidance": {"guidance_scale": 1.5},
    "early exit": {"assistant_early_exit": 1}, "several": {"num_beams": 4, "num_return_sequences": 3},
    "clock": {"max_time": 1e-9}, "lookup": {"prompt_lookup_num_tokens": 3},
    "chance": {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "typical_p": 0.5, "min_p": 0.1},
}
FOLLOWED = {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "suppress_tokens": [12, 13], "min_length": 12}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return oracle.save_tiny(tmp_path_factory.mktemp("plain"), ("gpt2", "bart"))


def configured(plain, folder, kind: str, fields: dict):
    shutil.copytree(plain / kind, folder / kind)
    path = folder / kind / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")
    return folder / kind


def written(folder, kind: str) -> list[int] | str:
    """What the engine let the model in `folder` write: ids, or a continuation's text."""
    trace = LocalEngine(folder=folder, device="cpu", bounds=BOUNDS).trace(Prompt(kind, TEXT))
    tokens = trace.tokens("decoder")
    return trace.output if kind == "gpt2" else [tokens.consumed[0].id, *(token.id for token in tokens.query)]


@functools.cache
def expected(path, kind: str) -> list[int] | str:
    of = oracle.Oracle(path)
    ids = of.generate(TEXT, new_tokens=TOKENS)
    return of.tokenizer.decode(ids, skip_special_tokens=True) if kind == "gpt2" else ids


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
@pytest.mark.parametrize("case", NOT_FOLLOWED)
def test_what_is_not_followed_changes_nothing(plain, tmp_path, kind, case):
    fields = NOT_FOLLOWED[case]
    beams = {"num_beams": fields["num_beams"]} if "num_beams" in fields else {}
    bare = configured(plain, tmp_path / "bare", kind, beams) if beams and kind == "bart" else plain / kind
    configured(plain, tmp_path / "fields", kind, fields)
    assert written(tmp_path / "fields", kind) == expected(bare, kind)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_what_decides_the_text_acts(plain, tmp_path, kind):
    path = configured(plain, tmp_path, kind, FOLLOWED)
    assert written(tmp_path, kind) == expected(path, kind) != expected(plain / kind, kind)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_a_setting_that_transformers_rejects_is_refused(plain, tmp_path, kind):
    configured(plain, tmp_path, kind, {"repetition_penalty": -1.0})
    with pytest.raises(errors.ModelRefused, match="strictly positive") as refusal:
        written(tmp_path, kind)
    assert refusal.value.code == "generation_config_unusable"
