"""Sharing reads: both tiers hold a page that is in HBM, so either may serve a read of it."""

import math

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


_ALL_HBM = 1e30


def share_reads(reads: PageReads, tiers: TwoTiers, schedule: Schedule) -> Schedule:
    """Let the slow tier serve reads of pages in HBM while it would be done before HBM.

    for each step t, after the schedule's own moves:
        x = the number of hits that makes the step shortest if the slow tier serves them: both
            tiers take equally long for max(); h = s·(B1/B2)^(1/(p − 1)) for a p-norm
        leave x of the pages that t reads out of HBM at t, evenly spread over its hits, and have
            them back at t + 1, as if they had been streamed in by a miss

    It uses S_t at t and nothing later, so that an online schedule stays online. An exclusive slow
    tier has no copies to read; its schedule is returned as it is.

    Args:
        reads, tiers: the case.
        schedule: residency in HBM.
    """
    if tiers.exclusive or tiers.norm == 1:
        return schedule
    weight_pages = tiers.weight_bytes / reads.page_bytes
    written = np.zeros(reads.steps) if tiers.duplex else births(reads).astype(np.float64)
    order = np.argsort(schedule.first, kind="stable")
    stays = _share(
        reads.offsets, reads.pages, reads.born, written,
        schedule.page[order], schedule.first[order], schedule.last[order],
        tiers.ratio(), _slow_share(tiers), weight_pages,
    )  # fmt: skip
    return Schedule.of(*stays)


def _slow_share(tiers: TwoTiers) -> float:
    """h / s of `share_reads`: (B1/B2)^(1/(p − 1)), and `_ALL_HBM` where that is more.

    As p falls to 1 it leaves what floats hold, and the slow tier serves no read that it need not.
    """
    if math.isinf(tiers.norm):
        return 1.0
    exponent, ratio = 1 / (tiers.norm - 1), tiers.ratio()
    return _ALL_HBM if exponent * math.log(ratio) > math.log(_ALL_HBM) else ratio**exponent


@kernel
def _share(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    written: Floats,
    page: Int32s,
    first: Int32s,
    last: Int32s,
    ratio: float,
    factor: float,
    weight_pages: float,
) -> Int32s:
    """int32[3, n]: page, first and last step of each stay that remains."""
    stay_of = np.full(len(born), -1, np.int64)  # the page's present stay, the last one begun
    begun = first.copy()
    streamed_at = born.copy()  # step that last streamed the page in, or wrote it
    cut = np.empty((3, len(pages)), np.int32)
    n = 0
    at = 0
    for t in range(len(offsets) - 1):
        slow = written[t]
        while at < len(page) and first[at] == t:
            slow += t > 0 and streamed_at[page[at]] != t - 1  # a promotion that is paid
            stay_of[page[at]] = at
            at += 1
        lo, hi = offsets[t], offsets[t + 1]
        hits, newborn = 0, 0
        for i in range(lo, hi):
            p = pages[i]
            streamed_at[p] = t
            newborn += born[p] == t
            hits += stay_of[p] >= 0 and last[stay_of[p]] >= t
        slow += hi - lo - hits - newborn
        fast = (weight_pages + hits + newborn) / ratio
        # The x of fast − x/ratio = factor·(slow + x).
        x = (fast - factor * slow) * ratio / (1.0 + factor * ratio)
        shared = int(min(max(x, 0.0), float(hits)))  # before it is whole: it may not fit 64 bits
        if shared <= 0:
            continue
        passed = 0
        for i in range(lo, hi):
            p = pages[i]
            stay = stay_of[p]
            if stay < 0 or last[stay] < t:
                continue
            passed += shared
            if passed >= hits:
                passed -= hits
                cut[0, n], cut[1, n], cut[2, n] = p, begun[stay], t - 1
                n += 1
                begun[stay] = t + 1
    stays = np.empty((3, n + len(page)), np.int32)
    for i in range(n):
        stays[0, i], stays[1, i], stays[2, i] = cut[0, i], cut[1, i], cut[2, i]
    for i in range(len(page)):
        stays[0, n + i], stays[1, n + i], stays[2, n + i] = page[i], begun[i], last[i]
    return stays
