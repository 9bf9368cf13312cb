"""Placements that never move a page: first-fill, and HBM without a limit."""

from dataclasses import replace

import numpy as np

from vsim.sim.schedules.cost import Cost, evaluate
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads


def static_first_fill(reads: PageReads, tiers: TwoTiers, resident: Bools) -> Schedule:
    """Leave pages where the start put them.

    for each page in HBM at the start: it stays
    for each page that decode writes, while HBM has room: it stays where it was written
    """
    start = np.flatnonzero(resident)
    late = np.flatnonzero(reads.born >= 0)
    late = late[np.argsort(reads.born[late], kind="stable")]
    late = late[reads.born[late] + 1 < reads.steps][: max(tiers.hbm_pages - len(start), 0)]
    page = np.concatenate([start, late])
    first = np.concatenate([np.zeros(len(start), np.int64), reads.born[late] + 1])
    return Schedule.of(page, first, np.full(len(page), reads.steps - 1))


def unlimited_hbm(reads: PageReads, tiers: TwoTiers) -> Cost:
    """Time the same reads with every page in HBM. No bound: two tiers together can be faster."""
    roomy = replace(tiers, hbm_pages=reads.n_pages)
    everything = static_first_fill(reads, roomy, reads.born < 0)
    return evaluate(reads, roomy, everything, reads.born < 0)
