"""A private copy of a tokenizer's backend, so that no setting is shared between threads.

Whether special tokens in a text are read as such, truncation and padding are
mutable settings of the backend; two sessions that set them in turn would read
each other's. The copy is configured once and then only read.

Does not know when a tokenizer gains tokens after its first use here; only a
change of its template (a switched language) makes a new copy.
"""

from __future__ import annotations

import copy
import json
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import tokenizers

from engine import errors
from engine.glyphs import is_han, is_latin_letter

#: A lowest score is a floor, given to characters on purpose, when at least this many share it.
_FLOOR_SHARED_BY = 3


class Backend:
    """What this module needs of a tokenizer, copied once, so that its settings are nobody else's."""

    def __init__(self, tokenizer) -> None:
        self.as_text = _without_typed_specials(_configured(tokenizer.backend_tokenizer, specials_as_text=True))
        self.with_specials = (
            _configured(tokenizer.backend_tokenizer, specials_as_text=False) if tokenizer.mask_token else self.as_text
        )
        added = self.as_text.get_added_tokens_decoder()
        self.unknown_id = tokenizer.unk_token_id
        roles = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id,
                 tokenizer.sep_token_id, tokenizer.mask_token_id)
        self.specials = frozenset(token.content for token in added.values() if token.special and token.content.strip())
        self.special_ids = frozenset(
            id_ for id_, token in added.items() if token.special and (id_ != self.unknown_id or id_ in roles)
        )
        self.floor_ids = _floor_ids(self.as_text)

    def name(self, id_: int) -> str:
        """The vocabulary entry of `id_`, or its number where the vocabulary ends before it."""
        return (self.as_text.id_to_token(id_) if 0 <= id_ < 2**32 else None) or f"⟨{id_}⟩"


#: Copies of one tokenizer: in its source and in its target language.
_KEPT = 2
_BACKENDS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_BACKENDS_LOCK = threading.Lock()


def backend_of(tokenizer) -> Backend:
    """The tokenizer's copy, made at first use. Raises ModelRefused when it isn't a fast one (code "slow_tokenizer")."""
    if not getattr(tokenizer, "is_fast", False):
        raise errors.ModelRefused(
            "a fast tokenizer, which says which characters each token came from", got=type(tokenizer).__name__,
            next_step="Choose a model that ships a tokenizer.json.", code="slow_tokenizer",
            tokenizer=type(tokenizer).__name__,
        )
    processor = tokenizer.backend_tokenizer.post_processor
    # Switching a multilingual tokenizer's language swaps its post-processor, and thereby makes the copy stale.
    state = b"" if processor is None else processor.__getstate__()
    with _BACKENDS_LOCK:
        copies = _BACKENDS.setdefault(tokenizer, OrderedDict())
        if state not in copies:
            copies[state] = Backend(tokenizer)
            if len(copies) > _KEPT:
                copies.popitem(last=False)
        copies.move_to_end(state)
        return copies[state]


@contextmanager
def refusing() -> Iterator[None]:
    """Inside, a text that the tokenizers library cannot encode is its tokenizer's fault: any text has an encoding.

    Raises:
        ModelRefused: code "tokenizer_unreadable".
    """
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:  # what the library raises, such as over an unknown token that it lacks
            raise
        raise errors.ModelRefused(
            "a tokenizer that can read this text", got=errors.first_line(error),
            next_step="Put the model's own tokenizer.json into its folder.", code="tokenizer_unreadable",
            detail=errors.first_line(error),
        ) from error


@contextmanager
def as_target(tokenizer) -> Iterator[None]:
    """Switches a multilingual tokenizer to the language it writes, and back to just what it was, come what may."""
    if not hasattr(tokenizer, "_switch_to_target_mode"):
        yield
        return
    language, template = getattr(tokenizer, "tgt_lang", None), tokenizer.backend_tokenizer.post_processor
    try:
        tokenizer._switch_to_target_mode()  # sets a language where there was none
        yield
    finally:
        tokenizer._switch_to_input_mode()
        tokenizer.tgt_lang, tokenizer.backend_tokenizer.post_processor = language, template


def _configured(original: tokenizers.Tokenizer, *, specials_as_text: bool) -> tokenizers.Tokenizer:
    backend = copy.deepcopy(original)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = specials_as_text
    return backend


def _without_typed_specials(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Renames special tokens inside the model's own vocabulary, so that no text can spell one.

    `encode_special_tokens` keeps special tokens from being looked up as such,
    but a Unigram vocabulary lists `</s>` as an entry like any other, and reads
    it in a text. Ids stay; names and decoding come from the added tokens.
    """
    model = backend.model
    kind = type(model).__name__
    if kind == "BPE" and not model.ignore_merges:
        return backend  # no merge spells a special token
    specials = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    state = json.loads(model.__getstate__())
    specials.discard(state.get("unk_token"))  # looked up by name where there is one
    # A random tail, lest someone type the new name.
    renamed = {name: f"{name}\U0010ffff{secrets.token_hex(8)}" for name in specials}
    if kind == "Unigram":
        state["vocab"] = [(renamed.get(entry, entry), score) for entry, score in state["vocab"]]
    else:
        state["vocab"] = {renamed.get(entry, entry): id_ for entry, id_ in state["vocab"].items()}
    unspelled = copy.deepcopy(model)
    unspelled.__setstate__(json.dumps(state).encode())
    backend.model = unspelled
    return backend


def _floor_ids(backend: tokenizers.Tokenizer) -> frozenset[int]:
    """Characters that a Unigram vocabulary knows only as such: they share the lowest score of their kind.

    Han characters are one kind and other letters another, since a lexicon may
    give them different floors; Latin letters have none, since a single one says
    nothing (`engine.text` judges Latin words whole). A lowest score that hardly any entry has is no floor:
    trained vocabularies have a lowest score too.
    """
    if type(backend.model).__name__ != "Unigram":
        return frozenset()
    vocabulary = json.loads(backend.model.__getstate__())["vocab"]
    floors: set[int] = set()
    for of_kind in (is_han, lambda char: not is_han(char) and not is_latin_letter(char)):
        scores = {id_: score for id_, (entry, score) in enumerate(vocabulary)
                  if len(entry) == 1 and entry.isalpha() and of_kind(entry)}
        lowest = min(scores.values(), default=0.0)
        at_floor = [id_ for id_, score in scores.items() if score == lowest]
        floors.update(at_floor if len(at_floor) >= _FLOOR_SHARED_BY else ())
    return frozenset(floors)
