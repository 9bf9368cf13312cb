"""Retention that knows the next few steps: how much of the future a placement needs. An oracle."""

import numpy as np

from vsim.sim.placement.schedule import Schedule
from vsim.sim.placement.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

DECAY = 0.9


def lookahead(reads: PageReads, tiers: TwoTiers, resident: Bools, steps: int) -> Schedule:
    """Keep the pages that are read soonest within a few known steps, then the often read.

    for each step t:
        of the pages in HBM and those just read: keep k, first those that t + 1 reads, then those
        that t + 2 reads, … up to t + `steps`, then by the exponential average of their reads

    It promotes nothing: what it gains on an online policy is prediction alone.

    Args:
        reads, tiers, resident: the case.
        steps: how many steps it knows; 0: the exponential average alone.
    """
    here = resident.copy()
    average = np.zeros(reads.n_pages)
    since = np.where(resident, 0, -1)
    found: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]] = []
    for t in range(reads.steps - 1):
        read = _pages_of(reads, t)
        average *= DECAY
        average[read] += 1 - DECAY
        known = np.zeros(reads.n_pages)
        for j in range(min(steps, reads.steps - 1 - t), 0, -1):
            known[_pages_of(reads, t + j)] = steps + 2 - j
        wanted = here.copy()
        wanted[read] = True
        candidates = np.flatnonzero(wanted)
        stay = np.zeros(reads.n_pages, np.bool_)
        if len(candidates) > tiers.hbm_pages:
            # A stable order, so that the same input gives the same schedule everywhere.
            order = np.argsort(-np.maximum(known, average)[candidates], kind="stable")
            candidates = candidates[order[: tiers.hbm_pages]]
        stay[candidates] = True
        leaving = np.flatnonzero(here & ~stay)
        found.append((leaving, since[leaving], np.full(len(leaving), t)))
        since[stay & ~here] = t + 1
        here = stay
    last = np.flatnonzero(here)
    found.append((last, since[last], np.full(len(last), reads.steps - 1)))
    page, first, end = (np.concatenate(column) for column in zip(*found, strict=True))
    return Schedule.of(page, first, end)


def _pages_of(reads: PageReads, step: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return reads.pages[reads.offsets[step] : reads.offsets[step + 1]]
