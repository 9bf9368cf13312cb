"""Belady's rule with bypass on a tree of prefixes: keep what is used again soonest.

After each request the cache holds, of all blocks in it and all of the request's, those that are
used again first. Of blocks that are used next by the same request the deeper goes first, so that
what stays is found. Equal blocks of equal worth can't be kept better.
"""

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


def belady(reuse: PrefixReuse, blocks: int) -> KeptPrefixes:
    """Decide for each run how much of it a cache of so many blocks keeps."""
    starting = np.argsort(reuse.last_use, kind="stable")
    kept = _kept(starting, reuse.request, reuse.last_use, reuse.count, blocks)
    return KeptPrefixes(reuse, kept)


@kernel
def _kept(starting: _Ints, request: _Ints, last_use: _Ints, count: _Ints, blocks: int) -> _Ints:
    """Blocks of each run that are kept; runs lie in order of next use and, within it, of depth."""
    kept = count.copy()
    held = at = ended = 0
    farthest = [np.int64(0) for _ in range(0)]  # runs, negative: the last in order comes first
    while at < len(starting):
        slot = last_use[starting[at]]
        while ended < len(request) and request[ended] <= slot:
            held -= kept[ended]
            ended += 1
        while at < len(starting) and last_use[starting[at]] == slot:
            heappush(farthest, -starting[at])
            held += count[starting[at]]
            at += 1
        while held > blocks:
            run = -farthest[0]
            gone = min(held - blocks, kept[run])
            kept[run] -= gone
            held -= gone
            if kept[run] == 0:
                heappop(farthest)
    return kept
