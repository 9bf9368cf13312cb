"""Annealing over intervals: how many pages of each group of equal intervals stay in HBM. An oracle.

Pages whose intervals have the same start and end are interchangeable, so the state is one count a
group, and a change costs O(1) for the step's time and O(length) for the capacity.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.intervals import Intervals
from vsim.sim.compiled import kernel
from vsim.sim.placement.belady import belady
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

SWAP_REACH = 8
"""How many steps after a full one a swap looks for an interval to drop."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Pages held beside the counts that are annealed: what prefetches occupy and load.

    Attributes:
        occupancy, promotions, hits: int64[T].
        taken: int64[groups], reads of a group that they serve.
    """

    occupancy: Int64s
    promotions: Int64s
    hits: Int64s
    taken: Int64s

    @staticmethod
    def nothing(intervals: Intervals) -> "Held":
        """No prefetches."""
        zeros = np.zeros(intervals.steps, np.int64)
        return Held(zeros, zeros, zeros, np.zeros(len(intervals.start), np.int64))


def interval_annealing(
    reads: PageReads,
    tiers: TwoTiers,
    may_start_resident: Bools,
    *,
    proposals: int = 20_000_000,
    restarts: int = 2,
    seed: int = 0,
) -> Schedule:
    """Anneal from Belady's schedule; keep the best of the restarts.

    Each restart draws from its own stream of the seed and shares the proposals. The first starts
    warm, from a temperature of half a page on the channel; later ones start from the best so far,
    each at half the temperature of the one before.
    """
    intervals = Intervals.of(reads, may_start_resident)
    start = np.flatnonzero(may_start_resident)[: tiers.hbm_pages]
    resident = np.zeros(reads.n_pages, np.bool_)
    resident[start] = True
    kept = kept_pages(reads, intervals, belady(reads, tiers, resident))
    held = Held.nothing(intervals)
    temperature = 0.5
    for restart in range(restarts):
        kept = anneal(
            reads, tiers, intervals, kept, held,
            proposals=proposals // restarts, temperature=temperature, seed=seed + restart,
        )  # fmt: skip
        temperature /= 2
    return kept_schedule(reads, intervals, kept)


def anneal(
    reads: PageReads,
    tiers: TwoTiers,
    intervals: Intervals,
    kept: Int64s,
    held: Held,
    *,
    proposals: int,
    temperature: float,
    seed: int,
) -> Int64s:
    """Improve the counts of kept pages; return the best counts met, int64[groups].

    propose: draw a read; with the chance that its group keeps such a read, drop one page of the
    group, else keep one more. If a step of that interval is full, drop a page of another interval
    over that step in exchange. Accept by Metropolis while the temperature falls exponentially to
    a 1,000th.

    Args:
        reads, tiers, intervals: the case.
        kept: int64[groups], feasible counts to start from.
        held: what else is in HBM.
        proposals: how many to draw.
        temperature: the first one, in pages on the channel.
        seed: of the draws.
    """
    weight = tiers.weight_bytes / reads.page_bytes
    misses = reads.reads_per_step - held.hits + held.promotions
    if not tiers.exclusive and not tiers.duplex:
        misses = misses + births(reads)
    group_ends = np.searchsorted(intervals.end, np.arange(reads.steps + 1))
    # Reads that may be kept, as the group each belongs to: drawing one draws a group by its size.
    open_ = np.where(intervals.keepable, intervals.count - held.taken, 0)
    drawn = np.repeat(np.arange(len(open_), dtype=np.int32), open_)
    if len(drawn) == 0:
        return kept
    fast = ((weight + held.hits) / tiers.ratio()).astype(np.float64)
    return _anneal(
        intervals.start, intervals.end, open_, group_ends.astype(np.int64), drawn, kept.copy(),
        fast, misses.astype(np.float64), held.occupancy,
        tiers.hbm_pages, 1.0 / tiers.ratio(), proposals, temperature, seed,
    )  # fmt: skip


def kept_pages(reads: PageReads, intervals: Intervals, schedule: Schedule) -> Int64s:
    """int64[groups]: how many intervals of each group a schedule keeps from start to end."""
    return _kept_pages(
        reads.offsets, reads.pages, intervals.group_of_read, intervals.start,
        schedule.page, schedule.first, schedule.last, reads.n_pages,
    )  # fmt: skip


def kept_schedule(reads: PageReads, intervals: Intervals, kept: Int64s) -> Schedule:
    """Choose pages for the counts."""
    some = np.flatnonzero(kept)
    return intervals.schedule(reads, some, intervals.start[some].astype(np.int64) + 1, kept[some])


@kernel
def _kept_pages(
    offsets: Int64s,
    pages: Int32s,
    group_of_read: Int32s,
    start: Int32s,
    page: Int32s,
    first: Int32s,
    last: Int32s,
    n_pages: int,
) -> Int64s:
    kept = np.zeros(len(start), np.int64)
    cursor = np.zeros(n_pages + 1, np.int64)
    for i in range(len(page)):
        cursor[page[i] + 1] += 1
    for p in range(n_pages):
        cursor[p + 1] += cursor[p]
    stop = cursor[1:].copy()
    for e in range(len(offsets) - 1):
        for i in range(offsets[e], offsets[e + 1]):
            p = pages[i]
            while cursor[p] < stop[p] and last[cursor[p]] < e:
                cursor[p] += 1
            g = group_of_read[i]
            if start[g] >= -1 and (
                start[g] == e or (cursor[p] < stop[p] and first[cursor[p]] <= start[g] + 1)
            ):
                kept[g] += 1
    return kept


@kernel
def _anneal(
    start: Int32s,
    end: Int32s,
    count: Int64s,
    group_ends: Int64s,
    drawn: Int32s,
    kept: Int64s,
    fast: Floats,
    slow: Floats,
    occupancy_held: Int64s,
    room: int,
    page_fast: float,
    proposals: int,
    temperature: float,
    seed: int,
) -> Int64s:
    steps = len(fast)
    fast = fast.copy()
    slow = slow.copy()
    occupancy = occupancy_held.copy()
    for g in range(len(kept)):
        fast[end[g]] += kept[g] * page_fast
        slow[end[g]] -= kept[g]
        for t in range(start[g] + 1, end[g] + 1):
            occupancy[t] += kept[g]
    cost = 0.0  # relative to the start
    best_cost = -1e-12
    best = kept.copy()
    # xorshift64*: the seed is spread by one multiplication and kept odd, so never zero.
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    for _ in range(8):
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
    reads = np.uint64(len(drawn))
    cool = 1000.0 ** (-1.0 / (proposals / 1024.0 + 1.0))
    dirty = False
    for i in range(proposals):
        if i % 1024 == 0:
            temperature *= cool
            if dirty and cost < best_cost:
                best_cost = cost
                for g in range(len(best)):
                    best[g] = kept[g]
                dirty = False
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        bits = state * np.uint64(0x2545F4914F6CDD1D)
        g = drawn[((bits >> np.uint64(32)) * reads) >> np.uint64(32)]
        e = end[g]
        s = start[g]
        before = max(fast[e], slow[e])
        low = bits & np.uint64(0xFFFFFFFF)
        if (low * np.uint64(count[g])) >> np.uint64(32) < np.uint64(kept[g]):
            change = max(fast[e] - page_fast, slow[e] + 1.0) - before
            if change > 0.0:
                state ^= state >> np.uint64(12)
                state ^= state << np.uint64(25)
                state ^= state >> np.uint64(27)
                chance = np.float64(state >> np.uint64(11)) * 2.0**-53
                if chance >= np.exp(-change / temperature):
                    continue
            cost += change
            dirty = True
            kept[g] -= 1
            fast[e] -= page_fast
            slow[e] += 1.0
            for t in range(s + 1, e + 1):
                occupancy[t] -= 1
            continue
        full = -1
        for t in range(s + 1, e + 1):
            if occupancy[t] >= room:
                full = t
                break
        if full < 0:
            change = max(fast[e] + page_fast, slow[e] - 1.0) - before
            if change > 0.0:
                state ^= state >> np.uint64(12)
                state ^= state << np.uint64(25)
                state ^= state >> np.uint64(27)
                chance = np.float64(state >> np.uint64(11)) * 2.0**-53
                if chance >= np.exp(-change / temperature):
                    continue
            cost += change
            dirty = True
            kept[g] += 1
            fast[e] += page_fast
            slow[e] -= 1.0
            for t in range(s + 1, e + 1):
                occupancy[t] += 1
            continue
        # Swap with a page over the full step whose interval ends soon after it.
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        bits = state * np.uint64(0x2545F4914F6CDD1D)
        end2 = full + np.int64(((bits >> np.uint64(32)) * np.uint64(8)) >> np.uint64(32))
        if end2 >= steps:
            continue
        lo = group_ends[end2]
        kinds = np.uint64(group_ends[end2 + 1] - lo)
        if kinds == 0:
            continue
        g2 = lo + np.int64(((bits & np.uint64(0xFFFFFFFF)) * kinds) >> np.uint64(32))
        s2 = start[g2]
        if g2 == g or kept[g2] == 0 or s2 + 1 > full:
            continue
        blocked = False
        for t in range(full, e + 1):
            if occupancy[t] >= room and not (s2 < t <= end2):
                blocked = True
                break
        if blocked:
            continue
        change = 0.0
        if end2 != e:
            change = max(fast[e] + page_fast, slow[e] - 1.0) - before
            change += max(fast[end2] - page_fast, slow[end2] + 1.0) - max(fast[end2], slow[end2])
            if change > 0.0:
                state ^= state >> np.uint64(12)
                state ^= state << np.uint64(25)
                state ^= state >> np.uint64(27)
                chance = np.float64(state >> np.uint64(11)) * 2.0**-53
                if chance >= np.exp(-change / temperature):
                    continue
        cost += change
        dirty = True
        kept[g] += 1
        fast[e] += page_fast
        slow[e] -= 1.0
        for t in range(s + 1, e + 1):
            occupancy[t] += 1
        kept[g2] -= 1
        fast[end2] -= page_fast
        slow[end2] += 1.0
        for t in range(s2 + 1, end2 + 1):
            occupancy[t] -= 1
    if cost < best_cost:
        for g in range(len(best)):
            best[g] = kept[g]
    return best
