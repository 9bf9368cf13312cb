"""Prices for the prefix bound in little time: a few steps down its subgradient.

A price too low leaves room overbooked, one too high leaves it empty; each step moves the prices of
all slots by how far they are from full, as averages of earlier steps suggest (Adam, arXiv
1412.6980). What comes of it is a valid bound after any number of steps, and looser than the linear
program's. Runs are taken whole here: only the bound's own evaluation looks into them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_WORK: Final = 4_000_000  # runs and slots looked at, all steps together: some tens of milliseconds
_MOST_STEPS: Final = 400


def quick_prices(reuse: PrefixReuse, worth: Worth, blocks: int) -> _Floats:
    """Find prices, in what worth counts, of a block's room in each slot: float64[requests].

    The number of steps follows from the size of the case, so that the same one has the same prices.
    """
    none = np.zeros(reuse.requests)
    held = KeptPrefixes(reuse, reuse.count).blocks_in_slots()
    if len(reuse.count) == 0 or int(held.max()) <= blocks:
        return none
    steps = min(_MOST_STEPS, 1 + _WORK // (len(reuse.count) + reuse.requests))
    saved = (worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]).astype(np.float64)
    length = np.maximum(reuse.request - reuse.last_use, 1)
    # what a block's room is worth where about as many runs are kept as there is room for
    order = np.argsort(-saved / (reuse.count * length))
    room = np.cumsum((reuse.count * length)[order])
    at = min(int(np.searchsorted(room, blocks * reuse.requests)), len(order) - 1)
    start = float((saved / (reuse.count * length))[order[at]])
    full = held > blocks
    best = _descended(
        np.where(full, start, 0.0), full, saved, reuse.request, reuse.last_use, reuse.count,
        float(blocks), start, steps,
    )  # fmt: skip
    return best * float(worth.unit)


@kernel
def _descended(
    prices: _Floats, full: NDArray[np.bool_], saved: _Floats, request: _Ints, last_use: _Ints,
    count: _Ints, blocks: float, size: float, steps: int,
) -> _Floats:  # fmt: skip
    """Walk down the bound from some prices; the best ones on the way."""
    slots = len(prices)
    best, lowest = prices.copy(), np.inf
    mean, square = np.zeros(slots), np.zeros(slots)
    before, change = np.zeros(slots + 1), np.zeros(slots + 1)
    for step in range(1, steps + 1):
        for t in range(slots):
            before[t + 1] = before[t] + prices[t]
        change[:] = 0.0
        value = blocks * before[slots]
        run = 0
        while run < len(request):
            row, first = request[run], run
            net, most, kept = 0.0, 0.0, run
            while run < len(request) and request[run] == row:
                net += saved[run] - count[run] * (before[row] - before[last_use[run]])
                run += 1
                if net > most:
                    most, kept = net, run
            value += most
            for each in range(first, kept):
                change[last_use[each]] += count[each]
                change[row] -= count[each]
        if value < lowest:
            lowest = value
            best[:] = prices
        pace = size * (0.5 * (1.0 + np.cos(np.pi * step / steps)) + 1e-3)
        held = 0.0
        for t in range(slots):
            held += change[t]
            if not full[t]:
                continue
            slope = blocks - held
            mean[t] = 0.9 * mean[t] + 0.1 * slope
            square[t] = 0.99 * square[t] + 0.01 * slope * slope
            move = mean[t] / (1.0 - 0.9**step) / (np.sqrt(square[t] / (1.0 - 0.99**step)) + 1e-12)
            prices[t] = max(0.0, prices[t] - 0.3 * pace * move)
    return best
