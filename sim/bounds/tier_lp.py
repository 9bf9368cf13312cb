"""Multipliers for any number of tiers: a linear program over groups of equal intervals.

A page's timeline is cut at its reads. Between two reads at s and e it takes a path over tiers;
pages with the same (s, e) are one group, and a column says how many pages of a group take a path.
Where a path ends, another begins: for each step and tier, as many pages leave as arrived. This
forgets which page arrived, so the program may be below the best paths of single pages; the
certificate, which is evaluated page by page, loses nothing by it. Columns are priced in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.certificate import Certificate
from vsim.sim.bounds.highs import run_highs
from vsim.sim.bounds.tier_certificate import certify_tiers
from vsim.sim.bounds.tier_intervals import TierIntervals
from vsim.sim.bounds.tier_paths import best_paths
from vsim.sim.schedules.tier_stack import TierStack
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


_Put = Callable[[Int64s, float, npt.NDArray[np.bool_]], None]


@dataclass(frozen=True, slots=True, eq=False)
class TierBound:
    """The best certified bound found, its multipliers, and the relaxed program's optimum."""

    certificate: Certificate
    lam: Floats
    mu: Floats
    relaxed_s: float
    rounds: int
    seconds: float

    @property
    def bound_s(self) -> float:
        """The certified bound, seconds."""
        return self.certificate.bound_s


def bound_tiers(
    reads: PageReads,
    stack: TierStack,
    start: Int32s,
    *,
    tolerance: float = 1e-4,
    max_rounds: int = 20,
    threads: int = 1,
) -> TierBound:
    """Solve by column generation and certify; stop when neither gains by `tolerance`.

    Args:
        reads: the reads of each step.
        stack: the tiers.
        start: int32[n_pages], the tier of each page of the prompt before step 0, or FREE.
        tolerance: relative.
        max_rounds: LPs to solve at most.
        threads: HiGHS threads.
    """
    began = time.perf_counter()
    program = _PathProgram(reads, stack, start, threads)
    best: Certificate | None = None
    lam = mu = np.zeros((0, 0))
    rounds, relaxed_s = 0, 0.0
    while True:
        rounds += 1
        found_lam, found_mu, relaxed_s = program.solve()
        certificate = certify_tiers(found_lam, found_mu, reads, stack, start)
        if best is None or certificate.exact_s > best.exact_s:
            best, lam, mu = certificate, found_lam, found_mu
        if rounds == max_rounds or relaxed_s - best.bound_s <= tolerance * relaxed_s:
            break
        if not program.price():
            break
    return TierBound(best, lam, mu, relaxed_s, rounds, time.perf_counter() - began)


class _PathProgram:
    """The program in HiGHS; stateful: solving and pricing change it."""

    def __init__(self, reads: PageReads, stack: TierStack, start: Int32s, threads: int) -> None:
        self._stack, self._steps = stack, reads.steps
        self._groups = groups = TierIntervals.of(reads, stack, start)
        steps, tiers, resources = reads.steps, stack.tiers, stack.resources
        self._second = stack.bytes_per_s[1] / reads.page_bytes
        # Time of one page on each resource, in pages of tier 1.
        self._load = stack.bytes_per_s[1] / np.array(stack.bytes_per_s)[stack.tier_of()]
        self._moves = stack.moves()
        highs = self.highs = highspy.Highs()  # type: ignore[no-untyped-call]  # ships no types
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", threads)
        highs.setOptionValue("solver", "ipm")
        highs.setOptionValue("run_crossover", "off")
        infinity = highspy.kHighsInf
        n = len(groups.count)
        # Rows: resources, occupancy balances, nodes (t, tier), groups.
        self._balance = steps * resources
        self._node = self._balance + steps * (tiers - 1)
        self._group = self._node + steps * tiers
        lower = np.zeros(self._group + n)
        upper = np.zeros(self._group + n)
        weight = stack.weight_bytes / reads.page_bytes
        lower[: self._balance] = (stack.written_through(groups.births) * self._load).ravel()
        lower[0 : self._balance : resources] += weight * self._load[0]
        upper[: self._balance] = infinity
        lower[self._node : self._group : tiers] = -groups.births
        upper[self._node : self._group : tiers] = -groups.births
        lower[self._group :] = upper[self._group :] = groups.count
        none = np.zeros(0, np.int32)
        highs.addRows(len(lower), lower, upper, 0, none, none, np.zeros(0))

        t = np.arange(steps)
        rows = t[:, None] * resources + np.arange(resources)
        self._add(np.ones(steps), infinity, rows, np.ones(rows.shape))
        for tier in range(tiers - 1):
            row = self._balance + t * (tiers - 1) + tier
            after = np.where(t + 1 < steps, row + tiers - 1, -1)
            room = float(stack.pages[tier] or 0)
            values = np.tile([1.0, -1.0], (steps, 1))
            self._add(np.zeros(steps), room, np.stack([row, after], axis=1), values)
        # To begin with: move at once, or stay.
        ids = np.arange(n)
        for i in range(tiers):
            for j in range(tiers):
                for fresh in (False, True):
                    mine = ids[self._may_start(i) & ((groups.start >= 0) == fresh)]
                    first = np.maximum(groups.start[mine], -1) + 1
                    self._add_paths(mine, i, [(first, i, j)] if i != j else [], j, fresh=fresh)
        self._known: set[tuple[int, ...]] = set()

    def solve(self) -> tuple[Floats, Floats, float]:
        """Solve; return λ[T, resources], μ[T, K − 1] (seconds) and the optimum (seconds)."""
        highs, steps, tiers = self.highs, self._steps, self._stack.tiers
        run_highs(highs)
        solution = highs.getSolution()
        dual = np.asarray(solution.row_dual)
        self._dual = dual
        lam = np.maximum(dual[: self._balance].reshape(steps, -1), 0.0)
        whole = lam.sum(axis=1, keepdims=True)
        lam = lam / np.where(whole > 0, whole, 1.0)
        rooms = np.asarray(solution.col_dual)[steps : steps * tiers]
        self._mu = np.maximum(-rooms, 0.0).reshape(tiers - 1, steps).T
        self._lam = lam
        return lam, self._mu / self._second, highs.getInfo().objective_function_value / self._second

    def price(self) -> int:
        """Add for each group the path that would gain most; return how many were added."""
        stack, groups, steps = self._stack, self._groups, self._steps
        tiers = stack.tiers
        price = self._lam * self._load
        move = np.einsum("tr,fijr->ftij", price, self._moves)
        room = np.zeros((steps, tiers))
        room[:, :-1] = self._mu
        read = np.stack([price[:, stack.up(i)] for i in range(tiers)], axis=1)
        node = self._dual[self._node : self._group].reshape(steps, tiers)
        of_group = self._dual[self._group :]
        order = np.argsort(groups.start, kind="stable")
        gain, path = best_paths(
            order, groups.start, groups.end, move, room, read, node, of_group, tiers, 1e-7
        )
        added = 0
        for g in np.flatnonzero(gain):
            states = path[g]
            i, moves = int(states[0]), []
            for m in range(1, int(states[1]) + 1):
                at, here, there = (int(x) for x in states[3 * m - 1 : 3 * m + 2])
                moves.append((np.array([at]), here, there))
            j = moves[-1][2] if moves else i
            key = (int(g), i, *(x for at, _, there in moves for x in (int(at[0]), there)))
            if key in self._known:
                continue
            self._known.add(key)
            fresh = int(groups.start[g]) >= 0
            self._add_paths(np.array([g]), i, moves, j, fresh=fresh)
            added += 1
        return added

    def _may_start(self, tier: int) -> npt.NDArray[np.bool_]:
        s = self._groups.start
        free = s == -1 - self._stack.tiers
        mask: npt.NDArray[np.bool_] = (s >= 0) | (s == -1 - tier) | free
        return mask

    def _add_paths(
        self,
        group: Int64s,
        source: int,
        moves: list[tuple[Int64s, int, int]],
        target: int,
        *,
        fresh: bool,
    ) -> None:
        """Add one column a group: from `source` after its start, by the moves, to `target`.

        `fresh`: the groups start with a read or a birth, not with the trace.
        """
        if len(group) == 0:
            return
        stack, steps, groups = self._stack, self._steps, self._groups
        tiers, resources = stack.tiers, stack.resources
        s, e = groups.start[group], groups.end[group]
        inside = e < steps
        rows: list[Int64s] = []
        values: list[Floats] = []

        def put(row: Int64s, value: float, where: npt.NDArray[np.bool_]) -> None:
            rows.append(np.where(where, row, -1))
            values.append(np.full(len(group), value))

        always = np.ones(len(group), np.bool_)
        # Occupancy: in `source` from s + 1, until each move, then until e.
        here = source
        begin = np.maximum(s, -1) + 1
        for at, i, j in moves:
            self._hold(put, here, begin, at)
            fits = at < steps
            for r in range(resources):
                just_read = fresh & (at == s + 1)
                pages = np.where(just_read, self._moves[1, i, j, r], self._moves[0, i, j, r])
                if pages.any():
                    rows.append(np.where(fits & (pages > 0), at * resources + r, -1))
                    values.append(-self._load[r] * pages)
            here, begin = j, at
        self._hold(put, here, begin, e + 1)
        put(e * resources + stack.up(target), -self._load[stack.up(target)], inside)
        put(self._node + s * tiers + source, -1.0, s >= 0)
        put(self._node + e * tiers + target, 1.0, inside)
        put(self._group + group, 1.0, always)
        # A move of tier i to j on one simplex channel, or a read beside a move, meets one row
        # twice: HiGHS wants such entries summed up.
        self._add(
            np.zeros(len(group)),
            highspy.kHighsInf,
            *_summed(np.stack(rows, 1), np.stack(values, 1)),
        )

    def _hold(self, put: _Put, tier: int, begin: Int64s, end: Int64s) -> None:
        """Count a page in a tier during begin..end − 1."""
        steps, below = self._steps, self._stack.tiers - 1
        if tier == below:
            return
        some = end > begin
        put(self._balance + begin * below + tier, -1.0, some & (begin < steps))
        put(self._balance + end * below + tier, 1.0, some & (end < steps))

    def _add(self, cost: Floats, upper: float, rows: Int64s, values: Floats) -> None:
        used = (rows >= 0) & (values != 0)
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))[:-1]]).astype(np.int32)
        self.highs.addCols(
            len(cost), cost, np.zeros(len(cost)), np.full(len(cost), upper), int(used.sum()),
            starts, rows[used].astype(np.int32), values[used],
        )  # fmt: skip


def _summed(rows: Int64s, values: Floats) -> tuple[Int64s, Floats]:
    """Add up the values of entries of one column that name the same row."""
    order = np.argsort(rows, axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    for k in range(rows.shape[1] - 1, 0, -1):
        same = (rows[:, k] == rows[:, k - 1]) & (rows[:, k] >= 0)
        values[same, k - 1] += values[same, k]
        rows[same, k] = -1
    return rows, values
