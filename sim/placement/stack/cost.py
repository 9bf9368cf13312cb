"""What a schedule over K tiers costs: the exact evaluator that judges every policy."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.schedules.by_page import StepsByPage
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.step_time import longest_seconds, seconds_of_pages, step_seconds
from vsim.sim.schedules.tier_stack import TierStack
from vsim.traces.page_reads import PageReads

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StackCost:
    """What one schedule moved and how long it took.

    Attributes:
        time_s: Σ over the steps.
        step_s: float64[T].
        hits: int64[T, K], reads that each tier served.
        loads: int64[T, resources], pages on each resource, beside weights.
        moves: int64[K, K], paid moves from tier i to tier j over all steps.
        occupancy: int64[T, K], pages in each tier during the step; in the last, those with no other
            copy above it.
        page_bytes: bytes of one page.
    """

    time_s: float
    step_s: Floats
    hits: Int64s
    loads: Int64s
    moves: Int64s
    occupancy: Int64s
    page_bytes: int

    @property
    def hit_ratios(self) -> tuple[float, ...]:
        """Share of page reads that each tier served."""
        total = int(self.hits.sum())
        by_tier = self.hits.sum(axis=0).tolist()
        return tuple(n / total if total else float(i == 0) for i, n in enumerate(by_tier))

    @property
    def moved_bytes(self) -> int:
        """Bytes moved between the tiers beside reads in place."""
        return int(self.moves.sum()) * self.page_bytes


def evaluate_stack(
    reads: PageReads, stack: TierStack, schedule: TierSchedule, start: Int32s
) -> StackCost:
    """Count and time what a schedule does, by the rules of `TierStack`. O(pages · T).

    A page is in HBM while the step that writes it runs, without counting against the capacity.

    Args:
        reads: the reads of each step.
        stack: the tiers.
        schedule: the residency intervals.
        start: int32[n_pages], the tier of each page of the prompt before step 0, or FREE: the
            one where the schedule has it at step 0.

    Raises:
        ValueError: the schedule holds more pages than a tier has room for, holds a page before it
            is written, or leaves the trace's pages, steps or tiers.
    """
    steps, last = reads.steps, stack.tiers - 1
    if len(schedule.page) and (
        schedule.page.min() < 0
        or schedule.page.max() >= reads.n_pages
        or schedule.first.min() < 0
        or schedule.last.max() >= steps
        or schedule.tier.min() < 0
        or schedule.tier.max() >= last
    ):
        raise ValueError(
            f"a schedule must stay within {reads.n_pages} pages, {steps} steps and the "
            f"{last} tiers above the last"
        )
    if (schedule.first <= reads.born[schedule.page]).any():
        raise ValueError("a schedule holds a page before the step after the one that writes it")
    by_page = StepsByPage.of(reads)
    where = schedule.table(steps, reads.n_pages, last)
    hits, loads, moves, occupancy = count(
        where, by_page.offsets, by_page.steps, reads.born, start, stack.reads(), stack.moves()
    )
    over = np.argwhere(occupancy[:, :last] > stack.room())
    if len(over):
        at, tier = (int(x) for x in over[0])
        raise ValueError(
            f"step {at} holds {occupancy[at, tier]} pages in tier {tier}; "
            f"it has room for {stack.pages[tier]}"
        )
    loads += stack.written_through(births(reads))
    step_s = stack_step_seconds(stack, reads.page_bytes, loads)
    return StackCost(math.fsum(step_s), step_s, hits, loads, moves, occupancy, reads.page_bytes)


def exact_stack_seconds(reads: PageReads, stack: TierStack, cost: StackCost) -> Fraction:
    """The time of a schedule under max() as an exact rational, to compare with a bound."""
    rates = [Fraction(stack.bytes_per_s[i]) for i in stack.tier_of()]
    # All in the same unit, so that whole numbers are compared and added up.
    unit = math.lcm(*(rate.numerator for rate in rates))
    of_byte = [unit // rate.numerator * rate.denominator for rate in rates]
    of_page = [reads.page_bytes * byte for byte in of_byte]
    weights = stack.weight_bytes * of_byte[0]
    total = sum(
        max(weights + row[0] * of_page[0], *map(int.__mul__, row[1:], of_page[1:]))
        for row in cost.loads.tolist()
    )
    return Fraction(total, unit)


def no_less_stack_seconds(reads: PageReads, stack: TierStack, cost: StackCost) -> Fraction:
    """A time that the schedule's true time is not above: exact under max(), else rounded up."""
    if math.isinf(stack.norm):
        return exact_stack_seconds(reads, stack, cost)
    return longest_seconds(cost.time_s)


def stack_step_seconds(stack: TierStack, page_bytes: int, loads: Int64s) -> Floats:
    """float64[T]: the time of each step from int64[T, resources], pages on each resource."""
    rates = stack.bytes_per_s
    times = [seconds_of_pages(loads[:, 0], page_bytes, rates[0], stack.weight_bytes)]
    for tier in range(1, stack.tiers):
        channel = np.maximum(loads[:, stack.up(tier)], loads[:, stack.down(tier)])
        times.append(seconds_of_pages(channel, page_bytes, rates[tier]))
    return step_seconds(np.stack(times), stack.norm)


@kernel
def count(
    where: Int8s,
    offsets: Int64s,
    read_steps: Int32s,
    born: Int32s,
    start: Int32s,
    of_read: Int64s,
    of_move: Int64s,
) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Hits, loads, paid moves and occupancy of a table int8[n_pages, T] of tiers."""
    n_pages, steps = where.shape
    tiers, resources = of_read.shape
    hits = np.zeros((steps, tiers), np.int64)
    loads = np.zeros((steps, resources), np.int64)
    moves = np.zeros((tiers, tiers), np.int64)
    occupancy = np.zeros((steps, tiers), np.int64)
    for p in range(n_pages):
        at, end = offsets[p], offsets[p + 1]
        fresh = np.int64(0)
        if born[p] >= 0:
            before = np.int64(0)
            fresh = np.int64(1)
            if at < end and read_steps[at] == born[p]:
                hits[born[p], 0] += 1
                loads[born[p], 0] += 1
                at += 1
        else:
            before = np.int64(start[p] if start[p] >= 0 else where[p, 0])
        for t in range(born[p] + 1, steps):
            here = np.int64(where[p, t])
            occupancy[t, here] += 1
            if here != before:
                paid = np.int64(0)
                for r in range(resources):
                    loads[t, r] += of_move[fresh, before, here, r]
                    paid += of_move[fresh, before, here, r]
                moves[before, here] += paid > 0
                before = here
            fresh = np.int64(0)
            if at < end and read_steps[at] == t:
                hits[t, here] += 1
                for r in range(resources):
                    loads[t, r] += of_read[here, r]
                fresh = np.int64(1)
                at += 1
    return hits, loads, moves, occupancy
