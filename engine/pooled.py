"""Patterns reduced to a picture of a given size, block by block, from row tiles.

A block's mean weighs every cell alike, so blocks of unequal size stay right;
its largest weight keeps single strong cells visible that a mean would wash out.
Exact (one cell a block) while the axis is no longer than `size`.

Does not know masks: a masked cell counts as weight 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from engine import checks, errors


def edges(length: int, size: int) -> np.ndarray:
    """Block edges over an axis: at most `size` blocks that differ in length by one at most, longer ones first.

    Args:
        length: of the axis, in positions.
        size: most blocks wanted, at least 1.

    Returns:
        (blocks + 1,) int64: block b covers [edges[b], edges[b + 1]).
    """
    if size < 1:
        raise ValueError(f"a picture needs at least one block; got size={size}")
    blocks = min(length, size)
    if not blocks:
        return np.zeros(1, np.int64)
    short, longer = divmod(length, blocks)
    at = np.arange(blocks + 1)
    return at * short + np.minimum(at, longer)


def region(bounds: tuple[int, int] | None, length: int, *, what: str) -> tuple[int, int]:
    """The positions [start, end) of an axis of `length`; None means all of it.

    Raises:
        InvalidPrompt: no such pair of whole numbers, an empty region, or one outside (code "bad_region").
    """
    if bounds is None:
        return 0, length
    pair = tuple(bounds) if isinstance(bounds, tuple | list) else ()
    if len(pair) != 2 or not all(map(checks.is_whole, pair)) or not 0 <= pair[0] < pair[1] <= length:
        shown = "…".join(map(str, pair)) if len(pair) == 2 else repr(bounds)[:60]
        raise errors.InvalidPrompt(
            f"a region (start, end) of {what} within 0…{length}", got=shown, next_step="Choose a region inside.",
            code="bad_region", region=shown, length=length,
        )
    return int(pair[0]), int(pair[1])


class Pooler:
    """Mean- and max-pools the patterns of several heads from consecutive row tiles.

    A region [q0, q1) × [k0, k1) is pooled by making the Pooler for its size and
    passing tiles cut to it, with rows counted from q0.

    Args:
        n_heads: heads in every tile.
        q_len, k_len: of the pattern (or region).
        size: most rows and most columns of the picture.
    """

    def __init__(self, n_heads: int, q_len: int, k_len: int, *, size: int) -> None:
        self.q_edges = edges(q_len, size)
        self.k_edges = edges(k_len, size)
        self._shape = (n_heads, len(self.q_edges) - 1, len(self.k_edges) - 1)
        self._sum: torch.Tensor | None = None
        self._max: torch.Tensor | None = None

    def add(self, pattern: torch.Tensor, q_start: int) -> None:
        """Takes in the rows [q_start, q_start + rows) of every head.

        Args:
            pattern: (n_heads, rows, k_len) float, on any device.
            q_start: position of the first row.
        """
        if self._sum is None:
            self._sum = torch.zeros(self._shape, device=pattern.device)
            self._max = torch.zeros(self._shape, device=pattern.device)
        pattern = pattern.float()
        q_end = q_start + pattern.shape[1]
        if self._shape[1] == self.q_edges[-1]:
            # Every row is a block of its own: all at once, for short sentences are mostly the loop below.
            self._sum[:, q_start:q_end] = self._by_column_block(pattern, torch.sum)
            self._max[:, q_start:q_end] = self._by_column_block(pattern, torch.amax)
            return
        first = int(np.searchsorted(self.q_edges, q_start, side="right")) - 1
        for block in range(first, self._shape[1]):
            start, end = max(int(self.q_edges[block]), q_start), min(int(self.q_edges[block + 1]), q_end)
            if start >= end:
                break
            # Rows first: reducing over them runs along memory, and leaves little to reduce over columns.
            rows = pattern[:, start - q_start:end - q_start]
            self._sum[:, block] += self._by_column_block(rows.sum(1), torch.sum)
            largest = self._by_column_block(rows.amax(1), torch.amax)
            self._max[:, block] = torch.maximum(self._max[:, block], largest)

    def _by_column_block(self, rows: torch.Tensor, reduce: Callable) -> torch.Tensor:
        """(…, k_len) reduced over each column block to (…, columns), through views alone."""
        columns = self._shape[2]
        short, longer = divmod(rows.shape[-1], columns)
        cut = longer * (short + 1)
        long_blocks = rows[..., :cut].unflatten(-1, (longer, short + 1))
        short_blocks = rows[..., cut:].unflatten(-1, (columns - longer, short))
        return torch.cat([reduce(long_blocks, -1), reduce(short_blocks, -1)], -1)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and largest weight of each block, both (n_heads, rows, columns) float32."""
        if self._sum is None:
            return np.zeros(self._shape, np.float32), np.zeros(self._shape, np.float32)
        cells = np.diff(self.q_edges)[:, None] * np.diff(self.k_edges)
        mean = self._sum.cpu().numpy() / cells.astype(np.float32)
        return mean, self._max.cpu().numpy()
