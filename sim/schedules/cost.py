"""What a schedule costs: the exact evaluator that judges every policy."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.by_page import StepsByPage
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.step_time import longest_seconds, seconds_of_pages, step_seconds
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """What one schedule moved and how long it took.

    Attributes:
        time_s: Σ over the steps.
        step_s: float64[T].
        hits, misses: int64[T], reads from HBM and from the slow tier.
        promoted: int64[T], pages moved to HBM and paid for on the channel.
        demoted: int64[T], pages written to the slow tier and paid for.
        occupancy: int64[T], pages in HBM during the step.
        page_bytes: bytes of one page.
    """

    time_s: float
    step_s: Floats
    hits: Int64s
    misses: Int64s
    promoted: Int64s
    demoted: Int64s
    occupancy: Int64s
    page_bytes: int

    @property
    def hit_ratio(self) -> float:
        """Share of page reads that HBM served."""
        reads = int(self.hits.sum() + self.misses.sum())
        return float(self.hits.sum()) / reads if reads else 1.0

    @property
    def moved_bytes(self) -> int:
        """Bytes moved between the tiers beside reads in place."""
        return int(self.promoted.sum() + self.demoted.sum()) * self.page_bytes


def evaluate(
    reads: PageReads, tiers: TwoTiers, schedule: Schedule, resident_at_start: Bools | None = None
) -> Cost:
    """Count and time what a schedule does. O(reads + intervals + T).

    Inclusive: a promotion is free at the step after one that streamed the page in, that wrote it,
    or before which it was resident; every other promotion is one page on the channel. Exclusive:
    only a page that is resident already is free, and every demotion is one page on the channel. A
    page is in HBM while the step that writes it runs, without counting against the capacity. With
    an inclusive slow tier, each new page is also written through, on the other direction of a
    duplex channel or on the only one of a simplex channel.

    Args:
        reads: the reads of each step.
        tiers: the memory.
        schedule: the residency intervals.
        resident_at_start: bool[n_pages], the pages in HBM before the first step; None: free choice,
            whatever the schedule has in HBM at step 0.

    Raises:
        ValueError: the schedule holds more than hbm_pages at a step, holds a page before it is
            written, or ends after the last step.
    """
    steps = reads.steps
    if len(schedule.page) and (
        schedule.page.min() < 0
        or schedule.page.max() >= reads.n_pages
        or schedule.first.min() < 0
        or schedule.last.max() >= steps
    ):
        raise ValueError(f"a schedule must stay within {reads.n_pages} pages and {steps} steps")
    if (schedule.first <= reads.born[schedule.page]).any():
        raise ValueError("a schedule holds a page before the step after the one that writes it")
    start = (reads.born < 0) if resident_at_start is None else resident_at_start
    by_page = StepsByPage.of(reads)
    counts = _count(
        by_page.offsets, by_page.steps, reads.born, start, steps,
        schedule.page, schedule.first, schedule.last, tiers.exclusive,
    )  # fmt: skip
    hits, promoted, demoted, occupancy = counts
    if resident_at_start is not None and tiers.exclusive:
        # Pages that were in HBM and are not at step 0 are demoted there.
        kept = schedule.page[schedule.first == 0]
        demoted[0] += int(np.count_nonzero(start)) - int(np.count_nonzero(start[kept]))
    over = np.flatnonzero(occupancy > tiers.hbm_pages)
    if len(over):
        at = int(over[0])
        raise ValueError(
            f"step {at} holds {occupancy[at]} pages; HBM has room for {tiers.hbm_pages}"
        )
    misses = reads.reads_per_step - hits
    up, down = misses + promoted, demoted
    written = births(reads)
    if not tiers.exclusive:
        down = down + written
    step_s = _step_seconds(tiers, reads.page_bytes, hits, up, down)
    return Cost(
        time_s=math.fsum(step_s),
        step_s=step_s,
        hits=hits,
        misses=misses,
        promoted=promoted,
        demoted=demoted,
        occupancy=occupancy,
        page_bytes=reads.page_bytes,
    )


def exact_seconds(reads: PageReads, tiers: TwoTiers, cost: Cost) -> Fraction:
    """The time of a schedule under max() as an exact rational, to compare with a bound."""
    fast, slow = Fraction(tiers.hbm_bytes_per_s), Fraction(tiers.slow_bytes_per_s)
    down = cost.demoted if tiers.exclusive else cost.demoted + births(reads)
    channel = channel_pages(tiers, cost.misses + cost.promoted, down)
    # Both in the same unit, so that whole numbers are compared and added up.
    of_fast = fast.denominator * slow.numerator
    of_slow = slow.denominator * fast.numerator * reads.page_bytes
    total = sum(
        max((tiers.weight_bytes + hits * reads.page_bytes) * of_fast, pages * of_slow)
        for hits, pages in zip(cost.hits.tolist(), channel.tolist(), strict=True)
    )
    return Fraction(total, fast.numerator * slow.numerator)


def no_less_seconds(reads: PageReads, tiers: TwoTiers, cost: Cost) -> Fraction:
    """A time that the schedule's true time is not above: exact under max(), else rounded up."""
    if math.isinf(tiers.norm):
        return exact_seconds(reads, tiers, cost)
    return longest_seconds(cost.time_s)


def births(reads: PageReads) -> Int64s:
    """int64[T]: how many pages each step writes."""
    born = reads.born[reads.born >= 0]
    return np.bincount(born, minlength=reads.steps)[: reads.steps].astype(np.int64)


def channel_pages(tiers: TwoTiers, up: Int64s, down: Int64s) -> Int64s:
    """int64[T]: pages in the channel's busier direction, or in its only one."""
    return np.maximum(up, down) if tiers.duplex else up + down


def _step_seconds(
    tiers: TwoTiers, page_bytes: int, hits: Int64s, up: Int64s, down: Int64s
) -> Floats:
    channel = channel_pages(tiers, up, down)
    fast_s = seconds_of_pages(hits, page_bytes, tiers.hbm_bytes_per_s, tiers.weight_bytes)
    slow_s = seconds_of_pages(channel, page_bytes, tiers.slow_bytes_per_s)
    return step_seconds(np.stack([fast_s, slow_s]), tiers.norm)


@kernel
def _count(
    offsets: Int64s,
    read_steps: Int32s,
    born: Int32s,
    start: Bools,
    steps: int,
    page: Int32s,
    first: Int32s,
    last: Int32s,
    exclusive: bool,
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Hits, paid promotions, paid demotions and occupancy of each step."""
    hits = np.zeros(steps, np.int64)
    promoted = np.zeros(steps, np.int64)
    demoted = np.zeros(steps, np.int64)
    change = np.zeros(steps + 1, np.int64)
    j = np.int64(0)
    previous = -1
    kept_from_birth = np.zeros(len(born), np.bool_)
    for i in range(len(page)):
        p = page[i]
        if p != previous:
            j = offsets[p]
            previous = p
        end = offsets[p + 1]
        f = first[i]
        while j < end and read_steps[j] < f:
            j += 1
        free = (f == 0 and start[p]) or (born[p] >= 0 and born[p] == f - 1)
        if born[p] >= 0 and born[p] == f - 1:
            kept_from_birth[p] = True
        if not free and not exclusive and j > offsets[p]:
            free = read_steps[j - 1] == f - 1
        if not free:
            promoted[f] += 1
        change[f] += 1
        change[last[i] + 1] -= 1
        while j < end and read_steps[j] <= last[i]:
            hits[read_steps[j]] += 1
            j += 1
        if exclusive and last[i] + 1 < steps:
            demoted[last[i] + 1] += 1
    for p in range(len(born)):
        b = born[p]
        if b >= 0:
            # The step that writes a page finds it in HBM.
            lo, hi = offsets[p], offsets[p + 1]
            if lo < hi and read_steps[lo] == b:
                hits[b] += 1
            if exclusive and not kept_from_birth[p] and b + 1 < steps:
                demoted[b + 1] += 1
    occupancy = np.cumsum(change)[:steps]
    return hits, promoted, demoted, occupancy
