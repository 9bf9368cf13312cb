"""The page oracle: one step ahead it knows what is read, and promotes it. An oracle."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def page_oracle(reads: PageReads, tiers: TwoTiers, resident: Bools) -> Schedule:
    """Before each step, promote what it will read, in the place of what it will not.

    for each step t > 0:
        for each page that t will read and that is not in HBM:
            if HBM is full: evict a page that t will not read; without one: stop
            promote the page before t

    Perfect knowledge of one step, no look at the channel: the gap to the bound is what greed costs.
    """
    page, first, last, n = _page_oracle(
        reads.offsets, reads.pages, reads.born, resident, tiers.hbm_pages
    )
    return Schedule.of(page[:n], first[:n], last[:n])


@kernel
def _page_oracle(
    offsets: Int64s, pages: Int32s, born: Int32s, resident: Bools, room: int
) -> tuple[Int32s, Int32s, Int32s, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    since = np.full(n_pages, -1, np.int32)
    slot = np.empty(max(room, 1), np.int32)
    needed = np.full(n_pages, -1, np.int32)
    used = 0
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            slot[used] = p
            used += 1
    size = len(pages) + n_pages
    page_of = np.empty(size, np.int32)
    first_of = np.empty(size, np.int32)
    last_of = np.empty(size, np.int32)
    n = 0
    hand = 0
    for t in range(1, steps):
        for i in range(offsets[t], offsets[t + 1]):
            needed[pages[i]] = t
        tried = 0
        for i in range(offsets[t], offsets[t + 1]):
            p = pages[i]
            if since[p] >= 0 or born[p] >= t:
                continue
            if used < room:
                slot[used] = p
                used += 1
            else:
                while tried < room and needed[slot[hand]] == t:
                    hand = (hand + 1) % room
                    tried += 1
                if tried >= room:
                    break
                q = slot[hand]
                page_of[n] = q
                first_of[n] = since[q]
                last_of[n] = t - 1
                n += 1
                since[q] = -1
                slot[hand] = p
            since[p] = t
    for p in range(n_pages):
        if since[p] >= 0:
            page_of[n] = p
            first_of[n] = since[p]
            last_of[n] = steps - 1
            n += 1
    return page_of, first_of, last_of, n
