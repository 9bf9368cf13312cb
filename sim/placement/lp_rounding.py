"""LP-guided rounding: a schedule of whole pages next to the bound. An oracle."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.intervals import Intervals
from vsim.sim.bounds.lp import Bound, Columns, IntervalProgram
from vsim.sim.placement.interval_annealing import Held, anneal
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A schedule of whole pages, and the grouped columns that it was made of."""

    schedule: Schedule
    pages: Int64s


def lp_rounding(
    reads: PageReads,
    tiers: TwoTiers,
    solved: Bound,
    *,
    proposals: int = 2_000_000,
    seed: int = 0,
) -> Rounded:
    """Round the LP's columns down, then let whole pages back in.

    floor every column of the LP's vertex: still within the capacity
    promoted columns stay as they are; anneal the kept ones from there, at a low temperature, since
    all that is wrong is a page here and there

    Args:
        reads, tiers: the case.
        solved: the LP at a vertex (`bound(..., vertex=True)`).
        proposals: of the annealing.
        seed: of the annealing.
    """
    whole = np.floor(solved.pages + 1e-6).astype(np.int64)
    return refine(reads, tiers, solved.intervals, solved.columns, whole, proposals, seed)


def grouped_mip(
    reads: PageReads,
    tiers: TwoTiers,
    solved: Bound,
    rounded: Rounded,
    *,
    relative_gap: float = 1e-5,
    time_limit_s: float = 60.0,
    threads: int = 1,
) -> Rounded:
    """Solve the LP's columns for whole pages, starting from a rounding; never worse than it.

    Args:
        reads, tiers: the case.
        solved: the LP whose columns are used.
        rounded: where to start.
        relative_gap: stop this close to the optimum over these columns.
        time_limit_s: stop after this long with the best schedule met.
        threads: HiGHS threads.
    """
    program = IntervalProgram(reads, tiers, solved.intervals, threads)
    columns = solved.columns
    paid = np.flatnonzero(columns.paid)
    program.add_prefetches(columns.group[paid], columns.first[paid])
    pages = program.solve_whole(rounded.pages, relative_gap=relative_gap, time_limit_s=time_limit_s)
    if pages is None:
        return rounded
    schedule = solved.intervals.schedule(reads, columns.group, columns.first, pages)
    return Rounded(schedule, pages)


def refine(
    reads: PageReads,
    tiers: TwoTiers,
    intervals: Intervals,
    columns: Columns,
    pages: Int64s,
    proposals: int,
    seed: int,
) -> Rounded:
    """Anneal the kept columns of a feasible schedule around its promoted ones."""
    groups = len(intervals.start)
    kept = np.zeros(groups, np.int64)
    kept[columns.group[~columns.paid]] = pages[~columns.paid]
    held = held_by(intervals, columns, pages)
    kept = anneal(
        reads, tiers, intervals, kept, held, proposals=proposals, temperature=0.05, seed=seed
    )
    pages = pages.copy()
    pages[~columns.paid] = kept[columns.group[~columns.paid]]
    schedule = intervals.schedule(reads, columns.group, columns.first, pages)
    return Rounded(schedule, pages)


def held_by(intervals: Intervals, columns: Columns, pages: Int64s) -> Held:
    """Sum up what the promoted columns occupy and load."""
    paid = np.flatnonzero(columns.paid & (pages > 0))
    group, first, count = columns.group[paid], columns.first[paid], pages[paid]
    end = intervals.end[group].astype(np.int64)
    steps = intervals.steps
    change = np.zeros(steps + 1, np.int64)
    np.add.at(change, first, count)
    np.add.at(change, end + 1, -count)
    promotions = np.zeros(steps, np.int64)
    hits = np.zeros(steps, np.int64)
    taken = np.zeros(len(intervals.start), np.int64)
    np.add.at(promotions, first, count)
    np.add.at(hits, end, count)
    np.add.at(taken, group, count)
    return Held(np.cumsum(change)[:-1], promotions, hits, taken)
