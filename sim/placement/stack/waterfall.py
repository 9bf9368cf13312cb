"""Static first-fill waterfall: fill HBM, then the tier below, and never move a page again."""

import numpy as np

from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.schedule import TierSchedule


def waterfall(case: StackCase) -> TierSchedule:
    """Leave pages where the start put them, and new ones in the highest tier with room.

    for each page of the prompt: it stays in the tier where it starts
    for each page that decode writes: the first tier with a free slot takes it for good
    """
    reads, last = case.reads, case.stack.tiers - 1
    tier = case.starts()
    born = reads.born >= 0
    late = np.flatnonzero(born)
    late = late[np.argsort(reads.born[late], kind="stable")]
    late = late[reads.born[late] + 1 < reads.steps]
    tier[born] = last
    left = case.stack.room() - np.bincount(tier[~born], minlength=last + 1)[:last]
    ends = np.cumsum(left)
    tier[late] = np.searchsorted(ends, np.arange(len(late)), side="right")
    page = np.flatnonzero(tier < last)
    first = np.where(reads.born[page] >= 0, reads.born[page] + 1, 0)
    return TierSchedule.of(page, tier[page], first, np.full(len(page), reads.steps - 1))
