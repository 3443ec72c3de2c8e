"""From numbers to a verdict: the rule, in one place.

*Attends*: some head's mass from A to B is significant against its own masses at
that offset (Benjamini–Hochberg over all heads), at least `over_uniform` times
the uniform mass, and at least `over_offset` above its mean at that offset. Or,
where the edge matters, the heads that carry its effect do, taken together: their
masses, averaged by each one's share of the effect, in a single test at
`carriers_p`. Which heads those are, cutting decides, in the reference as here.
*The edge matters*: cutting A→B everywhere costs the output at least
`cut_nats`, and at least `cut_over_controls` times the median |Δ| of cutting
A's edge to the other words. *The word matters*: the same of hiding B from
everyone. Then:

    attends, the edge matters                       attends and is used
    attends, neither matters                        attends but is not used
    the word matters (or an ordinary edge does)    used without direct attention
    else                                            no evidence

So a word that A attends to, that matters, and whose edge can go without loss
counts as used without direct attention: its information came another way. Where
there is no other word, the size alone decides, and the reason says so.
Deltas are on the margin against the contrast where there is one, else on the
log-probability. It measures nothing itself and knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.evidence.statistics import ODDS_FLOOR, benjamini_hochberg, empirical_p, odds_over_uniform
from engine.evidence_types import REASONS, Reason, Thresholds, Verdict

#: A smaller loss is rounding, nats.
LEAST_LOSS = 1e-5
#: What is found of an effect that counts: it is large beside the other words', or there is none.
COUNTS = ("matters", "uncompared")


@dataclass(frozen=True)
class Attends:
    """The first answer, per head: every array (n_layers, n_heads)."""

    mass: np.ndarray
    uniform: np.ndarray
    offset: np.ndarray
    p_values: np.ndarray
    significant: np.ndarray
    attending: np.ndarray


@dataclass(frozen=True)
class Carriers:
    """The heads that carry the cut's effect, as one.

    Attributes:
        weights: (n_layers, n_heads), each head's share of the effect, sum 1; all 0 where none costs anything.
        mass, uniform, offset: averaged with these weights; p: of one test; NaN without carriers.
    """

    weights: np.ndarray
    mass: float
    uniform: float
    offset: float
    p: float

    def attend(self, *, thresholds: Thresholds) -> bool:
        """Whether their mass is unusual and large enough."""
        return (self.p <= thresholds.carriers_p and self.mass >= thresholds.over_uniform * self.uniform
                and self.mass - self.offset >= thresholds.over_offset)


@dataclass(frozen=True)
class Effect:
    """A delta beside the same delta of every other word.

    Attributes:
        delta: of B, nats, after − before.
        controls: of the other words.
    """

    delta: float
    controls: tuple[float, ...]

    @property
    def control(self) -> float:
        """Median size of the controls; NaN without any."""
        return float(np.median(np.abs(self.controls))) if self.controls else float("nan")


def attends(mass: np.ndarray, uniform: np.ndarray, offset: np.ndarray, p_values: np.ndarray, *,
            thresholds: Thresholds) -> Attends:
    """Which heads attend. All arrays (n_layers, n_heads); `offset` may be NaN (no such offset: not exceeded)."""
    significant = benjamini_hochberg(p_values, level=thresholds.false_discovery)
    large = (mass >= thresholds.over_uniform * uniform) & (mass - offset >= thresholds.over_offset)
    return Attends(mass, uniform, offset, p_values, significant, significant & large)


def carriers(deltas: np.ndarray, mass: np.ndarray, uniform: np.ndarray, *, windows_mass: np.ndarray,
             windows_uniform: np.ndarray) -> Carriers:
    """The heads by their share of the effect, ranked as one among the reference's windows.

    A head with more mass has more to lose, so weights by loss lean towards heads that look at B. Ranked among windows
    weighted alike, that lean would pass for attention; so each window's heads are weighted as if it had been asked
    about: by its own masses times what each head lost here per mass.

    Args:
        deltas: (n_layers, n_heads), Δ when the edge is cut in one head.
        mass, uniform: (n_layers, n_heads).
        windows_mass, windows_uniform: (n_windows, n_layers, n_heads).
    """
    losses = np.where(deltas <= -LEAST_LOSS, -deltas, 0.0)
    if not losses.sum() > 0 or not len(windows_mass):
        return Carriers(np.zeros_like(losses), *[float("nan")] * 4)
    weights = losses / losses.sum()
    of_edge = float((mass * weights).sum()), float((uniform * weights).sum())
    own = windows_mass * (losses / np.maximum(mass, ODDS_FLOOR))
    own /= np.maximum(own.sum((1, 2), keepdims=True), LEAST_LOSS)
    p = empirical_p(odds_over_uniform(*of_edge), odds_over_uniform((windows_mass * own).sum((1, 2)),
                                                                   (windows_uniform * own).sum((1, 2))))
    return Carriers(weights, *of_edge, float((windows_mass * weights).sum((1, 2)).mean()), float(p))


def decide(found: Attends, carried: Carriers, cut: Effect, hide: Effect, *,
           thresholds: Thresholds) -> tuple[Verdict, list[Reason]]:
    """The verdict by the module's rule, and the reasons that carry it: attends, used (cut, hide), what qualifies."""
    cut_code = judge(cut, thresholds.cut_nats, thresholds.cut_over_controls)
    hide_code = judge(hide, thresholds.hide_nats, thresholds.hide_over_controls)
    edge, word = cut_code in COUNTS, hide_code in COUNTS
    by_carriers = edge and carried.attend(thresholds=thresholds)
    attending = bool(found.attending.any()) or by_carriers
    reasons = [_attends_reason(found, carried, by_carriers=by_carriers, thresholds=thresholds),
               reason(f"cut_{cut_code}", delta=cut.delta, control=cut.control),
               reason(f"hide_{hide_code}", delta=hide.delta, control=hide.control)]
    if attending and edge:
        return "attends and is used", reasons
    if attending and not word:
        return "attends but is not used", reasons
    if attending:
        return "used without direct attention", [*reasons, reason("edge_redundant", cut=cut.delta, hide=hide.delta)]
    if edge:
        return "used without direct attention", [*reasons, reason("ordinary_edge_used", delta=cut.delta)]
    return ("used without direct attention" if word else "no evidence"), reasons


def reason(code: str, **numbers: float | int | str) -> Reason:
    """A Reason, its numbers checked against `REASONS`."""
    if tuple(numbers) != REASONS[code]:
        raise ValueError(f"{code} takes the numbers {REASONS[code]}; got {tuple(numbers)}")
    return Reason(code, tuple(numbers.items()))


def judge(effect: Effect, nats: float, over_controls: float) -> str:
    """What an effect is by the thresholds: "raises", "too_small", "uncompared", "matters" or "within_controls"."""
    if effect.delta >= nats:
        return "raises"
    if not effect.delta <= -nats:
        return "too_small"
    if np.isnan(effect.control):
        return "uncompared"
    return "matters" if -effect.delta >= over_controls * effect.control else "within_controls"


def _attends_reason(found: Attends, carried: Carriers, *, by_carriers: bool, thresholds: Thresholds) -> Reason:
    """The head that says most: the strongest attending one; the carriers; else the one with the most mass."""
    any_head = bool(found.attending.any())
    if by_carriers and not any_head:
        layer, head = np.unravel_index(np.argmax(carried.weights), carried.weights.shape)
        return reason("carriers_attend", layer=int(layer), head=int(head), mass=carried.mass, uniform=carried.uniform,
                      offset=carried.offset, p=carried.p)
    heads = found.attending if any_head else np.ones_like(found.attending)
    layer, head = np.unravel_index(np.argmax(np.where(heads, found.mass, -1.0)), found.mass.shape)
    numbers = {
        "layer": int(layer), "head": int(head), "mass": float(found.mass[layer, head]),
        "uniform": float(found.uniform[layer, head]), "offset": float(found.offset[layer, head]),
        "p": float(found.p_values[layer, head]),
    }
    if any_head:
        return reason("head_attends", **numbers, heads=int(found.attending.sum()))
    if numbers["mass"] < thresholds.over_uniform * numbers["uniform"]:
        return reason("no_head_attends", **numbers)
    above = numbers["mass"] - numbers["offset"] >= thresholds.over_offset
    return reason("not_significant" if above else "only_positional", **numbers)
