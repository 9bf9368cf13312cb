"""What kernels would take with another batch or at another cost, relative to a run's.

Limits of advice are made of these, so each is the least that the curves allow in steps such as the
run's: over tokens, the least at any number that a step could have; over requests and their
context, the least around the mean step.
"""

import numpy as np

from vsim.sim.timing.curve import Curve, Floats, Grid
from vsim.sim.timing.step_cost import StepCost
from vsim.sim.timing.step_curves import StepCurves

_AROUND = (0.5, 1.0, 2.0)


def least_ratio(new: Curve, old: Curve, least: float, most: float) -> float:
    """The least that `new` takes relative to `old`, at `least` to `most` tokens computed."""
    knots = _knots(old, least, most)
    before, after = old.at_each(knots), new.at_each(knots)
    some = before > 0.0
    return float(np.min(np.where(some, after / np.where(some, before, 1.0), 1.0)))


def decode_ns(curves: StepCurves, requests: float, keys: float) -> float:
    """Time of the attention of requests that decode over so many keys each, nanoseconds."""
    total = curves.decode.at(requests, keys)
    return total if curves.near_decode is None else total + curves.near_decode.at(requests, keys)


def decode_ratio(
    new: StepCurves, old: StepCurves, requests: float, context: float, factor: float = 1.0
) -> float:
    """The least that attention of decodes takes, for each request, relative to before.

    Args:
        new: what kernels take then.
        old: what they took.
        requests: that decode in the mean step.
        context: keys that each sees in the mean.
        factor: how many times as many requests decode then.
    """
    found = []
    for scale in _AROUND:
        keys = max(1.0, scale * context)
        before = decode_ns(old, requests, keys)
        if before > 0.0:
            found.append(decode_ns(new, factor * requests, keys) / (factor * before))
    return min(found, default=1.0)


def prefill_ratio(new: StepCurves, old: StepCurves, tokens: float, keys: float) -> float:
    """The least that attention of chunks takes relative to before.

    Args:
        new: what kernels take then.
        old: what they took.
        tokens: of a chunk.
        keys: that each token sees in the mean.
    """
    found = []
    for scale in _AROUND:
        count = max(1.0, scale * tokens)
        pairs = [(new.prefill, old.prefill)]
        if new.near_prefill is not None and old.near_prefill is not None:
            pairs.append((new.near_prefill, old.near_prefill))
        found += [_relative(one.at(count, keys), other.at(count, keys)) for one, other in pairs]
    return min(found, default=1.0)


def least_products_ns(curves: StepCurves) -> float:
    """The least that products take for a token, in whatever batch, nanoseconds."""
    knots = curves.products.knots
    return float(np.min(curves.products.ns[knots >= 1] / knots[knots >= 1]))


def quickest_flops_per_s(cost: StepCost) -> float:
    """The highest rate that products or attention of chunks reach at any size."""
    curves = cost.curves
    rates = [1e9 * cost.flops_per_token / least_products_ns(curves)]
    shares = ((curves.prefill, 1 - cost.window_share), (curves.near_prefill, cost.window_share))
    for grid, share in shares:
        if grid is not None and share > 0.0:
            rates.append(_quickest_pairs(grid, share * cost.flops_per_pair))
    return max(rates)


def slower_when_sustained(curves: StepCurves, most: float) -> float:
    """How many times as long arithmetic takes at most on a GPU that has lowered its clock."""
    if curves.sustained is None:
        return 1.0
    knots = _knots(curves.arithmetic, 1.0, most)
    arithmetic, sustained = curves.arithmetic.at_each(knots), curves.sustained.at_each(knots)
    ratios = sustained[arithmetic > 0.0] / arithmetic[arithmetic > 0.0]
    return 1.0 + float(np.max(ratios, initial=max(curves.sustained_attention, 0.0)))


def _knots(curve: Curve, least: float, most: float) -> Floats:
    inner = curve.knots[(curve.knots > least) & (curve.knots < most)]
    return np.concatenate([[least], inner, [max(least, most)]])


def _quickest_pairs(grid: Grid, flops_per_pair: float) -> float:
    pairs = grid.rows[:, None] * grid.columns[None, :]
    timed = (grid.ns > 0) & (pairs > 0)
    return float(np.max(1e9 * flops_per_pair * pairs[timed] / grid.ns[timed], initial=0.0))


def _relative(new: float, old: float) -> float:
    return new / old if old > 0.0 else 1.0
