"""How a head treats an offset in any sentence: its patterns over a reference corpus, computed once per model.

A previous-token head gives the word before it nearly everything, always; that
is no evidence about two words. So the mass from A to B is ranked among the
same head's masses at the same offset in some two hundred everyday sentences
(`assets/corpus`). The patterns are kept whole, in half precision, so that any
width of A and B and any offset can be asked; on disk they are named by a hash
of the weights, of the sentences as this tokenizer reads them, and of the format.

Encoder-only models are asked with A masked, so here every token is masked in
turn, and its row is taken from that run. It does not know which words a
question is about, and it compares positions, not grammar.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine import attention, budget, edits, errors, run, summaries, text
from engine.evidence import corpus as corpora
from engine.evidence.corpus import Corpus
from engine.limits import Limits
from engine.run import Live, Report
from engine.types import Progress, Stream, Token

#: Changes with what the file holds, so that an older one is not read.
FORMAT = 1
#: What the patterns of one stream may take; a model with many heads is measured on fewer sentences.
REFERENCE_BYTES = 64 * 2**20
#: Most runs for an encoder-only model, which needs one for every token masked.
REFERENCE_RUNS = 2_000
#: Fewer windows than these make no distribution: offsets beside the one asked for are then pooled with it.
MIN_WINDOWS = 200
#: Tokens that an encoder–decoder may write for a reference sentence.
NEW_TOKENS = 48
#: References, and corpora, kept in memory.
KEPT = 4
_STATES = ("patterns", "visible", "rows", "columns", "shape")

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")


def cache_folder() -> Path:
    """Where references are kept: ATTENTION_CACHE, else ~/.cache/attention-microscope/references."""
    return Path(os.environ.get("ATTENTION_CACHE") or Path.home() / ".cache" / "attention-microscope" / "references")


#: Kinds of key, which heads treat differently; a key is compared with its own kind. "first" is a decoder's first token.
KINDS = ("special", "word", "punctuation", "first")


def kinds(tokens: Sequence[Token], *, stream: Stream) -> np.ndarray:
    """The kind of each key, (k_len,) int8, an index into KINDS."""
    sink = summaries.sink_keys(tokens, stream=stream)
    special = np.array([token.special for token in tokens], bool)
    result = np.where(special, 0, np.where(sink, 2, 1))
    if stream == "decoder" and len(tokens) and not special[0]:
        result[0] = 3
    return result.astype(np.int8)


@dataclass(frozen=True, eq=False)
class Reference:
    """One stream's patterns over the reference corpus, padded to its longest sentence.

    Attributes:
        patterns: (n_sentences, q_len, k_len, n_layers · n_heads) float16.
        visible: (n_sentences, q_len, n_layers) int16, how many keys the row sees; 0 beyond the sentence.
        rows: (n_sentences, q_len) bool, rows of words: not special, no punctuation.
        columns: (n_sentences, k_len) int8, what the key is, an index into KINDS; 0 beyond the sentence.
        shape: (n_layers, n_heads).
    """

    patterns: np.ndarray
    visible: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]

    @property
    def n_sentences(self) -> int:
        return len(self.patterns)


@dataclass(frozen=True, eq=False)
class Windows:
    """Every place in the reference where words stand as A and B do.

    Attributes:
        mass: (n_windows, n_layers, n_heads) float32, mean over rows, sum over columns.
        uniform: (n_windows, n_layers, n_heads) float32, the same if visible keys got the same.
        offsets: (first, last) offset pooled.
    """

    mass: np.ndarray
    uniform: np.ndarray
    offsets: tuple[int, int]


def windows(reference: Reference, *, n_rows: int, n_columns: int, offset: int, kind: int, stream: Stream) -> Windows:
    """The windows of `n_rows` queries and `n_columns` keys, the first key `offset` positions after the first query.

    The first key is of `kind` (an index into KINDS); none is special. Offsets on both sides are pooled, as few as
    make MIN_WINDOWS; queries and keys never overlap in self-attention.
    """
    bound = max(reference.rows.shape[1], reference.columns.shape[1])
    low, high = -bound, bound
    if stream != "cross":
        low, high = (-bound, -n_columns) if offset < 0 else (n_rows, bound)
    offset = min(max(offset, low), high)
    found, first, last = [], offset, offset
    total = 0
    for reach in range(2 * bound + 1):
        for at in {offset - reach, offset + reach}:
            if low <= at <= high:
                places = _places(reference, n_rows, n_columns, at, kind)
                total += len(places[0])
                found.append((at, places))
                first, last = min(first, at), max(last, at)
        if total >= MIN_WINDOWS:
            break
    masses = [_masses(reference, n_rows, n_columns, at, places) for at, places in found]
    mass, uniform = (np.concatenate(parts) for parts in zip(*masses, strict=True))
    return Windows(mass, uniform, (first, last))


def _places(reference: Reference, n_rows: int, n_columns: int, offset: int,
            kind: int) -> tuple[np.ndarray, np.ndarray]:
    """(sentence, first row) of every window."""
    q_len, k_len = reference.rows.shape[1], reference.columns.shape[1]
    rows = _runs(reference.rows, n_rows)
    columns = _runs(reference.columns > 0, n_columns) & (reference.columns == kind)
    starts = np.arange(q_len)
    keys = starts + offset
    inside = (keys >= 0) & (keys < k_len)
    return np.nonzero(rows & inside & columns[:, np.clip(keys, 0, k_len - 1)])


def _runs(good: np.ndarray, length: int) -> np.ndarray:
    """Where `length` good positions in a row begin."""
    result = good.copy()
    for shift in range(1, length):
        result[:, :-shift] &= good[:, shift:]
        result[:, -shift:] = False
    return result


def _masses(reference: Reference, n_rows: int, n_columns: int, offset: int,
            places: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    sentence, start = places
    n_layers, n_heads = reference.shape
    mass = np.zeros((len(sentence), n_layers * n_heads), np.float32)
    uniform = np.zeros((len(sentence), n_layers), np.float32)
    for row in range(n_rows):
        for column in range(n_columns):
            mass += reference.patterns[sentence, start + row, start + offset + column]
        uniform += n_columns / np.maximum(reference.visible[sentence, start + row], 1)
    shape = (len(sentence), n_layers, n_heads)
    return (mass / n_rows).reshape(shape), np.repeat((uniform / n_rows)[..., None], n_heads, axis=2)


class References:
    """References of the models in use: in memory, on disk, or computed.

    Args:
        folder: where they are kept on disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._references: OrderedDict[str, Reference] = OrderedDict()
        self._corpora: OrderedDict[tuple[str, str, str], Corpus] = OrderedDict()
        self._lock = threading.Lock()

    def corpus(self, live: Live, language: str) -> Corpus:
        """The sentences of a language as the model reads them."""
        key = live.name, live.revision, language
        found = self._find(self._corpora, key)
        return found or self._keep(self._corpora, key, corpora.read(live.tokenizer, language))

    def get(self, live: Live, stream: Stream, corpus: Corpus, *, report: Report, limits: Limits) -> Reference:
        """The reference of one stream; computed, with progress, where it is not kept.

        Args:
            live: the model, held by the caller.
            corpus: of `corpus`.
            report: receives Progress("reference", sentences done, of how many).
        """
        name = _name(live, stream, corpus)
        found = self._find(self._references, name)
        if found is None:
            shape = live.plan.shape[live.plan.streams.index(stream)]
            found = load(self._folder / name, shape=shape)
            if found is None:
                found = measure(live, stream, corpus.sentences, report=report, limits=limits)
                save(found, self._folder / name)
            self._keep(self._references, name, found)
        return found

    def _find(self, kept: OrderedDict[K, V], key: K) -> V | None:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
            return kept.get(key)

    def _keep(self, kept: OrderedDict[K, V], key: K, value: V) -> V:
        with self._lock:
            kept[key] = value
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return value


def measure(live: Live, stream: Stream, tokenised: Sequence[text.Tokenised], *, report: Report,
            limits: Limits) -> Reference:
    """Run the sentences and keep their patterns of `stream`.

    Raises:
        ModelRefused: none of them fits into the model's context (code "context_too_short").
    """
    n_layers, n_heads = shape = live.plan.shape[live.plan.streams.index(stream)]
    chosen = _affordable(live, tokenised, n_layers * n_heads)
    report(Progress("reference", 0, len(chosen)))
    outputs = _outputs(live, chosen, stream, report)
    items, owners = _items(live, chosen, outputs)
    q_len = max(len(written) - 1 for written in outputs) if stream == "cross" else max(len(t.ids) for t in chosen)
    k_len = max(len(each.ids) for each in chosen)
    patterns = np.zeros((len(chosen), q_len, k_len, n_layers, n_heads), np.float16)
    visible = np.zeros((len(chosen), q_len, n_layers), np.int16)

    def observe(index: int, key, call, output) -> None:
        if key[0] != stream:
            return
        sentence, row = owners[index]
        rows = slice(None, call.q_len) if row is None else slice(row, row + 1)
        taken = slice(None) if row is None else rows
        weights = attention.pattern(call, rows=taken).cpu().numpy()
        patterns[sentence, rows, :call.k_len, key[1]] = weights.transpose(1, 2, 0)
        visible[sentence, rows, key[1]] = attention.visible(call, rows=taken)[0].sum(-1).cpu().numpy()

    edits.run(live, items, limits=limits, observe=observe,
              on_done=lambda done: report(Progress("reference", done * len(chosen) // len(items), len(chosen))))
    columns = np.zeros((len(chosen), k_len), np.int8)
    rows = np.zeros((len(chosen), q_len), bool)
    for index, each in enumerate(chosen):
        columns[index, :len(each.tokens)] = kinds(each.tokens, stream=stream)
        if stream == "cross":
            written = text.decode_tokens(live.tokenizer, outputs[index][1:], output=_decode(live, outputs[index]))
            rows[index, :len(written)] = kinds(written, stream=stream) == 1
        else:
            rows[index] = np.isin(columns[index], (1, 3))
    flat = patterns.reshape(*patterns.shape[:3], -1)
    return Reference(flat, visible, rows, columns, shape)


def _affordable(live: Live, tokenised: Sequence[text.Tokenised], n_heads: int) -> list[text.Tokenised]:
    """As many sentences as the bounds allow, evenly taken of those that the model's context holds."""
    bound = budget.n_ctx(live.model.config)
    tokenised = [each for each in tokenised if not bound or len(each.ids) <= bound]
    if not tokenised:
        raise errors.ModelRefused(
            "a model whose context holds a reference sentence", got=f"{live.name} with {bound} tokens",
            next_step="Choose a model with a longer context.", code="context_too_short", model=live.name, limit=bound,
        )
    longest = max(len(each.ids) for each in tokenised)
    most = max(1, REFERENCE_BYTES // (2 * n_heads * longest * (longest + 8)))
    if live.family == "encoder-only":
        most = min(most, max(1, REFERENCE_RUNS * len(tokenised) // sum(len(each.ids) for each in tokenised)))
    most = min(most, len(tokenised))
    return [tokenised[at * len(tokenised) // most] for at in range(most)]


def _outputs(live: Live, chosen: Sequence[text.Tokenised], stream: Stream, report: Report) -> list[tuple[int, ...]]:
    """What an encoder–decoder's rows read and write, start id first; the start alone where only the encoder counts."""
    if live.family != "encoder-decoder":
        return [() for _ in chosen]
    if stream == "encoder":
        start = run.start_id(live)  # not from labels: to mBART, an id that is its padding is no label
        return [(start, start) for _ in chosen]
    outputs: list[tuple[int, ...]] = [()] * len(chosen)
    by_length: dict[int, list[int]] = {}
    for index, each in enumerate(chosen):
        by_length.setdefault(len(each.ids), []).append(index)
    done = 0
    for indices in by_length.values():
        written = run.write_batch(live, [chosen[i].ids for i in indices], limit=NEW_TOKENS, beams=1)
        for index, ids in zip(indices, written, strict=True):
            outputs[index] = ids
        done += len(indices)
        report(Progress("reference", done // 2, len(chosen)))
    return outputs


def _items(live: Live, chosen: Sequence[text.Tokenised],
           outputs: Sequence[tuple[int, ...]]) -> tuple[list[edits.Item], list[tuple[int, int | None]]]:
    """The runs, and of each the sentence and the row (None: all) that it is made for."""
    if live.family != "encoder-only":
        items = [edits.Item(each.ids, written[:-1]) for each, written in zip(chosen, outputs, strict=True)]
        return items, [(index, None) for index in range(len(chosen))]
    items, owners = [], []
    for index, each in enumerate(chosen):
        for row, token in enumerate(each.tokens):
            if not token.special:
                masked = (*each.ids[:row], live.tokenizer.mask_token_id, *each.ids[row + 1:])
                items.append(edits.Item(masked))
                owners.append((index, row))
    return items, owners


def _decode(live: Live, ids: Sequence[int]) -> str:
    return live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def _name(live: Live, stream: str, corpus: Corpus) -> str:
    """The file's name: everything that the patterns follow from."""
    ids = [sentence.ids for sentence in corpus.sentences]
    content = repr((FORMAT, live.revision, live.dtype, stream, ids, REFERENCE_BYTES, REFERENCE_RUNS, NEW_TOKENS))
    return f"{corpus.language}-{stream}-{hashlib.sha256(content.encode()).hexdigest()[:32]}.npz"


def save(reference: Reference, path: Path) -> None:
    """Write to a temporary name, then put it in place; a folder that cannot be written to costs only the next run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **{name: np.asarray(getattr(reference, name)) for name in _STATES})
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        log.warning("The reference statistics could not be kept in %s: %s", path.parent, error)


def load(path: Path, *, shape: tuple[int, int]) -> Reference | None:
    """What `save` wrote; None where there is nothing, or nothing whole."""
    try:
        # Opened here: np.load leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            states = {name: arrays[name] for name in _STATES}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        log.warning("The reference statistics in %s are damaged and will be computed again: %s", path.name, error)
        return None
    patterns, rows, columns = states["patterns"], states["rows"], states["columns"]
    n_layers, n_heads = shape
    wanted = {
        "patterns": (len(rows), rows.shape[-1], columns.shape[-1], n_layers * n_heads),
        "visible": (len(rows), rows.shape[-1], n_layers), "columns": (len(rows), columns.shape[-1]), "shape": (2,),
    }
    if any(states[name].shape != expected for name, expected in wanted.items()) or not np.isfinite(patterns).all():
        log.warning("The reference statistics in %s do not fit and will be computed again.", path.name)
        return None
    return Reference(patterns, states["visible"], rows, columns, shape)
