"""`settle`: the cascade that LRU, ranked and Belady placements share; they differ in the ranking.

A step's new candidates compete for HBM with the pages in it; what is displaced competes for the
tier below, and so on down. Inclusive: candidates for step u are the pages that u − 1 read or wrote,
for they may stay in HBM for nothing. Exclusive: those that u reads itself, for to move a page up
while it is read takes its channel no longer than to read it there.
"""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.stable_order import stable_order

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@kernel
def settle(
    here: Int8s,
    newborn: Bools,
    candidate: Bools,
    score: Floats,
    room: Int64s,
    bypass: Int64s,
    margin: Floats,
    budget: Int64s,
    left_out: Bools,
) -> None:
    """Decide where pages are at one step; O(pages · K + pool · log pool).

    for each tier i above the last:
        pool = its pages, in front of: new pages, candidates from below, and what tiers above
            displaced
        order the pool by score, pages of the tier with margin[i] on top
        leave out the first bypass[i] of the pool
        take the next room[i], of those that enter at most budget[i]
        what it held and does not take is displaced

    A tie goes to the page that is there, then of those the one with the higher number, of those
    that enter the one with the lower. What no tier takes stays where it was, or goes to the last
    tier if it was displaced or is new.

    Args:
        here: int8[n_pages], the tiers one step before; changed in place.
        newborn: bool[n_pages], pages written in the step before; in HBM without counting there.
        candidate: bool[n_pages], pages that may move up.
        score: float64[n_pages], higher is to be kept; −inf: not to be taken by any tier.
        room: int64[K − 1].
        bypass: int64[K − 1], the best pages to leave to lower tiers.
        margin: float64[K − 1], added to the score of a page that is in the tier.
        budget: int64[K − 1], pages that may enter each tier.
        left_out: bool[n_pages], set for bypassed pages.
    """
    n = len(here)
    last = len(room)
    pool = np.empty(n, np.int32)
    value = np.empty(n)
    source = here.copy()
    displaced = newborn.copy()
    placed = np.zeros(n, np.bool_)
    left_out[:] = False
    for i in range(last):
        m = 0
        for q in range(n):
            p = n - 1 - q
            if source[p] == i and not newborn[p] and not placed[p]:
                pool[m] = p
                value[m] = -(score[p] + margin[i])
                m += 1
        mine = m
        for p in range(n):
            enters = displaced[p] or (candidate[p] and source[p] > i)
            if enters and not placed[p] and score[p] > -np.inf:
                pool[m] = p
                value[m] = -score[p]
                m += 1
        if m == mine and mine <= room[i] and bypass[i] == 0:
            for j in range(mine):
                placed[pool[j]] = True
            continue
        order = stable_order(value[:m])
        skip = min(bypass[i], m)
        taken, entered = 0, 0
        for at in range(m):
            j = order[at]
            p = pool[j]
            takes = at >= skip and taken < room[i]
            if at < skip:
                left_out[p] = True
            if takes and j >= mine:
                takes = entered < budget[i]
                entered += takes
            if takes:
                taken += 1
                placed[p] = True
                here[p] = i
            elif j < mine:
                displaced[p] = True
    for p in range(n):
        if displaced[p] and not placed[p]:
            here[p] = last


@kernel
def mark_reads(
    offsets: Int64s, pages: Int32s, born: Int32s, t: int, candidate: Bools, newborn: Bools, u: int
) -> None:
    """Mark what step t reads as candidates, and what step u − 1 wrote as new."""
    candidate[:] = False
    for i in range(offsets[t], offsets[t + 1]):
        candidate[pages[i]] = True
    for p in range(len(born)):
        newborn[p] = born[p] >= 0 and born[p] == u - 1


@kernel
def served(
    offsets: Int64s, pages: Int32s, born: Int32s, t: int, here: Int8s, count: Int64s
) -> None:
    """Count the reads of step t by the tier that serves them, int64[K], in place."""
    count[:] = 0
    for i in range(offsets[t], offsets[t + 1]):
        p = pages[i]
        count[0 if born[p] == t else here[p]] += 1
