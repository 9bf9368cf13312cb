"""Belady's rule with bypass on a tree of prefixes: keep what is used again soonest.

After each request the cache holds, of all blocks in it and all of the request's, those that are
used again first. Of blocks that are used next by the same request the deeper goes first, so that
what stays is found. Equal blocks of equal worth can't be kept better.
"""

from heapq import heappop, heappush

import numpy as np

from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.traces.prefix_reuse import PrefixReuse


def belady(reuse: PrefixReuse, blocks: int) -> KeptPrefixes:
    """Decide for each run how much of it a cache of so many blocks keeps."""
    kept = reuse.count.copy()
    request, last_use, count = reuse.request, reuse.last_use, reuse.count
    starting = np.argsort(last_use, kind="stable")
    runs = len(starting)
    held = at = ended = 0
    farthest: list[tuple[int, int]] = []  # next use and run, both negative: the deepest run first
    while at < runs:
        slot = int(last_use[starting[at]])
        while ended < runs and request[ended] <= slot:
            held -= int(kept[ended])
            ended += 1
        while at < runs and last_use[starting[at]] == slot:
            run = int(starting[at])
            heappush(farthest, (-int(request[run]), -run))
            held += int(count[run])
            at += 1
        while held > blocks:
            run = -farthest[0][1]
            gone = min(held - blocks, int(kept[run]))
            kept[run] -= gone
            held -= gone
            if kept[run] == 0:
                heappop(farthest)
    return KeptPrefixes(reuse, kept)
