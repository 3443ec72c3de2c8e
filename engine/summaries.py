"""Per-head numbers and a label for every head, from row tiles of its pattern.

Measures (`engine.types.HeadSummary`) are means over the rows that carry any
mass; a fully masked row is left out. Weights are taken as given: where a model
has a learned sink (GPT-OSS), rows sum to less than 1, and entropy is
Σ −p ln p over what the keys got.

Labels answer "what does this head do when it doesn't rest on a sink?". They
are scored on *evidence rows*, after the sink keys' columns are removed and
each row is divided by what is left of it:

    a row is evidence if   at least MIN_KEYS keys other than sinks are visible to it (with one, or
                           two, a pattern is forced or nearly so), and at least MIN_MASS of its
                           weight lies on them
    sink       mean sink mass ≥ SINK_LABEL and at least halfway from the sinks' share of a uniform
               row to 1; over the rows with MIN_KEYS visible other keys, before anything is removed
    previous   mean renormalised mass on key i − 1 ≥ DIAGONAL_LABEL
    next       likewise on key i + 1; self: likewise on key i. Of these three the largest counts,
               each over the evidence rows in which that key exists, is visible and is no sink
    local      mean renormalised mass within |i − j| ≤ LOCAL_REACH ≥ LOCAL_LABEL, over evidence rows
               with at least LOCAL_MIN_KEYS visible other keys (in fewer, nearness is no choice)
    broad      mean of the renormalised row's entropy over ln(visible other keys) ≥ BROAD_LABEL
    none       no rule holds

The first rule that holds, in that order, gives the label, and its score; for
"none" the score is the best that any rule reached. A rule with fewer than
MIN_ROWS rows scores 0. In `cross`, query and key positions don't compare: only
sink, broad and none are possible, and distance, previous and self are NaN.

Does not know content: a label says where weight goes, not why.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import torch

from engine.types import LABELS, MEASURES, HeadSummary, Token

#: Mean mass on sink keys from which a head counts as resting on them.
SINK_LABEL = 0.8
#: Mean renormalised mass on one diagonal from which it names the head.
DIAGONAL_LABEL = 0.5
#: Positions to either side that count as near, the mass on them that makes a
#: head local, and the visible keys from which nearness is a choice.
LOCAL_REACH = 2
LOCAL_LABEL = 0.6
LOCAL_MIN_KEYS = 4 * LOCAL_REACH + 2
#: Mean normalised entropy from which a head counts as broad.
BROAD_LABEL = 0.9
#: Visible non-sink keys, mass on them, and rows from which there is evidence.
MIN_KEYS = 3
MIN_MASS = 0.05
MIN_ROWS = 2

#: What a Token's text ends in when it is one of several byte fragments.
_FRAGMENT = re.compile(r"·\d+/\d+$")
_POSITIONAL = ("mean_distance", "previous_token_mass", "self_mass")
_OFFSETS = {"previous": -1, "next": 1, "self": 0}


def sink_keys(tokens: Sequence[Token], *, stream: str) -> np.ndarray:
    """Which keys are set aside as sinks: special tokens, punctuation and, in `decoder`, the first token.

    Only under a causal mask is the first token the one that every row sees,
    and so the place where mass collects (Xiao et al. 2024, arXiv:2309.17453);
    elsewhere it is a word like any other. A static rule: it looks at no pattern.

    Args:
        tokens: the keys.
        stream: "encoder", "decoder" or "cross".

    Returns:
        (k_len,) bool.
    """
    return np.array([
        (at == 0 and stream == "decoder") or token.special or _is_punctuation(token.text)
        for at, token in enumerate(tokens)
    ], dtype=bool)


def _is_punctuation(text: str) -> bool:
    characters = _FRAGMENT.sub("", text)
    return bool(characters) and all(unicodedata.category(char)[0] == "P" for char in characters)


def set_sink_aside(pattern: np.ndarray, sink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pattern without its sink keys, rows divided by what is left of them.

    Args:
        pattern: (q_len, k_len) float.
        sink: (k_len,) bool.

    Returns:
        The renormalised pattern, (q_len, k_len) float32, whose rows sum to 1, or
        to 0 where nothing is left; and the mass removed from each row, (q_len,) float32.
    """
    kept = np.where(sink, 0.0, pattern.astype(np.float64))
    left = kept.sum(1, keepdims=True)
    removed = np.where(sink, pattern, 0.0).sum(1, dtype=np.float64)
    renormalised = np.divide(kept, left, out=np.zeros_like(kept), where=left > 0)
    return renormalised.astype(np.float32), removed.astype(np.float32)


class Accumulator:
    """Sums up a layer's patterns from row tiles; nothing larger than one tile is ever held.

    Args:
        n_heads: heads in every tile.
        q_len, k_len: of the pattern.
        stream: "encoder", "decoder" or "cross".
        sink_keys: (k_len,) bool, on any device.
    """

    def __init__(self, n_heads: int, q_len: int, k_len: int, *, stream: str, sink_keys: torch.Tensor) -> None:
        self.n_heads, self.q_len, self.k_len, self.stream = n_heads, q_len, k_len, stream
        self._sink = sink_keys.to(torch.bool)
        self._sums: dict[str, torch.Tensor] = {}
        self._scratch: torch.Tensor | None = None

    def add(self, pattern: torch.Tensor, q_start: int, *, visible: torch.Tensor | None = None) -> None:
        """Takes in the rows [q_start, q_start + rows) of every head.

        Args:
            pattern: (n_heads, rows, k_len) float weights, on any device; masked cells 0, no NaN.
            q_start: position of the first row.
            visible: (rows, k_len) bool, False where masked. None means the stream's own mask: causal in
                `decoder`, none elsewhere; pass it for windowed layers, whose broad heads look narrow without.
        """
        pattern = pattern.float()
        sink = self._sink = self._sink.to(pattern.device)
        q_pos = torch.arange(q_start, q_start + pattern.shape[1], device=pattern.device)
        k_pos = torch.arange(self.k_len, device=pattern.device)
        if visible is None:
            visible = self._default_visible(q_pos, k_pos)
        # One scratch tile for every product: a fresh one costs more than the product itself.
        if self._scratch is None or self._scratch.shape != pattern.shape:
            self._scratch = torch.empty_like(pattern)
        scratch, on_others = self._scratch, (~sink).float()
        # Sums of products, not products with a vector, whose float32 error is ten times as large.
        total, rest = pattern.sum(-1), torch.mul(pattern, on_others, out=scratch).sum(-1)
        sink_mass = total - rest
        # p ln p, in half the time of torch.special.entr. The clamp, at the smallest normal float32, makes 0 ln 0 = 0.
        torch.clamp(pattern, min=torch.finfo(torch.float32).tiny, out=scratch).log_().mul_(pattern)
        entropy, rest_entropy = -scratch.sum(-1), -scratch.mul_(on_others).sum(-1)
        live = total > 0

        self._mean("entropy", entropy, live)
        self._mean("max", pattern.amax(-1), live)
        self._mean("first_token_mass", pattern[..., 0], live)
        self._mean("sink_mass", sink_mass, live)

        others = visible & ~sink
        n_others = others.sum(-1)
        choice = live & (n_others >= MIN_KEYS)
        evidence = choice & (rest >= MIN_MASS)
        left = rest.clamp_min(MIN_MASS)
        self._mean("sink", sink_mass, choice)
        self._mean("sink_share", (1 - n_others / visible.sum(-1).clamp_min(1)).expand_as(rest), choice)
        self._mean("broad", (rest_entropy / left + left.log()) / n_others.clamp_min(2).log(), evidence)
        if self.stream != "cross":
            self._add_positional(pattern, q_pos, k_pos, live=live)
            self._add_diagonals(pattern, others, q_start, left=left, evidence=evidence)

    def _default_visible(self, q_pos: torch.Tensor, k_pos: torch.Tensor) -> torch.Tensor:
        if self.stream == "decoder":
            return k_pos <= q_pos[:, None] + (self.k_len - self.q_len)
        return torch.ones(len(q_pos), self.k_len, dtype=torch.bool, device=q_pos.device)

    def _add_positional(self, pattern: torch.Tensor, q_pos: torch.Tensor, k_pos: torch.Tensor, *, live) -> None:
        distance = (q_pos[:, None] - k_pos).abs().float()
        self._mean("mean_distance", torch.mul(pattern, distance, out=self._scratch).sum(-1), live)
        q_start = int(q_pos[0])
        self._mean("previous_token_mass", _diagonal(pattern, q_start - 1), live & (q_pos >= 1))
        self._mean("self_mass", _diagonal(pattern, q_start), live)

    def _add_diagonals(self, pattern, others, q_start: int, *, left, evidence) -> None:
        near = torch.zeros_like(left)
        for offset in range(-LOCAL_REACH, LOCAL_REACH + 1):
            there = _diagonal(others, q_start + offset)
            share = _diagonal(pattern, q_start + offset) * there / left
            near += share
            for name, its_offset in _OFFSETS.items():
                if offset == its_offset:
                    self._mean(name, share, evidence & there)
        self._mean("local", near, evidence & (others.sum(-1) >= LOCAL_MIN_KEYS))

    def _mean(self, name: str, values: torch.Tensor, rows: torch.Tensor) -> None:
        """Adds `values` (n_heads, rows) where `rows` holds, and the count of those rows, in float64."""
        added = torch.stack([torch.where(rows, values, 0).sum(-1, dtype=torch.float64), rows.sum(-1).double()])
        self._sums[name] = self._sums[name] + added if name in self._sums else added

    def result(self) -> dict[str, np.ndarray]:
        """Each measure, "label" and "label_score", (n_heads,): float32, and int8 for the label."""
        sums = {name: pair.cpu().numpy() for name, pair in self._sums.items()}
        nothing = np.zeros((2, self.n_heads))
        measures = {
            name: (total / np.maximum(rows, 1)).astype(np.float32)
            for name in MEASURES for total, rows in [sums.get(name, nothing)]
        }
        if self.stream == "cross":
            measures |= {name: np.full(self.n_heads, np.nan, np.float32) for name in _POSITIONAL}
        score = {
            name: np.where(rows >= MIN_ROWS, total / np.maximum(rows, 1), 0.0)
            for name in ("sink", "sink_share", *LABELS[1:-1]) for total, rows in [sums.get(name, nothing)]
        }
        label, label_score = _label(score)
        return measures | {"label": label, "label_score": label_score}


def _diagonal(matrix: torch.Tensor, offset: int) -> torch.Tensor:
    """Column r + offset of each row r, (…, rows); 0 where there is no such column."""
    taken = torch.diagonal(matrix, offset=offset, dim1=-2, dim2=-1) if -matrix.shape[-2] < offset < matrix.shape[-1] \
        else matrix[..., 0, :0]
    first = max(0, -offset)
    found = matrix.new_zeros(matrix.shape[:-1])
    found[..., first:first + taken.shape[-1]] = taken
    return found


def _label(score: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first rule that holds, and its score, by the module's docstring; each array (n_heads,)."""
    diagonals = np.maximum.reduce([score[name] for name in _OFFSETS])
    holds = {name: (score[name] == diagonals) & (diagonals >= DIAGONAL_LABEL) for name in _OFFSETS}
    halfway = (1 + score["sink_share"]) / 2
    holds["sink"] = (score["sink"] >= SINK_LABEL) & (score["sink"] >= halfway)
    holds["local"] = score["local"] >= LOCAL_LABEL
    holds["broad"] = score["broad"] >= BROAD_LABEL
    rules = LABELS[:-1]
    label = np.select([holds[name] for name in rules], range(len(rules)), len(rules)).astype(np.int8)
    best = np.maximum.reduce([score[name] for name in rules])
    label_score = np.select([holds[name] for name in rules], [score[name] for name in rules], best)
    return label, np.clip(label_score, 0, 1).astype(np.float32)


def assemble(stream: str, per_layer: Sequence[dict[str, np.ndarray]]) -> HeadSummary:
    """The results of a stream's layers, in order, as one HeadSummary of read-only (n_layers, n_heads) arrays."""
    arrays = {name: np.stack([layer[name] for layer in per_layer]) for name in (*MEASURES, "label", "label_score")}
    for array in arrays.values():
        array.setflags(write=False)
    return HeadSummary(stream=stream, **arrays)
