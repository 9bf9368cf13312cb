"""The grouped-interval linear program on HiGHS, with prefetch columns priced in.

Variables: z_t, the time of step t in channel pages; o_t ≤ k, the pages in HBM; for each group of
equal intervals (s, e) how many pages are kept over s+1..e; for chosen (s, e) and τ how many are
promoted at τ and stay until e. Rows: o_t − o_{t−1} = what starts at t less what ended at t−1 (so a
column has O(1) non-zeros, whatever its length), and for each cut (α, β) of the step time

    z_t ≥ α·(w_t + hits_t)/B1 + β·(v_t + misses_t + promotions_t)/B2.

max() has the two cuts (1, 0) and (0, 1); a p-norm is cut by tangents, which bound it from below. So
the program's objective may be below a certificate, which scales its prices to the norm itself. What
certificates are compared with is the time of the program's solution under the step time, in parts
of pages: by the certificate's own proof none exceeds it.
"""

import math
import time
from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.certificate import Certificate, certify
from vsim.sim.bounds.dual_norm import dual_length, whole_weight
from vsim.sim.bounds.highs import NoOptimumError, run_highs
from vsim.sim.bounds.intervals import Intervals
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.step_time import step_seconds
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The LP's residency columns: `group` of Intervals, `first` step in HBM, `paid` or kept."""

    group: Int64s
    first: Int64s
    paid: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The best certified bound found, with what it stands on.

    Attributes:
        certificate: the proven bound.
        lam, mu: the multipliers that it was evaluated with.
        lp_s: the time of the LP's solution under the step time, seconds, computed in floating
            point: what parts of pages can reach, and so no bound is above it. Under max() it is the
            LP's optimum. None if the solver found none.
        columns, pages: the LP's columns and how many pages each holds, float64.
        intervals: the groups that columns refer to.
        rounds: LPs solved.
        seconds: wall time.
        solver: name and version.
    """

    certificate: Certificate
    lam: Floats
    mu: Floats
    lp_s: float | None
    columns: Columns
    pages: Floats
    intervals: Intervals
    rounds: int
    seconds: float
    solver: str

    @property
    def bound_s(self) -> float:
        """The certified bound, seconds."""
        return self.certificate.bound_s

    @property
    def gap_to_lp(self) -> float | None:
        """How far the certificate lies below `lp_s`, relative; None without one.

        A solver meets its rows to about 10^−7 only, so that it may come out as little below 0.
        """
        if self.lp_s is None:
            return None
        return (self.lp_s - self.bound_s) / self.lp_s if self.lp_s > 0 else 0.0


def bound(
    reads: PageReads,
    tiers: TwoTiers,
    may_start_resident: Bools,
    *,
    tolerance: float = 1e-6,
    max_rounds: int = 12,
    vertex: bool = False,
    threads: int = 1,
    time_limit_s: float = 3600.0,
) -> Bound:
    """Solve the LP by column generation and certify its multipliers.

    Args:
        reads: the reads of each step.
        tiers: the memory; an exclusive one gets the inclusive bound, which holds for it too.
        may_start_resident: bool[n_pages].
        tolerance: stop when the certificate is this close to the LP, relative.
        max_rounds: LPs to solve at most.
        vertex: end on a vertex of the LP (crossover), which rounding to whole pages needs.
        threads: HiGHS threads.
        time_limit_s: of each solve.
    """
    began = time.perf_counter()
    intervals = Intervals.of(reads, may_start_resident)
    program = IntervalProgram(reads, tiers, intervals, threads, time_limit_s)
    best_lam, best_mu = by_hand(reads, tiers)
    best = certify(best_lam, best_mu, reads, tiers, may_start_resident)
    lp_s: float | None = None
    solver = f"HiGHS {program.highs.version()}"
    rounds = 0

    def consider(lam: Floats, mu: Floats) -> None:
        nonlocal best, best_lam, best_mu
        certificate = certify(lam, mu, reads, tiers, may_start_resident)
        if certificate.exact_s > best.exact_s:
            best, best_lam, best_mu = certificate, lam, mu

    try:
        while True:
            rounds += 1
            lam, mu, objective_s = program.solve(vertex=False)
            lp_s = program.solution_s()
            consider(lam, mu)
            if objective_s - best.bound_s <= tolerance * objective_s or rounds == max_rounds:
                break
            if not program.price_prefetches(lam, mu):
                break
        if vertex:
            lam, mu, _ = program.solve(vertex=True)
            lp_s = program.solution_s()
            consider(lam, mu)
    except NoOptimumError:
        # Tiers that differ by many powers of ten are beyond a solver in floats. What it found so
        # far is certified as always; before its first answer there is what is known by hand.
        solver = solver if rounds > 1 else "hand"
    return Bound(
        certificate=best,
        lam=best_lam,
        mu=best_mu,
        lp_s=lp_s,
        columns=program.columns(),
        pages=program.pages(),
        intervals=intervals,
        rounds=rounds,
        seconds=time.perf_counter() - began,
        solver=solver,
    )


def by_hand(reads: PageReads, tiers: TwoTiers) -> tuple[Floats, Floats]:
    """λ and μ of the floor by bandwidth: room costs nothing, and a page as much on either tier.

    Steps whose weights take longer than all pages on both tiers together are all HBM's.
    """
    both = tiers.hbm_bytes_per_s + tiers.slow_bytes_per_s
    bytes_ = tiers.weight_bytes + reads.reads_per_step * float(reads.page_bytes)
    weights_take_longer = tiers.weight_bytes / tiers.hbm_bytes_per_s > bytes_ / both
    lam = np.where(weights_take_longer, 0.0, tiers.slow_bytes_per_s / both)
    return lam, np.zeros(reads.steps)


class IntervalProgram:
    """The LP in HiGHS; stateful: solving and pricing change it."""

    def __init__(
        self,
        reads: PageReads,
        tiers: TwoTiers,
        intervals: Intervals,
        threads: int = 1,
        time_limit_s: float = 3600.0,
    ) -> None:
        self._steps = steps = reads.steps
        self._intervals = intervals
        self._ratio = ratio = tiers.ratio()
        self._second = tiers.slow_bytes_per_s / reads.page_bytes  # channel pages a second
        self._pages = np.zeros(0)
        self._norm, self._cuts = tiers.norm, tangents(tiers.norm)
        kept = np.flatnonzero(intervals.keepable)
        self._group = [kept]
        self._first = [intervals.start[kept].astype(np.int64) + 1]
        self._paid = [np.zeros(len(kept), np.bool_)]
        # A group with one column is bounded by the column; with more, by a row of its own.
        self._row_of_group = np.full(len(intervals.start), -1, np.int64)
        self._kept_column = np.full(len(intervals.start), -1, np.int64)
        self._kept_column[kept] = 2 * steps + np.arange(len(kept))

        highs = self.highs = highspy.Highs()  # type: ignore[no-untyped-call]  # ships no types
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", threads)
        highs.setOptionValue("time_limit", float(time_limit_s))
        infinity = highspy.kHighsInf
        cuts = len(self._cuts)
        self._weight = weight = tiers.weight_bytes / reads.page_bytes
        misses = reads.reads_per_step.astype(np.float64)
        if not tiers.exclusive and not tiers.duplex:
            misses = misses + births(reads)
        self._misses = misses
        cut_lower = [alpha * weight / ratio + beta * misses for alpha, beta in self._cuts]
        lower = np.concatenate([np.zeros(steps), *cut_lower])
        upper = np.concatenate([np.zeros(steps), np.full(cuts * steps, infinity)])
        none = np.zeros(0, np.int32)
        highs.addRows(len(lower), lower, upper, 0, none, none, np.zeros(0))

        step = np.arange(steps)
        rows = np.stack([(1 + c) * steps + step for c in range(cuts)], axis=1)
        self._add(np.ones(steps), np.full(steps, infinity), rows, np.ones((steps, cuts)))
        balance = np.stack([step, step + 1], axis=1)
        balance[-1, 1] = -1  # nothing follows the last step
        ones = np.tile([1.0, -1.0], (steps, 1))
        self._add(np.zeros(steps), np.full(steps, float(tiers.hbm_pages)), balance, ones)
        self._add_residency(self._group[0], self._first[0], self._paid[0])

    def solve(self, *, vertex: bool) -> tuple[Floats, Floats, float]:
        """Solve; return λ, μ (seconds) and the objective (seconds)."""
        steps = self._steps
        highs = self.highs
        highs.setOptionValue("solver", "ipm")
        highs.setOptionValue("run_crossover", "on" if vertex else "off")
        run_highs(highs)
        solution = highs.getSolution()
        self._pages = np.asarray(solution.col_value)[2 * steps :]
        dual = np.asarray(solution.row_dual)
        of_cuts = dual[steps : (1 + len(self._cuts)) * steps]
        weights = np.maximum(of_cuts.reshape(len(self._cuts), steps), 0.0)
        fast = np.array([alpha for alpha, _ in self._cuts]) @ weights
        slow = np.array([beta for _, beta in self._cuts]) @ weights
        whole = fast + slow
        lam = np.where(whole > 0, slow / np.where(whole > 0, whole, 1.0), 0.5)
        mu = np.maximum(-np.asarray(solution.col_dual)[steps : 2 * steps], 0.0) / self._second
        return lam, mu, highs.getInfo().objective_function_value / self._second

    def solution_s(self) -> float:
        """The time that the last solution takes, under the step time and not under its cuts."""
        steps, groups, columns = self._steps, self._intervals, self.columns()
        pages = self.pages()
        end = groups.end[columns.group]
        hits = np.bincount(end, pages, steps)
        promoted = np.bincount(columns.first[columns.paid], pages[columns.paid], steps)
        fast = np.maximum(self._weight + hits, 0.0) / self._ratio
        slow = np.maximum(self._misses - hits + promoted, 0.0)
        return math.fsum(step_seconds(np.stack([fast, slow]), self._norm)) / self._second

    def price_prefetches(self, lam: Floats, mu: Floats) -> int:
        """Add for each group the prefetch step that would pay most; return how many were added."""
        groups = self._intervals
        mu_pages = mu * self._second
        hbm, slow = (1 - lam) / self._ratio, lam
        before = np.concatenate([[0.0], np.cumsum(mu_pages)])
        end = groups.end.astype(np.int64)
        low = np.maximum(groups.start.astype(np.int64) + 1, 0)
        open_ = np.flatnonzero(low < end)
        end, low = end[open_], low[open_]
        at, key = _range_minimum(slow - before[:-1], low, end)
        prefetch = key + before[end + 1] + hbm[end]
        keep = np.where(groups.start[open_] >= -1, hbm[end] + before[end + 1] - before[low], np.inf)
        good = np.flatnonzero(prefetch < np.minimum(slow[end], keep) - 1e-9)
        known = np.concatenate(self._group) * self._steps + np.concatenate(self._first)
        paid = np.concatenate(self._paid)
        new = ~np.isin(open_[good] * self._steps + at[good], known[paid])
        good = good[new]
        self.add_prefetches(open_[good], at[good])
        return len(good)

    def add_prefetches(self, group: Int64s, first: Int64s) -> None:
        """Add columns of pages that are promoted at `first` and stay to the group's end."""
        self._bound_groups(np.unique(group))
        paid = np.ones(len(group), np.bool_)
        self._group.append(group)
        self._first.append(first)
        self._paid.append(paid)
        self._add_residency(group, first, paid)

    def solve_whole(
        self, start: Int64s, *, relative_gap: float, time_limit_s: float
    ) -> Int64s | None:
        """Solve for whole pages from a feasible start; None if nothing better came in time."""
        highs, steps = self.highs, self._steps
        columns = np.arange(2 * steps, 2 * steps + len(start), dtype=np.int32)
        kind = np.full(len(columns), highspy.HighsVarType.kInteger)
        highs.changeColsIntegrality(len(columns), columns, kind)
        highs.setOptionValue("solver", "choose")
        highs.setOptionValue("run_crossover", "on")
        highs.setOptionValue("mip_rel_gap", relative_gap)
        highs.setOptionValue("time_limit", time_limit_s)
        highs.setSolution(len(columns), columns, start.astype(np.float64))
        highs.run()
        solution = highs.getSolution()
        if not solution.value_valid:
            return None
        self._pages = np.asarray(solution.col_value)[2 * steps :]
        return np.rint(self.pages()).astype(np.int64)

    def columns(self) -> Columns:
        """The residency columns, in the LP's order."""
        return Columns(
            np.concatenate(self._group), np.concatenate(self._first), np.concatenate(self._paid)
        )

    def pages(self) -> Floats:
        """How many pages each residency column holds in the last solution; newer ones none."""
        columns = sum(map(len, self._group))
        return np.pad(self._pages, (0, columns - len(self._pages)))

    def _bound_groups(self, group: Int64s) -> None:
        """Give each group that has none yet a row: all its columns together hold its pages."""
        group = group[self._row_of_group[group] < 0]
        self._row_of_group[group] = self.highs.getNumRow() + np.arange(len(group))
        kept = self._kept_column[group]
        starts = np.concatenate([[0], np.cumsum(kept >= 0)[:-1]]) if len(group) else kept
        count = self._intervals.count[group].astype(np.float64)
        self.highs.addRows(
            len(group), np.full(len(group), -highspy.kHighsInf), count, int((kept >= 0).sum()),
            starts.astype(np.int32), kept[kept >= 0].astype(np.int32), np.ones((kept >= 0).sum()),
        )  # fmt: skip

    def _add_residency(self, group: Int64s, first: Int64s, paid: npt.NDArray[np.bool_]) -> None:
        steps, groups = self._steps, self._intervals
        end = groups.end[group].astype(np.int64)
        after = np.where(end + 1 < steps, end + 1, -1)
        empty = first > end  # a page read by the step that writes it takes no room
        rows = [np.where(empty, -1, first), np.where(empty, -1, after)]
        values = [np.full(len(group), -1.0), np.ones(len(group))]
        for c, (alpha, beta) in enumerate(self._cuts):
            rows.append((1 + c) * steps + end)
            values.append(np.full(len(group), beta - alpha / self._ratio))
            if beta > 0:
                rows.append(np.where(paid, (1 + c) * steps + first, -1))
                values.append(np.full(len(group), -beta))
        rows.append(self._row_of_group[group])
        values.append(np.ones(len(group)))
        size = groups.count[group].astype(np.float64)
        self._add(np.zeros(len(group)), size, np.stack(rows, axis=1), np.stack(values, axis=1))

    def _add(self, cost: Floats, upper: Floats, rows: Int64s, values: Floats) -> None:
        """Add columns ≥ 0; a row of −1 or a value of 0 is no entry."""
        used = (rows >= 0) & (values != 0)
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))[:-1]]).astype(np.int32)
        self.highs.addCols(
            len(cost), cost, np.zeros(len(cost)), upper, int(used.sum()),
            starts, rows[used].astype(np.int32), values[used],
        )  # fmt: skip


def tangents(norm: float) -> list[tuple[float, float]]:
    """Cuts (α, β) with αx + βy ≤ ‖(x, y)‖_norm for x, y ≥ 0; exact for max()."""
    if math.isinf(norm):
        return [(1.0, 0.0), (0.0, 1.0)]
    if norm == 1:
        return [(1.0, 1.0)]
    cuts = [(1.0, 0.0), (0.0, 1.0)]
    for share in np.linspace(0, 1, 11)[1:-1]:
        weights = whole_weight(float(1 - share)), whole_weight(float(share))
        length = dual_length(weights, norm)
        cuts.append((weights[0] / length, weights[1] / length))
    return cuts


def _range_minimum(values: Floats, low: Int64s, high: Int64s) -> tuple[Int64s, Floats]:
    """The place and value of the least of `values[low:high]` for each pair (sparse table)."""
    best = [np.arange(len(values))]
    while 2 << (len(best) - 1) <= len(values):
        half = 1 << (len(best) - 1)
        left, right = best[-1][:-half], best[-1][half:]
        best.append(np.where(values[left] <= values[right], left, right))
    at = np.empty(len(low), np.int64)
    level = np.frexp(high - low)[1] - 1
    for depth, table in enumerate(best):
        mine = np.flatnonzero(level == depth)
        left, right = table[low[mine]], table[high[mine] - (1 << depth)]
        at[mine] = np.where(values[left] <= values[right], left, right)
    return at, values[at]
