"""Which row is which word, what the model writes, and text that means harm.

Rows of `decoder` and `cross` carry the token they predict; the consumed one is
a step before. The oracle is transformers' own tokenizer and generation.
"""

from __future__ import annotations

import pytest
import transformers

from engine import LocalEngine, Prompt, errors
from engine.limits import DEFAULT
from tests.engine import oracle, tiny
from tests.engine.bounds import BRIEF

TEXT = "我喜欢吃苹果, the apple."
SEQ2SEQ = ("zh-en", *oracle.ENCODER_DECODERS)
CAUSAL = oracle.DECODERS


def ids(tokens) -> list[int]:
    return [token.id for token in tokens]


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_decoder_rows_predict_what_generation_wrote_and_read_the_token_before(engine, oracles, name):
    of = oracles(name)
    written = of.generate(TEXT, new_tokens=BRIEF.new_tokens_target)
    trace = engine.trace(Prompt(name, TEXT))
    decoder, cross = trace.tokens("decoder"), trace.tokens("cross")
    assert ids(decoder.query) == ids(cross.query) == written[1:]
    assert ids(decoder.consumed) == ids(cross.consumed) == ids(decoder.key) == written[:-1]
    assert ids(decoder.consumed)[1:] == ids(decoder.query)[:-1]
    assert decoder.consumed[0].id == of.model.config.decoder_start_token_id
    assert ids(cross.key) == ids(trace.tokens("encoder").key) == of.tokenizer(TEXT).input_ids
    assert trace.output == of.tokenizer.decode(written, skip_special_tokens=True).strip()
    assert trace.output_complete == (len(written) - 1 < BRIEF.new_tokens_target)
    assert not trace.output_is_given


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_the_row_labelled_with_a_token_is_the_one_that_predicts_it(engine, oracles, name):
    """Teacher-forced, greedy models repeat themselves: row i's likeliest token is row i's label."""
    of = oracles(name)
    beams = of.model.generation_config.num_beams
    trace = engine.trace(Prompt(name, TEXT))
    tokens = trace.tokens("decoder")
    logits = of.maps(TEXT, written=[tokens.consumed[0].id, *ids(tokens.query)]).logits
    agree = sum(int(row.argmax()) == id_ for row, id_ in zip(logits, ids(tokens.query), strict=True))
    if beams in (None, 1):
        # The last one may be an end that the model was forced to write at the limit.
        assert agree >= len(logits) - 1
    else:  # beams may pass by a likeliest token now and then
        assert agree >= 0.6 * len(logits)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_a_given_target_is_read_one_step_late_and_not_generated(engine, oracles, name, monkeypatch):
    of = oracles(name)
    monkeypatch.setattr("transformers.generation.GenerationMixin.generate", None)  # calling it would fail
    target = "I eat."
    trace = engine.trace(Prompt(name, TEXT, target=target))
    decoder = trace.tokens("decoder")
    wanted = of.tokenizer(target).input_ids
    assert ids(decoder.query) == wanted
    assert ids(decoder.consumed) == [of.model.config.decoder_start_token_id, *wanted[:-1]]
    assert (trace.output, trace.output_is_given, trace.output_complete) == (target, True, True)
    visible = [token for token in decoder.query if not token.special and token.span is not None]
    assert "".join(target[start:end] for start, end in (t.span for t in visible)).replace(" ", "") == "Ieat."


@pytest.mark.parametrize("name", CAUSAL)
def test_a_decoder_only_models_last_row_is_the_continuations_first_token(engine, oracles, name):
    of = oracles(name)
    continuation = of.generate(TEXT, new_tokens=BRIEF.new_tokens_decoder)
    trace = engine.trace(Prompt(name, TEXT))
    decoder = trace.tokens("decoder")
    read = of.tokenizer(TEXT).input_ids
    assert trace.streams == ("decoder",)
    assert ids(decoder.consumed) == ids(decoder.key) == read
    assert ids(decoder.query) == [*read[1:], continuation[0]]
    assert trace.output == of.tokenizer.decode(continuation, skip_special_tokens=True)
    assert trace.output_complete == (len(continuation) < BRIEF.new_tokens_decoder or continuation[-1] == tiny.EOS)
    assert decoder.query[-1].span is None  # it stands in no character of the text


@pytest.mark.parametrize("name", oracle.ENCODERS)
def test_an_encoders_rows_are_its_tokens(engine, oracles, name):
    trace = engine.trace(Prompt(name, TEXT))
    encoder = trace.tokens("encoder")
    assert trace.streams == ("encoder",) and trace.family == "encoder-only"
    assert encoder.query == encoder.key == encoder.consumed
    assert ids(encoder.query) == oracles(name).tokenizer(TEXT).input_ids
    assert trace.output == ""


def test_an_encoder_fills_its_masks_as_its_logits_say(engine, oracles):
    of = oracles("bert")
    text = "我喜欢<mask>苹果"
    place = of.tokenizer(text).input_ids.index(tiny.MASK)
    best = int(of.maps(text).logits[place].argmax())
    trace = engine.trace(Prompt("bert", text))
    assert trace.output == "我喜欢" + of.tokenizer.decode([best]).strip() + "苹果"


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_target_is_refused_where_there_is_none_to_take(engine, name):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.trace(Prompt(name, TEXT, target="x"))
    assert refusal.value.code == "target_not_taken"


def test_words_cover_the_rows_that_they_name(engine):
    for name in ("zh-en", "gpt2", "bert"):
        trace = engine.trace(Prompt(name, TEXT))
        for stream in trace.streams:
            tokens = trace.tokens(stream)
            for words, axis in ((tokens.query_words, tokens.query), (tokens.key_words, tokens.key)):
                assert [at for word in words for at in range(word.start, word.end)] == list(range(len(axis)))


# --- the ends of what fits -------------------------------------------------------------------------------------------


def test_a_full_context_still_labels_its_last_row(engine, oracles):
    of = oracles("gpt2")
    text = "a" * 256  # n_positions
    trace = engine.trace(Prompt("gpt2", text))
    assert trace.output == "" and not trace.output_complete
    reference = of.maps(text)
    assert trace.tokens("decoder").query[-1].id == int(reference.logits[-1].argmax())
    nearly = engine.trace(Prompt("gpt2", "a" * 254))
    written = of.generate("a" * 254, new_tokens=2)
    assert nearly.output == of.tokenizer.decode(written, skip_special_tokens=True)


@pytest.mark.parametrize("name", [n for n in oracle.SHOWN if n != "t5"])
def test_a_text_beyond_the_context_is_refused_by_its_length(engine, oracles, name):
    text = "ab" * 128 + "c"
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.trace(Prompt(name, text))
    assert refusal.value.code == "too_many_tokens"
    assert refusal.value.numbers["limit"] == 256
    assert refusal.value.numbers["length"] == len(oracles(name).tokenizer(text).input_ids)


def test_t5_has_no_context_but_the_engine_has_a_limit(folder):
    engine = LocalEngine(folder=folder, device="cpu", bounds=DEFAULT.__class__(tokens=300))
    assert len(engine.trace(Prompt("t5", "a" * 299, target="x")).tokens("encoder").key) == 300
    with pytest.raises(errors.TextTooLong):
        engine.trace(Prompt("t5", "a" * 300, target="x"))
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.trace(Prompt("t5", "a", target="x" * 300))
    assert refusal.value.numbers["what"] == "target"


def test_a_position_table_with_a_reserved_head_ends_earlier(tmp_path):
    """RoBERTa counts positions from pad_token_id + 1: of 40 places it has 38 for tokens (pad is 1)."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(
        vocab_size=tiny.D_VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=40, pad_token_id=1))
    model.save_pretrained(tmp_path / "roberta")
    tiny.tokenizer("<s> $A </s>").save_pretrained(tmp_path / "roberta")
    engine = LocalEngine(folder=tmp_path, device="cpu")
    assert len(engine.trace(Prompt("roberta", "a" * 36)).tokens("encoder").key) == 38
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.trace(Prompt("roberta", "a" * 37))
    assert refusal.value.numbers["limit"] == 38


# --- text that means harm --------------------------------------------------------------------------------------------

HOSTILE = {
    "end of sequence": "我喜欢</s>苹果",
    "all specials": "<s></s><pad><unk>a",
    "script": "<script>alert(1)</script>",
    "lone surrogate": "a\ud800b",
    "zwj emoji": "我👨‍👩‍👧‍👦吃",
    "right to left": "שלום \u202eabc\u202c عالم",
    "nul and controls": "a\x00b\x07c\x1b[31m",
    "zero width": "a\u200bb\ufeffc",
    "combining": "e\u0301\u0301\u0301a",
    "newlines": "a\n\nb\r\nc\td",
}


@pytest.mark.parametrize("name", ["zh-en", "gpt2", "bert", "t5"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_text(engine, name, text):
    trace = engine.trace(Prompt(name, text))
    stream = trace.streams[0]
    tokens = trace.tokens(stream).key
    pattern = engine.patterns(Prompt(name, text), stream)
    assert pattern.shape[2:] == (len(tokens), len(tokens))
    assert abs(pattern.sum(-1) - 1).max() < 1e-5
    assert len(trace.source_text) == len(text)
    for token in tokens:
        assert token.special == (token.span is None) or token.span is None
        if token.span is not None:
            assert 0 <= token.span[0] < token.span[1] <= len(text)
        token.text.encode("utf-8")  # no surrogate is left
        assert token.text.strip("\u2068\u2069").isprintable()  # isolates keep a right-to-left label to itself


@pytest.mark.parametrize("name", ["zh-en", "bert", "t5", "gpt2"])
def test_a_typed_special_token_is_no_special_token(engine, oracles, name):
    text = "我喜欢</s>苹果"
    trace = engine.trace(Prompt(name, text))
    typed = [t for t in trace.tokens(trace.streams[0]).key if t.span is not None]
    assert not any(t.special for t in typed)
    assert oracles(name).tokenizer.eos_token_id not in ids(typed)
    assert "special_tokens_as_text" in trace.notes
    plain = engine.trace(Prompt(name, "我喜欢苹果"))
    assert "special_tokens_as_text" not in plain.notes
    eos = oracles(name).tokenizer.eos_token_id
    assert (ids(trace.tokens(trace.streams[0]).key).count(eos)
            == ids(plain.tokens(plain.streams[0]).key).count(eos))


def test_a_lone_surrogate_is_replaced_and_said(engine):
    trace = engine.trace(Prompt("gpt2", "a\ud800b"))
    assert trace.source_text == "a\ufffdb" and "surrogates_replaced" in trace.notes
    assert trace.prompt.text == "a\ud800b"


@pytest.mark.parametrize("field", ["text", "target"])
def test_ten_thousand_characters_are_refused_before_anything_is_loaded(folder, monkeypatch, field):
    engine = LocalEngine(assets=oracle.ASSETS, folder=folder, device="cpu")
    for path in ("engine.text.tokenise", "engine.run.text.tokenise", "engine.loading.load"):
        monkeypatch.setattr(path, None)  # calling it would fail
    prompt = Prompt("marian", **({"text": "a", field: "x" * 10_000}))
    with pytest.raises(errors.TextTooLong) as refusal:
        engine.trace(prompt)
    assert refusal.value.code == "too_many_characters"
    assert (refusal.value.numbers["length"], refusal.value.numbers["limit"]) == (10_000, 8_000)
    assert engine._slots == {}


@pytest.mark.parametrize("text", ["", "   ", "\u200b\u200b", "\n\t"])
def test_nothing_typed_is_refused(engine, text):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.trace(Prompt("gpt2", text))
    assert refusal.value.code == "empty_text"


def test_a_text_of_which_no_token_is_left_is_refused(tmp_path):
    """A tokenizer may drop characters; what is left of them can't be run."""
    import tokenizers

    folder = tiny.save("gpt2", tmp_path / "gpt2")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = tokenizers.normalizers.Replace("苹", "")
    tokenizer.save(str(folder / "tokenizer.json"))
    engine = LocalEngine(folder=tmp_path, device="cpu")
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.trace(Prompt("gpt2", "苹"))
    assert refusal.value.code == "empty_text"


@pytest.mark.parametrize("model", ["../zh-en", "/etc", "a\\b", "", "zh-en\x00", "no-such-model", None, 3])
def test_a_model_name_that_is_none_is_refused_plainly(engine, model):
    with pytest.raises((errors.InvalidPrompt, errors.ModelNotFound)):
        engine.trace(Prompt(model, "a"))


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["a"]])
def test_text_that_is_no_text_is_refused_plainly(engine, text):
    with pytest.raises(errors.InvalidPrompt) as refusal:
        engine.trace(Prompt("gpt2", text))
    assert refusal.value.code == "not_text"


def test_a_model_with_layers_without_attention_says_so(tmp_path, engine):
    config = transformers.JambaConfig(
        vocab_size=tiny.D_VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, num_experts=1, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1,
        mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False, pad_token_id=tiny.PAD, bos_token_id=tiny.BOS,
        eos_token_id=tiny.EOS)
    transformers.JambaForCausalLM(config).save_pretrained(tmp_path / "jamba")
    tiny.tokenizer("$A").save_pretrained(tmp_path / "jamba")
    found = LocalEngine(folder=tmp_path, device="cpu").trace(Prompt("jamba", "the apple"))
    assert found.shape == ((2, 4),) and found.notes == ("layers_without_attention",)
    assert "layers_without_attention" not in engine.trace(Prompt("gpt2", "the apple")).notes
