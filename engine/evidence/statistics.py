"""Significance over many heads, and rank correlations over few words. Numpy in, numpy out.

It knows nothing of attention. Ties are what makes these worth a module: few
words share values often, and heads with no mass share zeros.
"""

from __future__ import annotations

import numpy as np

#: Distances from 0 and 1 below this count as this.
ODDS_FLOOR = 1e-3


def empirical_p(observed: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Chance of at least `observed` among `reference`, by rank, with the observation counted in.

    p = (1 + #{reference ≥ observed}) / (1 + n): never 0 (Phipson & Smyth 2010).

    Args:
        observed: (…) float.
        reference: (n, …) float, n draws of each.

    Returns:
        (…) float64 in (0, 1]; 1 where n = 0.
    """
    return (1 + (reference >= observed).sum(0)) / (1 + len(reference))


def odds_over_uniform(mass: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The odds of the mass over the odds it would have if every visible key got the same, (…) float64.

    A head whose scores at an offset stand a constant above the rest has the same odds over uniform in short and in
    long sentences, while both its mass and its mass's multiple of the uniform mass change with the length. Masses
    nearer to 1 than `ODDS_FLOOR` count alike: half precision could not tell them apart.
    """
    mass, uniform = (np.clip(np.asarray(each, np.float64), 0.0, 1 - ODDS_FLOOR) for each in (mass, uniform))
    return mass / (1 - mass) * (1 - uniform) / np.maximum(uniform, ODDS_FLOOR)


def benjamini_hochberg(p_values: np.ndarray, *, level: float) -> np.ndarray:
    """Which hypotheses to reject so that at most `level` of the rejected are false, on average.

    Benjamini & Hochberg 1995: reject all p ≤ p₍ₖ₎ for the largest k with p₍ₖ₎ ≤ level·k/m.

    Args:
        p_values: (…) float.

    Returns:
        (…) bool.
    """
    ordered = np.sort(p_values, axis=None)
    passed = ordered <= level * np.arange(1, ordered.size + 1) / max(1, ordered.size)
    return p_values <= ordered[passed].max() if passed.any() else np.zeros(p_values.shape, bool)


def bar_of(p_values: np.ndarray, at: tuple[int, ...], *, level: float) -> float:
    """The largest p with which the hypothesis `at` would be rejected by `benjamini_hochberg`, the others as they are.

    level·k/m for the largest k that k − 1 of the others do not exceed: level/m where no other is small.
    """
    m = p_values.size
    others = np.sort(np.delete(p_values, np.ravel_multi_index(at, p_values.shape)))
    bars = level * np.arange(1, m + 1) / m
    return float(bars[[True, *(others <= bars[1:])]].max())


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's ρ: Pearson's correlation of the ranks, ties at their mean rank; NaN for a constant or n < 3."""
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    ranks_a, ranks_b = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    scale = float(np.sqrt((ranks_a**2).sum() * (ranks_b**2).sum()))
    return float((ranks_a * ranks_b).sum() / scale) if len(a) >= 3 and scale > 0 else float("nan")


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's τ-b: concordant less discordant pairs, ties taken off; NaN for a constant or n < 3."""
    sign_a = np.sign(np.subtract.outer(a, a))
    sign_b = np.sign(np.subtract.outer(b, b))
    scale = float(np.sqrt((sign_a**2).sum() * (sign_b**2).sum()))
    return float((sign_a * sign_b).sum() / scale) if len(a) >= 3 and scale > 0 else float("nan")


def correlations(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's and Kendall's correlation of every pair of columns.

    Args:
        columns: (n_words, n_measures) float, no NaN.

    Returns:
        Two (n_measures, n_measures) float64 arrays.
    """
    n = columns.shape[1]
    pairs = [[(columns[:, i], columns[:, j]) for j in range(n)] for i in range(n)]
    return (np.array([[spearman(a, b) for a, b in row] for row in pairs]),
            np.array([[kendall(a, b) for a, b in row] for row in pairs]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, tied values at the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]
