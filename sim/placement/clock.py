"""CLOCK over pages: one reference bit a page and a hand, with or without balancing."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.sharing import share_reads
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def clock(
    reads: PageReads, tiers: TwoTiers, resident: Bools, *, balanced: bool = False
) -> Schedule:
    """Keep pages that were streamed in; evict the next page whose reference bit is clear.

    for each step t:
        set the bits of the pages t read from HBM
        for each page that t streamed in:
            while HBM is full: move the hand on, clearing bits, to a page with its bit clear
            that t did not read; evict it. After two turns without one: stop
            keep the page in that slot from t + 1 on, bit clear

    Balanced: reads are shared with the slow tier in the end (`sharing.py`).
    """
    page, first, last, n = _clock(reads.offsets, reads.pages, resident, tiers.hbm_pages)
    schedule = Schedule.of(page[:n], first[:n], last[:n])
    return share_reads(reads, tiers, schedule) if balanced else schedule


@kernel
def _clock(
    offsets: Int64s,
    pages: Int32s,
    resident: Bools,
    hbm_pages: int,
) -> tuple[Int32s, Int32s, Int32s, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    slot = np.full(hbm_pages + 1, -1, np.int32)
    since = np.full(n_pages, -1, np.int32)
    referenced = np.zeros(n_pages, np.bool_)
    last_read = np.full(n_pages, -1, np.int32)
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
    missed = np.empty(n_pages, np.int32)
    hand = 0
    for t in range(steps):
        misses = 0
        lo, hi = offsets[t], offsets[t + 1]
        for i in range(lo, hi):
            p = pages[i]
            last_read[p] = t
            if since[p] < 0:
                missed[misses] = p
                misses += 1
            else:
                referenced[p] = True
        if t + 1 == steps or hbm_pages == 0:
            continue
        turns = 0  # slots passed in this step without an eviction
        for j in range(misses):
            p = missed[j]
            while used >= hbm_pages and used > 0:
                q = slot[hand]
                while turns < 2 * used and (referenced[q] or last_read[q] >= t):
                    referenced[q] = False
                    hand = (hand + 1) % used
                    q = slot[hand]
                    turns += 1
                if turns >= 2 * used:
                    break
                page_of[n] = q
                first_of[n] = since[q]
                last_of[n] = t
                n += 1
                since[q] = -1
                # The last slot moves into the hole; a new page takes the slot behind the hand.
                used -= 1
                slot[hand] = slot[used]
                if hand == used:
                    hand = 0
            if used >= hbm_pages:
                break
            slot[used] = slot[hand]
            slot[hand] = p
            used += 1
            hand = (hand + 1) % used
            since[p] = t + 1
            last_read[p] = t
            referenced[p] = False
    for p in range(n_pages):
        if since[p] >= 0:
            page_of[n] = p
            first_of[n] = since[p]
            last_of[n] = steps - 1
            n += 1
    return page_of, first_of, last_of, n
