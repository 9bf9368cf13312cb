"""Cheapest paths over tiers and slots: what it costs at least to keep something from one use to the
next, wherever it lies in between.

The price of a path adds up over slots, so that all paths over a range of them are a product of
matrices in which sums are minima and products are sums. Products over ranges are read off
products up to, and from, the middle of the smallest aligned range of a power of two that holds both
ends (a disjoint sparse table), one level after another, so that no level is kept.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel

_Ints = NDArray[np.int64]

NEVER: Final = 1 << 61
"""The price of what can't be done: above any path's, and two of them still fit 64 bits."""


@kernel
def cheapest_paths(room: _Ints, move: _Ints, first: _Ints, end: _Ints) -> _Ints:
    """Find the price of the cheapest path that ends in each tier.

    Args:
        room: int64[slots, tiers] ≥ 0, the price of lying in a tier in a slot; all together, and
            with any moves, below NEVER.
        move: int64[slots, tiers, tiers] ≥ 0, the price of a move from one tier to another just
            before a slot, NEVER where there is none. A path begins in tier 0, and in each of its
            slots it moves, or stays, and lies somewhere.
        first: int64[n], the first slot of each path.
        end: int64[n], the slot after its last; of none the path ends where it began.

    Returns:
        int64[n, tiers].
    """
    slots, tiers = room.shape
    found = np.full((len(first), tiers), NEVER, np.int64)
    level = np.empty(len(first), np.int64)
    levels = 0
    for q in range(len(first)):
        level[q] = -1
        if end[q] <= first[q]:
            found[q, 0] = 0
            continue
        apart = first[q] ^ (end[q] - 1)
        level[q] = 0
        while apart:
            level[q] += 1
            apart >>= 1
        levels = max(levels, level[q] + 1)
    product = np.empty((slots, tiers, tiers), np.int64)
    for height in range(levels):
        filled = False
        for q in range(len(first)):
            if level[q] != height:
                continue
            if not filled:
                _products(room, move, height, product)
                filled = True
            a, b = first[q], end[q] - 1
            for j in range(tiers):
                if height == 0:
                    found[q, j] = product[a, 0, j]
                    continue
                for i in range(tiers):
                    found[q, j] = min(found[q, j], product[a, 0, i] + product[b, i, j])
    return found


@kernel
def _products(room: _Ints, move: _Ints, height: int, product: _Ints) -> None:
    """Fill in products from each slot to the middle of its range of 2^height slots, or from there.

    Slots before the middle hold the product from themselves up to it, those after it the product
    from it up to themselves; at height 0 each holds itself.
    """
    slots, tiers = room.shape
    half = 1 << (height - 1) if height else 0
    for middle in range(half, slots, 2 * half if height else 1):
        for t in range(middle, min(middle + max(half, 1), slots)):
            for i in range(tiers):
                for j in range(tiers):
                    best = NEVER
                    if t == middle:
                        best = move[t, i, j]
                    else:
                        for m in range(tiers):
                            best = min(best, product[t - 1, i, m] + move[t, m, j])
                    product[t, i, j] = min(NEVER, best + room[t, j])
        for t in range(middle - 1, middle - half - 1, -1):
            for i in range(tiers):
                for j in range(tiers):
                    best = NEVER
                    for m in range(tiers):
                        onward = room[t, m]
                        if t == middle - 1:
                            onward += 0 if m == j else NEVER
                        else:
                            onward += product[t + 1, m, j]
                        best = min(best, move[t, i, m] + onward)
                    product[t, i, j] = min(NEVER, best)
