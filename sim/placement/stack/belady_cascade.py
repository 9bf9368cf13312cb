"""Belady cascade with bypass: the nearer a page's next read, the higher its tier. An oracle."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.belady import next_reads
from vsim.sim.placement.stack.cascade import mark_reads, settle
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.schedule import TierSchedule

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def belady_cascade(case: StackCase) -> TierSchedule:
    """Rank pages by their next read.

    for each step t:
        for each page that t reads: it goes to HBM if its next read is nearer than that of a page
            there (from t + 1 on if the last tier has copies)
        while a tier holds more than its room: its page with the farthest next read, of those that
            t does not read where tiers are exclusive, goes to the tier below, if its next read is
            nearer than that of a page there, and so on down

    A page that is not read again is taken by no tier. It looks neither at bandwidths nor at what
    moves cost.
    """
    reads, stack = case.reads, case.stack
    no_page = np.zeros(reads.n_pages, np.bool_)
    table = _belady_cascade(
        reads.offsets, reads.pages, reads.born, case.starts().astype(np.int8), stack.room(),
        stack.exclusive, next_reads(reads, no_page)[1],
    )  # fmt: skip
    return TierSchedule.of_table(table, stack.tiers - 1)


@kernel
def _belady_cascade(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    start: Int8s,
    room: Int64s,
    exclusive: bool,
    upcoming: Int32s,
) -> Int8s:
    steps, n, last = len(offsets) - 1, len(born), len(room)
    where = np.full((n, steps), last, np.int8)
    here = start.copy()
    score = np.empty(n)
    next_read = upcoming[:n].copy()
    newborn = np.zeros(n, np.bool_)
    candidate = np.zeros(n, np.bool_)
    left_out = np.zeros(n, np.bool_)
    none = np.zeros(last, np.int64)
    no_margin = np.zeros(last)
    any_number = np.full(last, n, np.int64)
    for u in range(steps):
        known = u if exclusive else u - 1
        if known >= 0:
            for i in range(offsets[known], offsets[known + 1]):
                next_read[pages[i]] = upcoming[n + i]
            mark_reads(offsets, pages, born, known, candidate, newborn, u)
            for p in range(n):
                score[p] = -np.float64(next_read[p])
                if exclusive and candidate[p] and here[p] == 0 and not newborn[p]:
                    score[p] = 1.0  # it is being read where it is
                elif next_read[p] == steps:
                    score[p] = -np.inf
                candidate[p] = candidate[p] and born[p] < u
            settle(here, newborn, candidate, score, room, none, no_margin, any_number, left_out)
        for p in range(n):
            if born[p] < u:
                where[p, u] = here[p]
    return where
