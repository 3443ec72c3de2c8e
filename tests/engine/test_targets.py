"""What a given output is read as: the target language's tokens, shifted as the model's own training shifts them.

The oracle is transformers' own `tokenizer(text_target=…)` and the labels' shift in its modelling code.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from engine import LocalEngine, Prompt, backends, text
from tests.engine import tiny

LETTERS = "▁abcdefghijklmnopqrstuvwxyz.,我你喜欢吃苹果"


def mbart50() -> transformers.PreTrainedTokenizerFast:
    entries = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((char, -3.0) for char in LETTERS)]
    return transformers.MBart50Tokenizer(vocab=entries, src_lang="en_XX", tgt_lang="zh_CN")


def nllb() -> transformers.PreTrainedTokenizerFast:
    entries = {entry: at for at, entry in enumerate(("<s>", "<pad>", "</s>", "<unk>", *LETTERS))}
    return transformers.NllbTokenizer(vocab=entries, merges=[], src_lang="eng_Latn", tgt_lang="zho_Hans")


def save(folder, name: str, tokenizer, cls, config, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(config(**{**tiny._BART, "vocab_size": len(tokenizer) + 4, "pad_token_id": 1, "bos_token_id": 0,
                              "eos_token_id": 2, "forced_eos_token_id": 2, "decoder_start_token_id": 2, **sizes}))
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    made = {
        "mbart50": save(folder, "mbart50", mbart50(), transformers.MBartForConditionalGeneration,
                        transformers.MBartConfig),
        "nllb": save(folder, "nllb", nllb(), transformers.M2M100ForConditionalGeneration, transformers.M2M100Config),
    }
    return LocalEngine(folder=folder, device="cpu"), folder, made


@pytest.mark.parametrize("name", ["mbart50", "nllb"])
def test_a_given_output_is_in_the_target_language(models, name):
    engine, folder, made = models
    trace = engine.trace(Prompt(name, "abc", "我喜欢"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / name)
    labels = tokenizer(text_target="我喜欢").input_ids
    assert labels != tokenizer("我喜欢").input_ids
    if name == "nllb":
        shifted = shift_tokens_right(torch.tensor([labels]), 1, made[name].config.decoder_start_token_id)
    else:
        shifted = made[name].prepare_decoder_input_ids_from_labels(labels=torch.tensor([labels]))
    assert [token.id for token in trace.tokens("decoder").query] == labels
    assert [token.id for token in trace.tokens("decoder").consumed] == shifted[0].tolist()
    assert [token.id for token in trace.tokens("encoder").key] == tokenizer("abc").input_ids


@pytest.mark.parametrize("target_language", ["zh_CN", None])
def test_the_tokenizer_comes_back_as_it_was(monkeypatch, target_language):
    tokenizer = mbart50()
    tokenizer.tgt_lang = target_language
    before, written = tokenizer("abc").input_ids, mbart50()
    written.tgt_lang = target_language
    assert list(text.tokenise_target(tokenizer, "abc").ids) == written(text_target="abc").input_ids
    monkeypatch.setattr(text, "tokenise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        text.tokenise_target(tokenizer, "abc")
    assert tokenizer("abc").input_ids == before and tokenizer.tgt_lang == target_language


def test_switching_back_and_forth_makes_no_new_copy_each_time(monkeypatch):
    tokenizer, made, original = mbart50(), [], backends.Backend
    monkeypatch.setattr(backends, "Backend", lambda of: made.append(1) or original(of))
    for _ in range(3):
        text.tokenise(tokenizer, "abc")
        text.tokenise_target(tokenizer, "abc")
    assert len(made) == 2
