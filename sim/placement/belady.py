"""Belady with bypass: keep the pages whose next read is nearest. An oracle."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def belady(
    reads: PageReads, tiers: TwoTiers, resident: Bools, *, error: float = 0.0, seed: int = 0
) -> Schedule:
    """Keep, of the pages in HBM and those just read, the ones whose next read is nearest.

    for each step t:
        for each page that t read: file it under its next read, if there is one
        while more than k pages are filed: drop one of those with the farthest next read

    It never prefetches and does not look at the bandwidths.

    Args:
        reads, tiers, resident: the case.
        error: share of the predictions of a next read that are wrong: how far away it is, is taken
            from another read of the trace. 1 knows only how far away reads are in general.
        seed: of the errors.
    """
    upcoming = next_reads(reads, resident)[1]
    if error > 0:
        upcoming = _with_errors(reads, upcoming, error, seed)
    page, first, last, n = _belady(reads.offsets, reads.pages, resident, tiers.hbm_pages, upcoming)
    return Schedule.of(page[:n], first[:n], last[:n])


def _with_errors(reads: PageReads, upcoming: Int32s, error: float, seed: int) -> Int32s:
    draw = np.random.Generator(np.random.PCG64(seed))
    n = len(upcoming) - reads.reads
    step = np.repeat(np.arange(reads.steps, dtype=np.int32), reads.reads_per_step)
    away = upcoming[n:] - step
    # A prediction of "never" is one of a distance, too: it ends beyond the trace.
    away[upcoming[n:] == reads.steps] = reads.steps
    wrong = draw.random(reads.reads) < error
    away[wrong] = draw.permutation(away)[wrong]
    guessed = np.minimum(step + away, reads.steps)
    return np.concatenate([upcoming[:n], guessed]).astype(np.int32)


def next_reads(reads: PageReads, resident: Bools) -> tuple[Int32s, Int32s]:
    """Find when each page is read next.

    Returns:
        after: int32[reads], the step of the page's next read after this one, T if there is none.
        first: int32[n_pages + reads]: the step of each page's first read, then `after`.
    """
    joined = _next_reads(reads.offsets, reads.pages, len(resident))
    return joined[len(resident) :], joined


@kernel
def _next_reads(offsets: Int64s, pages: Int32s, n_pages: int) -> Int32s:
    steps = len(offsets) - 1
    found = np.empty(n_pages + len(pages), np.int32)
    upcoming = np.full(n_pages, steps, np.int32)
    for t in range(steps - 1, -1, -1):
        for i in range(offsets[t], offsets[t + 1]):
            p = pages[i]
            found[n_pages + i] = upcoming[p]
            upcoming[p] = t
    for p in range(n_pages):
        found[p] = upcoming[p]
    return found


@kernel
def _belady(
    offsets: Int64s, pages: Int32s, resident: Bools, room: int, upcoming: Int32s
) -> tuple[Int32s, Int32s, Int32s, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    # One doubly linked list of resident pages for each next read; heads are at n_pages + step.
    after = np.arange(n_pages + steps + 1).astype(np.int32)
    before = np.arange(n_pages + steps + 1).astype(np.int32)
    since = np.full(n_pages, -1, np.int32)
    used = 0
    far = 0  # no list beyond this step holds a page
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            used += 1
            head = n_pages + upcoming[p]
            after[p], before[p] = after[head], head
            before[after[head]] = p
            after[head] = p
            far = max(far, upcoming[p])
    size = len(pages) + n_pages
    page_of = np.empty(size, np.int32)
    first_of = np.empty(size, np.int32)
    last_of = np.empty(size, np.int32)
    n = 0
    for t in range(steps):
        for i in range(offsets[t], offsets[t + 1]):
            p = pages[i]
            use = upcoming[n_pages + i]
            if since[p] >= 0:
                after[before[p]] = after[p]
                before[after[p]] = before[p]
                if use == steps:
                    page_of[n] = p
                    first_of[n] = since[p]
                    last_of[n] = t
                    n += 1
                    since[p] = -1
                    used -= 1
                    continue
            elif use == steps:
                continue
            else:
                since[p] = t + 1
                used += 1
            head = n_pages + use
            after[p], before[p] = after[head], head
            before[after[head]] = p
            after[head] = p
            far = max(far, use)
        while used > room:
            while after[n_pages + far] == n_pages + far:
                far -= 1
            p = after[n_pages + far]
            after[before[p]] = after[p]
            before[after[p]] = before[p]
            if since[p] <= t:
                page_of[n] = p
                first_of[n] = since[p]
                last_of[n] = t
                n += 1
            since[p] = -1
            used -= 1
    for p in range(n_pages):
        if 0 <= since[p] < steps:
            page_of[n] = p
            first_of[n] = since[p]
            last_of[n] = steps - 1
            n += 1
    return page_of, first_of, last_of, n
