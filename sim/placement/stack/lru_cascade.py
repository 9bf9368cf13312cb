"""LRU cascade: what is read goes to HBM, and each tier's victim one tier down."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.stack.cascade import mark_reads, served, settle
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.schedule import TierSchedule

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BALANCE_GAIN = 0.02


def lru_cascade(case: StackCase, *, balanced: bool = False) -> TierSchedule:
    """Rank pages by their last read.

    for each step t:
        balanced: for each tier i above the last, with b = the bandwidth of the tiers below it:
            grow the room in use by 2 % · B_i/(B_i + b) if one of them took longer than i, else
            shrink it by 2 % · b/(B_i + b): at rest all tiers finish together. Where tiers are
            exclusive it is not room that grows and shrinks, for to empty it would be paid, but the
            share of the pages below that may move to HBM as they are read
        each page that t reads goes to HBM (from t + 1 on if the last tier has copies)
        while a tier holds more than its room: its page with the oldest last read goes one tier down

    A page that t reads never gives way to another one that t reads.
    """
    stack, reads = case.stack, case.reads
    bandwidth = np.array(stack.bytes_per_s)
    table = _lru_cascade(
        reads.offsets, reads.pages, reads.born, case.starts().astype(np.int8), stack.room(),
        stack.exclusive, bandwidth / reads.page_bytes, BALANCE_GAIN if balanced else 0.0,
        stack.weight_bytes / reads.page_bytes,
    )  # fmt: skip
    return TierSchedule.of_table(table, stack.tiers - 1)


@kernel
def _lru_cascade(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    start: Int8s,
    room: Int64s,
    exclusive: bool,
    pages_per_s: Floats,
    gain: float,
    weight_pages: float,
) -> Int8s:
    steps, n, last = len(offsets) - 1, len(born), len(room)
    where = np.full((n, steps), last, np.int8)
    here = start.copy()
    score = np.full(n, -1.0)
    newborn = np.zeros(n, np.bool_)
    candidate = np.zeros(n, np.bool_)
    left_out = np.zeros(n, np.bool_)
    none = np.zeros(last, np.int64)
    no_margin = np.zeros(last)
    budget = np.full(last, n, np.int64)
    in_use = room.copy()
    fill = np.ones(last)
    count = np.zeros(last + 1, np.int64)
    came = np.zeros(last + 1, np.int64)
    for u in range(steps):
        known = u if exclusive else u - 1  # the newest step whose reads move pages at u
        served(offsets, pages, born, u, here, came)
        if known >= 0:
            mark_reads(offsets, pages, born, known, candidate, newborn, u)
            for p in range(n):
                if candidate[p]:
                    score[p] = known
                elif newborn[p]:
                    score[p] = u - 1
                candidate[p] = candidate[p] and born[p] < u
            if exclusive and gain > 0.0:
                waiting = 0
                for p in range(n):
                    waiting += newborn[p] or (candidate[p] and here[p] > 0)
                budget[0] = np.int64(waiting * fill[0])
            settle(here, newborn, candidate, score, in_use, none, no_margin, budget, left_out)
        for p in range(n):
            if born[p] < u:
                where[p, u] = here[p]
        if gain > 0.0:
            served(offsets, pages, born, u, here, count)
            if exclusive:
                # A page that moves up while it is read has loaded the channel that it came by.
                for i in range(1, len(count)):
                    count[i] = came[i]
            below_s, below = count[last] / pages_per_s[last], pages_per_s[last]
            for q in range(last):
                i = last - 1 - q
                mine_s = (count[i] + (weight_pages if i == 0 else 0.0)) / pages_per_s[i]
                slower = 1.0 if below_s > mine_s else 0.0
                aim = below / (pages_per_s[i] + below)
                fill[i] = min(max(fill[i] + gain * (slower - aim), 0.0), 1.0)
                if not exclusive:
                    in_use[i] = np.int64(room[i] * fill[i])
                below_s = max(below_s, mine_s)
                below += pages_per_s[i]
    return where
