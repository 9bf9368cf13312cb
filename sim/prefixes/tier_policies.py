"""Policies of prefix caches over tiers: what each finds where.

LRU is one stack over all tiers: what is used comes to its top in tier 0, and what no longer has
room in a tier goes down one (exclusive). Other online policies keep copies: every block is written
to each tier, and each decides for itself what it keeps, as engines do that offload to a store which
looks after itself; what is found is what some one tier holds of a prompt's leading blocks, each
block in the first tier that has it.
"""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_descent import Descent
from vsim.sim.bounds.prefix_tiers import TierCase
from vsim.sim.compiled import kernel
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


def lru_over_tiers(reuse: PrefixReuse, blocks: tuple[int, ...]) -> _Ints:
    """Blocks of each run that one LRU stack over tiers holds in each: int64[runs, tiers].

    The stack of one cache as large as all tiers, cut at their sizes: a block moves up only when it
    is used, and what it displaces goes down in order of last use, so that tier 0 always holds the
    top of the stack, and so on down.
    """
    upto = np.cumsum(blocks)[None, :] - reuse.above[:, None]
    held: _Ints = np.clip(upto, 0, reuse.count[:, None])
    held[:, 1:] -= held[:, :-1].copy()
    return held


def belady_over_tiers(reuse: PrefixReuse, blocks: tuple[int, ...]) -> _Ints:
    """Demote, of what a tier holds, what is used again last, the deepest first.

    From the last tier it is dropped. Nothing moves up before it is used.

    Returns:
        int64[runs, tiers], the blocks of each run that lie in each when they are used again.
    """
    tiers = len(blocks)
    kept = np.zeros((len(reuse.count), tiers), np.int64)
    request, count = reuse.request, reuse.count
    starting = np.argsort(reuse.last_use, kind="stable")
    farthest: list[list[tuple[int, int]]] = [[] for _ in blocks]
    held = [0] * tiers
    at = ended = 0
    while at < len(starting):
        slot = int(reuse.last_use[starting[at]])
        while ended < len(starting) and request[ended] <= slot:
            for tier in range(tiers):
                held[tier] -= int(kept[ended, tier])
            ended += 1
        while at < len(starting) and reuse.last_use[starting[at]] == slot:
            run = int(starting[at])
            heappush(farthest[0], (-int(request[run]), -run))
            kept[run, 0] = count[run]
            held[0] += int(count[run])
            at += 1
        for tier, room in enumerate(blocks):
            while held[tier] > room:
                run = -farthest[tier][0][1]
                gone = min(held[tier] - room, int(kept[run, tier]))
                kept[run, tier] -= gone
                held[tier] -= gone
                if kept[run, tier] == 0:
                    heappop(farthest[tier])
                if tier + 1 < tiers and gone:
                    if kept[run, tier + 1] == 0:
                        heappush(farthest[tier + 1], (-int(request[run]), -run))
                    kept[run, tier + 1] += gone
                    held[tier + 1] += gone
    return kept


def rounded_over_tiers(case: TierCase, descent: Descent) -> _Ints:
    """Whole blocks from the shares in which a descent kept runs, each in one tier from use to use.

    Runs come by their share, then by what they save for their room; each takes what is free in all
    slots that it lies in, first as much of each tier as the shares say, then anything; at last what
    has room in a faster tier moves there.

    Returns:
        int64[runs, tiers], as `belady_over_tiers`.
    """
    reuse, worth = case.reuse, case.worth
    saved = worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]
    density = saved / (reuse.count * np.maximum(reuse.request - reuse.last_use, 1))
    order = np.lexsort((-density, -np.round(descent.shares, 2)))
    before = np.arange(len(order)) - 1
    before[np.flatnonzero(np.append(-1, reuse.request[:-1]) != reuse.request)] = -1
    by_load = np.argsort([float(load) for load in case.tiers.load_s], kind="stable")
    rooms = np.array(case.tiers.parts, np.int64)[by_load]
    wanted = np.rint(descent.within * reuse.count[:, None]).astype(np.int64)
    wanted = np.diff(wanted, axis=1, prepend=0)
    kept = _filled(
        order, before, reuse.last_use, reuse.request, reuse.count, wanted, rooms, reuse.requests
    )
    back = np.empty_like(kept)
    back[:, by_load] = kept
    return back


@kernel
def _free(held: _Ints, room: int, first: int, end: int, most: int) -> int:
    """How many more blocks, up to `most`, have room in all slots."""
    for t in range(first, end):
        most = min(most, room - held[t])
        if most <= 0:
            return 0
    return most


@kernel
def _filled(
    order: _Ints, before: _Ints, first: _Ints, end: _Ints, count: _Ints, wanted: _Ints,
    rooms: _Ints, slots: int,
) -> _Ints:  # fmt: skip
    """Fill slots in an order; again and again, since a run may come before the one it needs."""
    tiers = len(rooms)
    kept = np.zeros((len(order), tiers), np.int64)
    all_kept = np.zeros(len(order), np.int64)
    held = np.zeros((tiers, slots), np.int64)
    by_share = True
    grew = True
    while grew or by_share:
        by_share = by_share and grew
        grew = False
        for run in order:
            if all_kept[run] == count[run]:
                continue
            if before[run] >= 0 and all_kept[before[run]] < count[before[run]]:
                continue
            for j in range(tiers):
                most = count[run] - all_kept[run]
                if by_share:
                    most = min(most, wanted[run, j] - kept[run, j])
                more = _free(held[j], rooms[j], first[run], end[run], most)
                if more > 0:
                    kept[run, j] += more
                    all_kept[run] += more
                    held[j, first[run] : end[run]] += more
                    grew = True
    for run in order:
        for j in range(1, tiers):
            for up in range(j):
                more = _free(held[up], rooms[up], first[run], end[run], kept[run, j])
                if more > 0:
                    kept[run, up] += more
                    kept[run, j] -= more
                    held[up, first[run] : end[run]] += more
                    held[j, first[run] : end[run]] -= more
    return kept
