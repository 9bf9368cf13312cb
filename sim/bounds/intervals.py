"""`Intervals`: the stretches between two reads of a page, with equal ones merged."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

NOT_BEFORE = -2
"""Start of an interval whose page can't be in HBM at the start: only a promotion gets it there."""


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Groups of reads with the same start and end, ordered by end, then start.

    Attributes:
        start: int32[n]: the previous read or the birth of the page; −1: it may be in HBM from step
            0 on; NOT_BEFORE: first read of a page that may not.
        end: int32[n], the step of the read.
        count: int64[n], reads in the group.
        group_of_read: int32[reads], in the order of PageReads.pages.
        steps: T.
    """

    start: Int32s
    end: Int32s
    count: Int64s
    group_of_read: Int32s
    steps: int

    @staticmethod
    def of(reads: PageReads, may_start_resident: Bools) -> "Intervals":
        """Group the reads. O(reads + groups log groups)."""
        start, end, count, group = _group(
            reads.offsets, reads.pages, reads.born, may_start_resident
        )
        return Intervals(start, end, count, group, reads.steps)

    @property
    def keepable(self) -> npt.NDArray[np.bool_]:
        """bool[n]: pages of the group may stay in HBM from the start of the interval on."""
        return self.start >= -1

    def schedule(
        self, reads: PageReads, group: Int64s, first: Int64s, pages_of_each: Int64s
    ) -> Schedule:
        """Turn page counts into a schedule.

        Args:
            reads: what the groups were made of.
            group, first, pages_of_each: `pages_of_each[i]` pages of `group[i]` are in HBM from
                step `first[i]` until the group's end; a page is taken once, lowest number first.
        """
        order = np.lexsort((first, group))
        page, start, end = _materialise(
            reads.offsets, reads.pages, self.group_of_read, len(self.start), self.end,
            group[order], first[order], pages_of_each[order],
        )  # fmt: skip
        return Schedule.of(page, start, end)


@kernel
def _group(
    offsets: Int64s, pages: Int32s, born: Int32s, start: Bools
) -> tuple[Int32s, Int32s, Int64s, Int32s]:
    steps = len(offsets) - 1
    last = np.empty(len(born), np.int32)
    for p in range(len(born)):
        last[p] = born[p] if born[p] >= 0 else (-1 if start[p] else -2)
    group_of_read = np.empty(len(pages), np.int32)
    capacity = 1024
    starts = np.empty(capacity, np.int32)
    ends = np.empty(capacity, np.int32)
    counts = np.empty(capacity, np.int64)
    n = 0
    here = np.zeros(steps + 2, np.int64)  # reads of this step with start s, at s + 2
    name = np.zeros(steps + 2, np.int32)
    found = np.empty(steps + 2, np.int64)
    for e in range(steps):
        lo, hi = offsets[e], offsets[e + 1]
        kinds = 0
        for i in range(lo, hi):
            s = last[pages[i]] + 2
            if here[s] == 0:
                found[kinds] = s
                kinds += 1
            here[s] += 1
        if n + kinds > capacity:
            capacity = 2 * (n + kinds)
            starts = np.concatenate((starts[:n], np.empty(capacity - n, np.int32)))
            ends = np.concatenate((ends[:n], np.empty(capacity - n, np.int32)))
            counts = np.concatenate((counts[:n], np.empty(capacity - n, np.int64)))
        in_order = np.sort(found[:kinds])
        for s in in_order:
            starts[n] = s - 2
            ends[n] = e
            counts[n] = here[s]
            name[s] = n
            here[s] = 0
            n += 1
        for i in range(lo, hi):
            group_of_read[i] = name[last[pages[i]] + 2]
            last[pages[i]] = e
    return starts[:n].copy(), ends[:n].copy(), counts[:n].copy(), group_of_read


@kernel
def _materialise(
    offsets: Int64s,
    pages: Int32s,
    group_of_read: Int32s,
    groups: int,
    end: Int32s,
    group: Int64s,
    first: Int64s,
    take: Int64s,
) -> tuple[Int64s, Int64s, Int64s]:
    """Hand each group's reads out to its entries in order."""
    cursor = np.zeros(groups + 1, np.int64)  # the group's current entry in `group`
    for i in range(len(group)):
        cursor[group[i] + 1] += 1
    for g in range(groups):
        cursor[g + 1] += cursor[g]
    stop = cursor[1:].copy()
    left = take.copy()
    total = np.int64(0)
    for i in range(len(take)):
        total += take[i]
    page_of = np.empty(total, np.int64)
    first_of = np.empty(total, np.int64)
    last_of = np.empty(total, np.int64)
    n = 0
    for i in range(len(pages)):
        g = group_of_read[i]
        while cursor[g] < stop[g] and left[cursor[g]] == 0:
            cursor[g] += 1
        if cursor[g] < stop[g]:
            entry = cursor[g]
            left[entry] -= 1
            page_of[n] = pages[i]
            first_of[n] = first[entry]
            last_of[n] = end[g]
            n += 1
    return page_of[:n], first_of[:n], last_of[:n]
