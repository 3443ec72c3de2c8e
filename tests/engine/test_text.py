"""Text to tokens and back, on tiny tokenizers of each kind built here.

Oracles: the tokenizer's own ids through transformers' own switch, and
invariants that hold for any text (rising spans, nothing invisible on show).
"""

from __future__ import annotations

import random
import threading
import unicodedata

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from engine import errors, text

SENTENCES = ["I like apples and pears", "we like them too, don't we", "a pear is not an apple"] * 3
LIMIT = 20_000


def byte_level(*, trim_offsets: bool = True) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    backend.train_from_iterator(SENTENCES, trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>", unk_token="<|endoftext|>")


def byte_fallback() -> PreTrainedTokenizerFast:
    entries = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Ilikeaps", "li", "lik", "like",
               "▁like", "▁I", "▁a"]
    vocabulary = {entry: at for at, entry in enumerate(dict.fromkeys(entries))}
    merges = [("l", "i"), ("li", "k"), ("lik", "e"), ("▁", "like"), ("▁", "I"), ("▁", "a")]
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(["<unk>", "<s>"])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>")


def unigram() -> PreTrainedTokenizerFast:
    words = {"我": -3.0, "喜欢": -4.0, "吃": -4.0, "苹果": -5.0, "▁": -3.0, "▁apple": -5.0, "can": -6.0}
    letters = dict.fromkeys("abcdexyzfil", -8.0)
    rare = dict.fromkeys("鲸蜥龘奶", -12.5)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *(words | letters | rare).items()]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def word_piece() -> PreTrainedTokenizerFast:
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "like", "app", "##les", "pear", "##s", "我", "[", "]",
               "mask", "cls", "."]
    backend = Tokenizer(models.WordPiece({entry: at for at, entry in enumerate(entries)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True, special=True)])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]")


TOKENIZERS = {
    "byte-level": byte_level(), "byte-level, untrimmed": byte_level(trim_offsets=False),
    "byte fallback": byte_fallback(), "unigram": unigram(), "word piece": word_piece(),
}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def shown(tokenised: text.Tokenised) -> list[str]:
    return [token.text for token in tokenised.tokens]


# --- prepare ---------------------------------------------------------------------------------------------------------


def test_prepare_leaves_ordinary_text_as_typed():
    for typed in (" I like\tapples.\n", "我喜欢吃苹果", "ﬁ ① é", "👨\u200d👩\u200d👧 ❤️", "</s>"):
        assert text.prepare(typed, limit=100, what="text") == (typed, ())


def test_prepare_counts_characters_before_anything_else():
    with pytest.raises(errors.TextTooLong) as caught:
        text.prepare("\ud800" * 11, limit=10, what="target")
    assert caught.value.code == "too_many_characters"
    assert caught.value.numbers == {"limit": 10, "length": 11, "what": "target"}
    assert text.prepare("a" * 10, limit=10, what="text")[0] == "a" * 10


def test_prepare_replaces_lone_surrogates_and_says_so():
    assert text.prepare("a\ud83d b\udc00", limit=10, what="text") == ("a\ufffd b\ufffd", ("surrogates_replaced",))


@pytest.mark.parametrize("typed", ["", " \n\t", "\u3000", "\u200b\ufeff", "\x00"])
def test_prepare_refuses_blank_text(typed):
    with pytest.raises(errors.InvalidPrompt) as caught:
        text.prepare(typed, limit=10, what="text")
    assert caught.value.code == "empty_text"


@pytest.mark.parametrize("typed", ["\ue000", "\U0010ffff", "\ufffe", "\u0378", "\ud800", " \ue000 "])
def test_prepare_takes_what_is_shown_though_it_has_no_picture(typed):
    prepared, notes = text.prepare(typed, limit=10, what="text")
    assert prepared == typed.replace("\ud800", "\ufffd") and len(notes) == 1
    assert text.visible(prepared).strip()


@pytest.mark.parametrize("typed", [None, 3, b"bytes", ["a"]])
def test_prepare_refuses_what_is_not_text(typed):
    with pytest.raises(errors.InvalidPrompt) as caught:
        text.prepare(typed, limit=10, what="text")
    assert caught.value.code == "not_text"


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x85", "\u200b", "\u200e", "\u202e", "\u2066", "\ufeff",
                                  "\u00ad", "\u200d", "\ue000", "\u2028", "\u3164"])
def test_prepare_notes_invisible_characters(char):
    assert text.prepare(f"a{char}b", limit=10, what="text") == (f"a{char}b", ("invisible_characters",))


# --- visible ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "expected"), [
    ("apple", "apple"), ("a b", "a b"), ("\x00\t\n\x7f", "␀␉␊␡"), ("a\u200bb", "a⟨ZWSP⟩b"), ("\ufeff", "⟨BOM⟩"),
    ("\u202eabc", "⟨RLO⟩abc"), ("\u00ad", "⟨SHY⟩"), ("\x85", "⟨U+0085⟩"), ("\ue000", "⟨U+E000⟩"),
    ("\ud800", "⟨U+D800⟩"), ("\u0301", "◌\u0301"), ("e\u0301", "e\u0301"), ("\u200b\u0301", "⟨ZWSP⟩◌\u0301"),
    ("\u0e35", "◌\u0e35"), ("مرحبا", "\u2068مرحبا\u2069"), ("a שלום b", "a \u2068שלום\u2069 b"),
    ("שלום, עולם!", "\u2068שלום, עולם\u2069!"), ("א1b", "\u2068א\u20691b"),
])
def test_visible_shows_what_hides(typed, expected):
    assert text.visible(typed) == expected


# --- tokenise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["byte-level", "byte-level, untrimmed"])
def test_byte_level_tokens_show_characters_without_their_space(name):
    result = text.tokenise(TOKENIZERS[name], "I like  喜😀\n")
    assert shown(result) == ["I", "like", "␣", "␣", *(f"喜·{k}/3" for k in (1, 2, 3)),
                             *(f"😀·{k}/4" for k in (1, 2, 3, 4)), "␊"]
    assert [token.span for token in result.tokens] == [
        (0, 1), (2, 6), (6, 7), (7, 8), *[(8, 9)] * 3, *[(9, 10)] * 4, (10, 11)]


def test_byte_fallback_tokens_are_fragments_of_their_character():
    result = text.tokenise(TOKENIZERS["byte fallback"], "I 喜 a")
    assert shown(result) == ["<s>", "I", "␣", "喜·1/3", "喜·2/3", "喜·3/3", "a"]
    assert result.tokens[0].special and result.tokens[0].span is None
    assert not any(token.special or token.flag for token in result.tokens[1:])


def test_an_expanded_character_is_shown_in_parts():
    assert shown(text.tokenise(TOKENIZERS["unigram"], "喜欢ﬁ"))[-3:] == ["ﬁ·1/2", "ﬁ·2/2", "</s>"]


def test_a_word_marker_of_no_character_has_no_span():
    result = text.tokenise(TOKENIZERS["unigram"], "我吃 apple")
    assert [(token.text, token.span) for token in result.tokens] == [
        ("␣", None), ("我", (0, 1)), ("吃", (1, 2)), ("apple", (3, 8)), ("</s>", None)]


@every_tokenizer
def test_typed_special_tokens_stay_text(tokenizer):
    for literal in tokenizer.all_special_tokens:
        if literal == tokenizer.mask_token:
            continue
        typed = f"a {literal} b"
        result = text.tokenise(tokenizer, typed)
        assert result.notes == ("special_tokens_as_text",)
        inside = [token for token in result.tokens if not token.special]
        unknown = {tokenizer.unk_token_id} if tokenizer.unk_token_id is not None else set()
        assert not ({token.id for token in inside} & set(tokenizer.all_special_ids)) - unknown
        if literal != tokenizer.unk_token:
            assert any(token.span and token.span[0] < 2 + len(literal) and token.span[1] > 2 for token in inside)
    assert text.tokenise(tokenizer, "a b").notes == ()


def test_a_typed_mask_is_a_mask():
    tokenizer = TOKENIZERS["word piece"]
    result = text.tokenise(tokenizer, "I like [MASK].")
    assert shown(result) == ["[CLS]", "I", "like", "[MASK]", ".", "[SEP]"]
    mask = result.tokens[3]
    assert (mask.id, mask.special, mask.span, mask.flag) == (tokenizer.mask_token_id, False, (7, 13), "")
    assert result.notes == ()


def test_a_mask_beside_another_special_token_is_text_like_it():
    result = text.tokenise(TOKENIZERS["word piece"], "[CLS] like [MASK]")
    assert result.notes == ("special_tokens_as_text",)
    assert TOKENIZERS["word piece"].mask_token_id not in result.ids
    assert shown(result)[1:-1] == ["[", "CLS", "]", "like", "[", "MASK", "]"]


def test_unknown_and_fallback_are_flagged():
    flags = {token.text: token.flag for token in text.tokenise(TOKENIZERS["unigram"], "我喜欢鲸鱼 xyz can").tokens}
    assert flags == {"␣": "", "我": "", "喜欢": "", "鲸": "fallback", "鱼": "unknown", "x": "fallback", "y": "fallback",
                     "z": "fallback", "can": "", "</s>": ""}
    flags = {token.text: token.flag for token in text.tokenise(TOKENIZERS["word piece"], "I like 鲸").tokens}
    assert flags["鲸"] == "unknown" and flags["like"] == ""


def test_a_word_is_no_fallback_while_one_piece_has_two_letters():
    result = text.tokenise(TOKENIZERS["unigram"], "canx a")
    assert [token.flag for token in result.tokens if token.text in ("can", "x", "a")] == ["", "", ""]


def test_truncation_and_padding_of_the_tokenizer_do_not_apply():
    tokenizer = unigram()
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=30, pad_id=0, pad_token="<pad>")
    assert shown(text.tokenise(tokenizer, "我喜欢吃苹果")) == ["␣", "我", "喜欢", "吃", "苹果", "</s>"]
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 2, "the tokenizer itself must not change"
    assert tokenizer.backend_tokenizer.encode_special_tokens is False


def test_a_switched_template_is_noticed():
    tokenizer = unigram()
    text.tokenise(tokenizer, "我")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A", special_tokens=[("<pad>", 0)])
    assert shown(text.tokenise(tokenizer, "我")) == ["<pad>", "␣", "我"]


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(errors.ModelRefused) as caught:
        text.tokenise(Slow(), "a")
    assert caught.value.code == "slow_tokenizer"


def test_threads_do_not_meet_in_the_tokenizers_settings():
    tokenizer = word_piece()
    expected = {typed: text.tokenise(tokenizer, typed).ids for typed in ("like [MASK]", "[CLS] [MASK]", "like me")}
    wrong = []

    def work():
        for _ in range(150):
            wrong.extend(typed for typed, ids in expected.items() if text.tokenise(tokenizer, typed).ids != ids)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for at in range(300):  # what another part of the program may do with the same tokenizer meanwhile
        tokenizer("[CLS] a [MASK]", split_special_tokens=bool(at % 2))
    for thread in threads:
        thread.join()
    assert wrong == []


# --- any text --------------------------------------------------------------------------------------------------------

_ALPHABETS = (
    "abcXYZ ,.'’-", "  \t\n\u00a0\u3000", "我喜欢吃苹果鲸龘，。", "👨\u200d👩\u200d👧❤️🏴\U000e0067\U000e007f😀🏽",
    "مرحبا بالعالم ١٢", "שלום\u0591", "ภาษาไทยที่", "e\u0301\u0308\u20dd", "\x00\x01\x1b\x7f\x85",
    "\u200b\u200c\u200e\u202e\u2066\u2069\ufeff\u00ad", "\ud800\udfff", "ﬁ①½Ⅷ㍿ﷺ", "\ue000\U0010fffe",
    ("<s>", "</s>", "[MASK]", "[CLS]", "<|endoftext|>", "<unk>", "[UNK]"), "▁Ġ##<0xE5>", "한국어", "हिन्दी",
)


def _fuzz(seed: int) -> str:
    chance = random.Random(seed)
    kinds = chance.sample(_ALPHABETS, chance.randint(1, 5))
    return "".join(chance.choice(chance.choice(kinds)) for _ in range(chance.randint(1, 60)))


def _fuzz_texts():
    for seed in range(250):
        raw = _fuzz(seed)
        try:
            yield text.prepare(raw, limit=LIMIT, what="text")[0]
        except errors.InvalidPrompt:
            continue  # blanks only; the refusal has its own tests
    yield "我喜欢吃苹果 " * 1_428
    yield "\u0301" * 500
    yield "a" * 10_000


def _check_display(label: str) -> None:
    depth = 0
    for char in label:
        if char in "\u2068\u2069":
            depth += 1 if char == "\u2068" else -1
            assert depth in (0, 1), f"unbalanced isolate in {label!r}"
        else:
            assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), f"{label!r}"
    assert depth == 0 and label, f"{label!r}"


def _check_tokens(tokens, source: str) -> None:
    starts = [token.span[0] for token in tokens if token.span]
    assert starts == sorted(starts)
    for token in tokens:
        _check_display(token.text)
        if token.span is not None:
            start, end = token.span
            assert 0 <= start < end <= len(source)
            covered = source[start:end]
            assert covered == covered.strip() or covered.isspace()


@every_tokenizer
def test_any_text_keeps_ids_spans_and_nothing_hidden(tokenizer):
    for source in _fuzz_texts():
        result = text.tokenise(tokenizer, source)
        mask_only = bool(tokenizer.mask_token and tokenizer.mask_token in source and not result.notes)
        if not result.notes:
            assert list(result.ids) == tokenizer(source, split_special_tokens=not mask_only)["input_ids"]
        typed_ids = {token.id for token in result.tokens if not token.special}
        assert not typed_ids & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, tokenizer.mask_token_id})
        assert [token.id for token in result.tokens] == list(result.ids)
        _check_tokens(result.tokens, source)


@every_tokenizer
def test_every_visible_character_of_known_text_is_covered(tokenizer):
    source = "I like a pear."
    covered = {at for token in text.tokenise(tokenizer, source).tokens if token.span for at in range(*token.span)}
    assert {at for at, char in enumerate(source) if not char.isspace()} <= covered


# --- output ids ------------------------------------------------------------------------------------------------------


@every_tokenizer
def test_output_that_tokenises_to_its_ids_has_the_texts_spans(tokenizer):
    source = "I like a pear."
    ids = tokenizer(source)["input_ids"]
    output = tokenizer.decode(ids, skip_special_tokens=True)
    tokens = text.decode_tokens(tokenizer, ids, output=output)
    assert [token.id for token in tokens] == ids
    assert [token.special for token in tokens] == [token.special for token in text.tokenise(tokenizer, source).tokens]
    _check_tokens(tokens, output)
    if output == source:
        assert [(token.text, token.span) for token in tokens] == [
            (token.text, token.span) for token in text.tokenise(tokenizer, source).tokens]


def test_output_that_never_was_a_text_is_aligned_step_by_step():
    tokenizer = TOKENIZERS["byte-level"]
    one_by_one = [id_ for char in " like 喜" for id_ in tokenizer(char)["input_ids"]]
    output = tokenizer.decode(one_by_one)
    tokens = text.decode_tokens(tokenizer, one_by_one, output=output)
    assert tokenizer(output)["input_ids"] != one_by_one, "the text must not give these ids back"
    assert [token.text for token in tokens] == ["␣", "l", "i", "k", "e", "␣", "喜·1/3", "喜·2/3", "喜·3/3"]
    assert [token.span for token in tokens] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), *[(6, 7)] * 3]


def test_output_tokens_align_where_the_decoder_strips_and_inserts_spaces():
    tokenizer = TOKENIZERS["word piece"]
    ids = [tokenizer.convert_tokens_to_ids(entry) for entry in ("[CLS]", "app", "##les", "##s", "like", "i", "[SEP]")]
    output = tokenizer.decode(ids, skip_special_tokens=True)
    tokens = text.decode_tokens(tokenizer, ids, output=output)
    assert output == "appless like i"
    assert [(token.text, token.span) for token in tokens] == [
        ("[CLS]", None), ("app", (0, 3)), ("les", (3, 6)), ("s", (6, 7)), ("like", (8, 12)), ("i", (13, 14)),
        ("[SEP]", None)]


@every_tokenizer
def test_any_ids_and_any_output_give_a_token_each(tokenizer):
    chance = random.Random(7)
    for _ in range(150):
        ids = [chance.randrange(len(tokenizer) + 5) for _ in range(chance.randint(0, 30))]
        output = tokenizer.decode(ids, skip_special_tokens=True)
        for claimed in (output, "", output[: len(output) // 2], "something else"):
            tokens = text.decode_tokens(tokenizer, ids, output=claimed)
            assert [token.id for token in tokens] == ids
            _check_tokens(tokens, claimed)


def test_an_unknown_token_in_the_output_is_flagged_not_special():
    tokens = text.decode_tokens(TOKENIZERS["unigram"], [0, 3, 2, 1], output="我")
    assert [(token.text, token.special, token.flag) for token in tokens] == [
        ("<pad>", True, ""), ("我", False, ""), ("<unk>", False, "unknown"), ("</s>", True, "")]


def test_an_id_beyond_the_vocabulary_is_named_by_number():
    tokens = text.decode_tokens(TOKENIZERS["unigram"], [3, 99_999], output="我")
    assert [(token.text, token.span) for token in tokens] == [("我", (0, 1)), ("⟨99999⟩", None)]
