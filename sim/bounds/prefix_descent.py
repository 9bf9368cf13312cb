"""Prices for `prefix_tiers` by steps down the bound's slope, and what is kept on the way.

A price too low leaves room overbooked, one too high leaves it empty; each step moves the prices of
all slots by how far they are from full, as averages of earlier steps suggest (Adam, arXiv
1412.6980), by less and less. The prices of tiers are nested: from the tier that loads fastest down,
each is the next one's and more. Prefixes end with runs here: only the bound's own evaluation looks
into them. With overlap the weights of loads descend as well.

The share of the steps, of the second half, in which a run was worth keeping, and in which tier, is
close to a solution of the linear program whose dual this is, as averages of such steps are
(Larsson, Patriksson and Strömberg, Mathematical Programming 86, 1999); rounding starts from it. The
program itself takes HiGHS ten times as long on a trace of 17,000 runs and two tiers.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_tiers import TierCase, TierPrices
from vsim.sim.compiled import kernel
from vsim.sim.schedules.cache_tiers import BlockNeeds
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

STEPS: Final = 3000


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where a descent ended.

    Args:
        prices: the best on the way.
        shares: float64[runs], how much of each run was kept.
        within: float64[runs, tiers], of that, how much lay no lower than each tier, from the one
            that loads fastest down.
    """

    prices: TierPrices
    shares: _Floats
    within: _Floats


def descend(case: TierCase, steps: int = STEPS) -> Descent:
    """Take so many steps; the same case ends in the same place."""
    reuse, tiers = case.reuse, case.tiers
    runs, requests, levels = len(reuse.count), reuse.requests, len(tiers.parts)
    order = np.argsort([float(load) for load in tiers.load_s], kind="stable")
    rooms = np.cumsum([tiers.parts[tier] for tier in order]).astype(np.float64)
    loads = np.array([float(tiers.load_s[tier]) for tier in order])
    units = case.worth.units
    unit = float(case.worth.unit)
    saved = (units[reuse.depth + reuse.count] - units[reuse.depth]) * unit
    starts, of_run, parts = needed_by_end(reuse, case.needs)
    level, weight = np.zeros((levels, requests)), np.ones((levels, requests))
    full: _Floats = np.zeros(0)
    if case.full_units is not None:
        full = np.asarray(case.full_units * unit, np.float64)
    if len(full):
        weight[1:] = 0.0
    if runs and saved.max() > 0.0:
        level, shares, within = _descended(
            starts, of_run, parts, saved, reuse.last_use, reuse.request, rooms, loads,
            weight, full, steps,
        )  # fmt: skip
    else:
        shares, within = np.zeros(runs), np.ones((runs, levels))
    room = np.empty((requests, levels))
    room[:, order] = np.cumsum(level[::-1], axis=0)[::-1].T
    weights = np.empty((requests, levels))
    weights[:, order] = weight.T
    return Descent(TierPrices(room, weights if len(full) else None), shares, within)


def needed_by_end(reuse: PrefixReuse, needs: BlockNeeds) -> tuple[_Ints, _Ints, _Floats]:
    """Which runs, and how many parts of each, a prefix needs that ends with each run.

    Returns:
        int64[runs + 1], where each run's entries start; int64[n], a run of the same request; and
        float64[n], parts.
    """
    runs = len(reuse.count)
    ends = reuse.depth + reuse.count
    of_end: list[_Ints] = []
    of_run: list[_Ints] = []
    parts: list[_Ints] = []
    j, apart = np.arange(runs), 0
    while len(j):
        i = j - apart
        taken = np.zeros(len(j), np.int64)
        for size, first in zip(needs.parts.tolist(), needs.first, strict=True):
            taken += size * np.maximum(ends[i] - np.maximum(reuse.depth[i], first[ends[j]]), 0)
        some = taken > 0
        of_end, of_run, parts = [*of_end, j[some]], [*of_run, i[some]], [*parts, taken[some]]
        apart += 1
        j = j[j >= apart]
        j = j[reuse.request[j - apart] == reuse.request[j]]
    if not of_end:
        return np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    end = np.concatenate(of_end)
    by_end = np.argsort(end, kind="stable")
    starts = np.searchsorted(end[by_end], np.arange(runs + 1))
    return starts, np.concatenate(of_run)[by_end], np.concatenate(parts)[by_end].astype(np.float64)


@kernel
def _copy(source: _Floats, target: _Floats) -> None:
    """Copy float64[m, n] into another: a slice compiles ten times as long as a loop."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@kernel
def _descended(
    starts: _Ints, of_run: _Ints, parts: _Floats, saved: _Floats, first: _Ints, last: _Ints,
    rooms: _Floats, loads: _Floats, weight: _Floats, full: _Floats, steps: int,
) -> tuple[_Floats, _Floats, _Floats]:  # fmt: skip
    """Walk down the bound; the best prices by level, and what was kept.

    `weight` is float64[levels, slots], left as the best; it moves where `full`, what serving each
    request from nothing takes, is given.
    """
    levels, runs, slots = len(rooms), len(first), weight.shape[1]
    overlaps = len(full) > 0
    best_weight = weight.copy()
    weight_mean, weight_square = np.zeros((levels, slots)), np.zeros((levels, slots))
    served = np.zeros((levels, slots))  # what is saved by level 0, and loaded from each other
    prices = np.zeros((levels, slots))
    best = np.zeros((levels, slots))
    lowest = np.inf
    mean, square = np.zeros((levels, slots)), np.zeros((levels, slots))
    before = np.zeros((levels, slots + 1))
    change, slopes = np.zeros((levels, slots + 1)), np.zeros(slots)
    price, tier = np.zeros(runs), np.zeros(runs, np.int64)
    shares, within = np.zeros(runs), np.zeros((runs, levels))
    # a start: what a part's room in a slot is worth on average
    spent = 0.0
    for run in range(runs):
        for at in range(starts[run], starts[run + 1]):
            if of_run[at] == run:
                spent += parts[at] * max(last[run] - first[run], 1)
    size = saved.sum() / max(spent, 1.0)
    half = steps // 2
    for step in range(1, steps + 1):
        for j in range(levels - 1, -1, -1):
            total = 0.0
            for t in range(slots):
                total += prices[j, t]
                before[j, t + 1] = total
                if j + 1 < levels:
                    before[j, t + 1] += before[j + 1, t + 1]
        change[:] = 0.0
        value = 0.0
        for j in range(levels):
            for t in range(slots):
                value += rooms[j] * prices[j, t]
        if overlaps:
            served[:] = 0.0
            for t in range(slots):
                value += (1.0 - weight[0, t]) * full[t]
        for run in range(runs):
            cheapest = np.inf
            for j in range(levels):
                cost = (
                    before[j, last[run]] - before[j, first[run]] + loads[j] * weight[j, last[run]]
                )
                if cost < cheapest:
                    cheapest = cost
                    tier[run] = j
            price[run] = cheapest
        run = 0
        while run < runs:
            row = last[run]
            gain, most, chosen = 0.0, 0.0, -1
            while run < runs and last[run] == row:
                gain += saved[run] * weight[0, row]
                net = gain
                for at in range(starts[run], starts[run + 1]):
                    net -= parts[at] * price[of_run[at]]
                if net > most:
                    most, chosen = net, run
                run += 1
            value += most
            if chosen < 0:
                continue
            for at in range(starts[chosen], starts[chosen + 1]):
                each = of_run[at]
                change[tier[each], first[each]] += parts[at]
                change[tier[each], row] -= parts[at]
            if overlaps:
                for at in range(starts[chosen], starts[chosen + 1]):
                    each = of_run[at]
                    served[tier[each], row] += parts[at] * loads[tier[each]]
                each = chosen
                while each >= 0 and last[each] == row:
                    served[0, row] += saved[each]
                    each -= 1
            if step > half:
                each = chosen
                while each >= 0 and last[each] == row:
                    within[each, tier[each]] += 1.0
                    each -= 1
        if value < lowest:
            lowest = value
            _copy(prices, best)
            _copy(weight, best_weight)
        pace = 0.3 * size * (0.5 * (1.0 + np.cos(np.pi * step / steps)) + 1e-3)
        pace /= 1.0 - 0.9**step
        spread = 1.0 / (1.0 - 0.99**step)
        for j in range(levels):
            held = 0.0
            for t in range(slots):
                if j > 0:
                    change[j, t] += change[j - 1, t]
            for t in range(slots):
                held += change[j, t]
                slopes[t] = rooms[j] - held
            for t in range(slots):  # apart, so that the processor takes several slots at once
                mean[j, t] = 0.9 * mean[j, t] + 0.1 * slopes[t]
                square[j, t] = 0.99 * square[j, t] + 0.01 * slopes[t] * slopes[t]
                move = mean[j, t] / (np.sqrt(square[j, t] * spread) + 1e-12)
                prices[j, t] = max(0.0, prices[j, t] - pace * move)
        if not overlaps:
            continue
        # a weight too low leaves a tier loading longer than the request computes
        for t in range(slots):
            together = 0.0
            for j in range(1, levels):
                slope = full[t] - served[0, t] - served[j, t]
                weight_mean[j, t] = 0.9 * weight_mean[j, t] + 0.1 * slope
                weight_square[j, t] = 0.99 * weight_square[j, t] + 0.01 * slope * slope
                move = weight_mean[j, t] / (np.sqrt(weight_square[j, t] * spread) + 1e-12)
                weight[j, t] = max(0.0, weight[j, t] - 0.1 * pace / size * move)
                together += weight[j, t]
            for j in range(1, levels):
                weight[j, t] /= max(together, 1.0)
            weight[0, t] = 1.0 - min(together, 1.0)
    _copy(best_weight, weight)
    for run in range(runs):
        for j in range(levels):
            shares[run] += within[run, j]
            within[run, j] = shares[run]
        for j in range(levels):
            within[run, j] = within[run, j] / shares[run] if shares[run] > 0.0 else 1.0
        shares[run] /= max(steps - half, 1)
    return best, shares, within
