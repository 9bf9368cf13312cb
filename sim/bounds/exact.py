"""The exact optimum of a tiny case, page by page and step by step: what bounds are tested against.

Binary x[p, t] says that page p is in HBM at step t. It shares nothing with the interval program or
the certificate: no intervals, no groups, no multipliers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from vsim.sim.schedules.cost import births
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """The optimum found: its time by the solver's own objective, and its schedule."""

    time_s: float
    schedule: Schedule


def optimum(
    reads: PageReads,
    tiers: TwoTiers,
    resident_at_start: Bools | None,
    *,
    integral: bool = True,
) -> Optimum:
    """Solve a tiny case as a mixed-integer program, for the max() step time.

    Args:
        reads: at most some hundred (page, step) pairs.
        tiers: the memory, inclusive or exclusive, simplex or duplex.
        resident_at_start: bool[n_pages], or None: any pages of the prompt, at no cost.
        integral: False: the linear relaxation of the same program.

    Raises:
        RuntimeError: the solver did not end at an optimum.
    """
    steps, n = reads.steps, reads.n_pages
    born = reads.born
    # Variables: x[p, t], up[p, t], down[p, t], then z[t] in channel pages.
    cells = n * steps
    x = np.arange(cells).reshape(n, steps)
    up, down = x + cells, x + 2 * cells
    z = 3 * cells + np.arange(steps)
    upper = np.ones(3 * cells + steps)
    upper[z] = np.inf
    read = np.zeros((n, steps), np.bool_)
    for t in range(steps):
        read[reads.pages[reads.offsets[t] : reads.offsets[t + 1]], t] = True

    entries: list[tuple[int, int, float]] = []
    lower: list[float] = []

    def at_least(value: float, terms: list[tuple[int, float]]) -> None:
        entries.extend((len(lower), int(column), weight) for column, weight in terms)
        lower.append(value)

    extra_down = np.zeros(steps)
    for p in range(n):
        upper[x[p, : max(born[p] + 1, 0)]] = 0
        for t in range(steps):
            before: list[tuple[int, float]] = []
            there = 0.0  # the page is in HBM already, as a constant
            if t > 0:
                before = [(x[p, t - 1], 1.0)]
            elif born[p] < 0:
                there = 1.0 if resident_at_start is None else float(resident_at_start[p])
            if t > 0 and born[p] == t - 1:
                there = 1.0
            free = there
            if not tiers.exclusive and t > 0 and read[p, t - 1]:
                free = 1.0
            at_least(-free, [*before, (up[p, t], 1.0), (x[p, t], -1.0)])
            if tiers.exclusive and not (t == 0 and resident_at_start is None):
                at_least(there, [(down[p, t], 1.0), (x[p, t], 1.0)]) if there else at_least(
                    0.0, [(down[p, t], 1.0), (x[p, t], 1.0), *[(c, -w) for c, w in before]]
                )
    if not tiers.exclusive:
        extra_down = births(reads).astype(np.float64)
    for t in range(steps):
        at_least(-float(tiers.hbm_pages), [(c, -1.0) for c in x[:, t]])
        mine = np.flatnonzero(read[:, t])
        writing = [p for p in mine if born[p] == t]
        old = [p for p in mine if born[p] != t]
        fixed = len(writing) + tiers.weight_bytes / reads.page_bytes
        at_least(
            fixed / tiers.ratio(), [(z[t], 1.0), *[(x[p, t], -1.0 / tiers.ratio()) for p in old]]
        )
        upward = [*[(x[p, t], 1.0) for p in old], *[(c, -1.0) for c in up[:, t]]]
        downward = [(c, -1.0) for c in down[:, t]]
        if tiers.duplex:
            at_least(float(len(old)), [(z[t], 1.0), *upward])
            at_least(extra_down[t], [(z[t], 1.0), *downward])
        else:
            at_least(len(old) + extra_down[t], [(z[t], 1.0), *upward, *downward])
    row, column, weight = (np.array(part) for part in zip(*entries, strict=True))
    matrix = coo_array((weight, (row, column)), shape=(len(lower), len(upper))).tocsr()
    cost = np.zeros(len(upper))
    cost[z] = 1.0
    kind = np.zeros(len(upper), np.int64)
    kind[:cells] = 1 if integral else 0
    for presolve in (True, False):  # HiGHS's presolve ends some trivial cases with "Solve error"
        result = milp(
            cost,
            integrality=kind,
            bounds=Bounds(0, upper),
            constraints=LinearConstraint(matrix, lb=np.array(lower)),
            options={"mip_rel_gap": 0.0, "presolve": presolve},
        )
        if result.x is not None and result.status == 0:
            break
    else:
        raise RuntimeError(f"the exact program was not solved: {result.message}")
    resident = np.asarray(result.x[:cells]).reshape(n, steps) > 0.5
    return Optimum(
        time_s=float(result.fun) * reads.page_bytes / tiers.slow_bytes_per_s,
        schedule=schedule_of(resident),
    )


def schedule_of(resident: npt.NDArray[np.bool_]) -> Schedule:
    """Make the schedule of a table bool[n_pages, steps]."""
    padded = np.pad(resident, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    page, first = np.nonzero(change == 1)
    _, last = np.nonzero(change == -1)
    return Schedule.of(page, first, last - 1)
