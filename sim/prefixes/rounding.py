"""Whole blocks from the shares of the linear program: a schedule that is close to its bound.

At a vertex few runs are kept in part. Those kept whole come first, then the others by their share
and by what they save for their room; each takes what is free in every slot that it lies in, after
the runs before it in its request.
"""

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


def rounded(
    reuse: PrefixReuse, worth: Worth, blocks: int, shares: NDArray[np.float64]
) -> KeptPrefixes:
    """Keep whole blocks, by the shares of each run that a program kept."""
    saved = worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]
    density = saved / (reuse.count * (reuse.request - reuse.last_use))
    order = np.lexsort((-density, -np.round(shares, 6)))
    before = np.arange(len(order)) - 1
    before[np.flatnonzero(np.append(-1, reuse.request[:-1]) != reuse.request)] = -1
    kept = _filled(
        order, before, reuse.last_use, reuse.request, reuse.count, reuse.requests, blocks
    )
    return KeptPrefixes(reuse, kept)


@kernel
def _filled(
    order: _Ints, before: _Ints, first: _Ints, end: _Ints, count: _Ints, slots: int, blocks: int
) -> _Ints:
    """Fill the slots in an order; again and again, since a run may come before the one it needs."""
    kept = np.zeros(len(order), np.int64)
    held = np.zeros(slots, np.int64)
    grew = True
    while grew:
        grew = False
        for run in order:
            if kept[run] == count[run]:
                continue
            if before[run] >= 0 and kept[before[run]] < count[before[run]]:
                continue
            room = count[run] - kept[run]
            for t in range(first[run], end[run]):
                room = min(room, blocks - held[t])
                if room <= 0:
                    break
            if room > 0:
                kept[run] += room
                grew = True
                for t in range(first[run], end[run]):
                    held[t] += room
    return kept
