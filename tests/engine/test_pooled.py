"""Pooling from row tiles, against block-by-block numpy over the whole pattern. Tolerance 1e-6: float32 sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import pooled


def pool(patterns: np.ndarray, size: int, *, tile: int) -> tuple[np.ndarray, np.ndarray, pooled.Pooler]:
    n_heads, q_len, k_len = patterns.shape
    pooler = pooled.Pooler(n_heads, q_len, k_len, size=size)
    for start in range(0, q_len, tile):
        pooler.add(torch.from_numpy(patterns[:, start:start + tile]), start)
    return *pooler.result(), pooler


def block_by_block(patterns: np.ndarray, q_edges, k_edges) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(patterns), len(q_edges) - 1, len(k_edges) - 1)
    mean, largest = np.zeros(shape), np.zeros(shape)
    for row in range(shape[1]):
        for column in range(shape[2]):
            block = patterns[:, q_edges[row]:q_edges[row + 1], k_edges[column]:k_edges[column + 1]].astype(np.float64)
            mean[:, row, column], largest[:, row, column] = block.mean((1, 2)), block.max((1, 2))
    return mean, largest


@pytest.mark.parametrize("length", [0, 1, 2, 7, 63, 64, 65, 127, 1000])
@pytest.mark.parametrize("size", [1, 2, 64, 512])
def test_edges_tile_the_axis_in_near_equal_blocks(length, size):
    at = pooled.edges(length, size)
    lengths = np.diff(at)
    assert at[0] == 0 and at[-1] == length and len(lengths) == min(length, size)
    assert np.issubdtype(at.dtype, np.integer)
    if length:
        assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1


def test_a_picture_has_at_least_one_block():
    with pytest.raises(ValueError, match="size=0"):
        pooled.edges(3, 0)


@pytest.mark.parametrize(("q_len", "k_len", "size"), [
    (1, 1, 4), (5, 9, 4), (9, 5, 4), (16, 16, 4), (17, 33, 8), (100, 3, 7), (3, 100, 7), (64, 64, 1), (37, 37, 36),
])
@pytest.mark.parametrize("tile", [1, 3, 8, 1000])
def test_pooling_equals_block_by_block_for_any_tile(q_len, k_len, size, tile):
    patterns = np.random.default_rng(q_len + k_len).random((3, q_len, k_len)).astype(np.float32)
    mean, largest, pooler = pool(patterns, size, tile=tile)
    expected_mean, expected_max = block_by_block(patterns, pooler.q_edges, pooler.k_edges)
    assert mean.dtype == largest.dtype == np.float32
    np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(largest, expected_max.astype(np.float32))


def test_pooling_is_the_identity_up_to_its_size():
    patterns = np.random.default_rng(0).random((2, 8, 5)).astype(np.float32)
    for size in (8, 100):
        mean, largest, _ = pool(patterns, size, tile=3)
        np.testing.assert_array_equal(mean, patterns)
        np.testing.assert_array_equal(largest, patterns)


def test_the_mean_keeps_the_mass_of_unequal_blocks():
    patterns = np.random.default_rng(1).random((1, 23, 41)).astype(np.float32)
    mean, _, pooler = pool(patterns, 6, tile=5)
    cells = np.diff(pooler.q_edges)[:, None] * np.diff(pooler.k_edges)
    assert (mean[0] * cells).sum() == pytest.approx(patterns.sum(), rel=1e-6)


def test_a_mask_pools_to_the_blocks_that_show_anything():
    visible = np.tril(np.ones((1, 10, 10), bool))
    _, seen, _ = pool(visible, 5, tile=4)
    np.testing.assert_array_equal(seen[0] > 0, np.tril(np.ones((5, 5), bool)))


def test_empty_axes_pool_to_empty_pictures():
    mean, largest = pooled.Pooler(2, 0, 3, size=4).result()
    assert mean.shape == largest.shape == (2, 0, 3)
