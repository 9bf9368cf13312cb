"""`TierIntervals`: the stretches between two reads of a page, where pages may change tiers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TierIntervals:
    """Intervals after step s, up to and with step e (T: until the end), with their sizes.

    s = −1 − tier: pages that start in that tier; −1 − K: free choice.
    """

    start: Int64s
    end: Int64s
    count: Int64s
    births: Int64s  # pages that enter HBM at each step

    @staticmethod
    def of(reads: PageReads, stack: TierStack, start: Int32s) -> "TierIntervals":
        """Cut every page's timeline at its reads and merge equal intervals."""
        steps = reads.steps
        begin = np.where(start == FREE, -1 - stack.tiers, -1 - start).astype(np.int64)
        begin = np.where(reads.born >= 0, reads.born, begin)
        s, e = _intervals(reads.offsets, reads.pages, reads.born, begin)
        exists = s < steps
        key, count = np.unique(
            (s[exists] + stack.tiers + 1) * (steps + 1) + e[exists], return_counts=True
        )
        births = np.bincount(reads.born[reads.born >= 0], minlength=steps)[:steps]
        return TierIntervals(
            key // (steps + 1) - stack.tiers - 1, key % (steps + 1), count, births.astype(np.int64)
        )


@kernel
def _intervals(
    offsets: Int64s, pages: Int32s, born: Int32s, begin: Int64s
) -> tuple[Int64s, Int64s]:
    """Start and end of each interval; a page's last one ends at T. A read at birth ends none."""
    steps = len(offsets) - 1
    last = begin.copy()
    n = 0
    s = np.empty(len(pages) + len(born), np.int64)
    e = np.empty(len(pages) + len(born), np.int64)
    for t in range(steps):
        for i in range(offsets[t], offsets[t + 1]):
            p = pages[i]
            if born[p] != t:
                s[n] = last[p]
                e[n] = t
                n += 1
            last[p] = t
    for p in range(len(born)):
        s[n] = last[p]
        e[n] = steps
        n += 1
    return s[:n], e[:n]
