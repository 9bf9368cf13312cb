"""LRU over pages: keep what was read last, with or without balancing the two bandwidths."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.sharing import share_reads
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def lru(reads: PageReads, tiers: TwoTiers, resident: Bools, *, balanced: bool = False) -> Schedule:
    """Keep every page that was streamed in, in the place of the page not read for longest.

    for each step t:
        for each page that t read from the slow tier:
            if HBM is full: evict the page with the oldest last read, if it is older than t
            keep the page from t + 1 on

    Balanced: reads are shared with the slow tier in the end (`sharing.py`). The queue of pages by
    last read is the trace itself: a read is live while it is its page's last.
    """
    page, first, last, n = _lru(reads.offsets, reads.pages, resident, tiers.hbm_pages)
    schedule = Schedule.of(page[:n], first[:n], last[:n])
    return share_reads(reads, tiers, schedule) if balanced else schedule


@kernel
def _lru(
    offsets: Int64s,
    pages: Int32s,
    resident: Bools,
    hbm_pages: int,
) -> tuple[Int32s, Int32s, Int32s, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    last = np.full(n_pages, -1, np.int32)  # step of the page's last read
    since = np.full(n_pages, -1, np.int32)  # first step of its residency, −1: not in HBM
    used = 0
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            used += 1
    size = len(pages) + n_pages
    page_of = np.empty(size, np.int32)
    first_of = np.empty(size, np.int32)
    last_of = np.empty(size, np.int32)
    n = 0
    missed = np.empty(n_pages, np.int32)
    unread = 0  # pages before this one were in HBM at the start and are read or evicted
    queue, queue_step = np.int64(0), 0
    for t in range(steps):
        misses = 0
        lo, hi = offsets[t], offsets[t + 1]
        for i in range(lo, hi):
            p = pages[i]
            last[p] = t
            # Written always, counted only if it is a miss: no branch to predict.
            missed[misses] = p
            misses += since[p] < 0
        if t + 1 == steps:
            break
        for j in range(misses):
            while used >= hbm_pages and used > 0:
                while unread < n_pages and (since[unread] != 0 or last[unread] >= 0):
                    unread += 1
                if unread < n_pages:
                    victim = unread
                else:
                    while queue_step < t:
                        while queue < offsets[queue_step + 1]:
                            p = pages[queue]
                            if since[p] >= 0 and last[p] == queue_step:
                                break
                            queue += 1
                        if queue < offsets[queue_step + 1]:
                            break
                        queue_step += 1
                    if queue_step >= t:
                        break
                    victim = pages[queue]
                page_of[n] = victim
                first_of[n] = since[victim]
                last_of[n] = t
                n += 1
                since[victim] = -1
                used -= 1
            if used >= hbm_pages:
                break
            since[missed[j]] = t + 1
            used += 1
    for p in range(n_pages):
        if since[p] >= 0:
            page_of[n] = p
            first_of[n] = since[p]
            last_of[n] = steps - 1
            n += 1
    return page_of, first_of, last_of, n
