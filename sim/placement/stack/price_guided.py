"""Price-guided: each page takes its cheapest path at the bound's prices. An oracle."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel, wide
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.paths import occupy, replan
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.placement.stack.state import PathState

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLENDS = (1.0, 0.7, 0.5, 0.3, 0.1)
"""How much the prices count in each sweep, beside what a path adds to the steps' times."""


def price_guided(
    case: StackCase,
    lam: Floats,
    mu: Floats,
    begin: Sequence[TierSchedule],
    *,
    seed: int = 0,
) -> TierSchedule:
    """Re-plan a feasible schedule page by page; return the best of what was met.

    take the fastest of the schedules to begin with
    for each blend, from 1 (prices alone) to 0.1:
        for each page in random order:
            take it out; by dynamic programming over tiers find the path that costs least,
                blend · prices of its reads and moves
                + (1 − blend) · what these add to the times of their steps
                + prices of its slots, where a full tier is closed
            put it back on that path

    Pages leave slots that are dearer than what they bring there, and others move in: so the
    capacities hold all the time and nothing needs repair.

    Args:
        case: the case.
        lam, mu: the bound's multipliers.
        begin: feasible schedules, one or more.
        seed: of the order of pages.
    """
    best = min(begin, key=lambda s: case.cost(s).time_s)
    best_s = case.cost(best).time_s
    state = PathState.of(case, best)
    draw = np.random.Generator(np.random.PCG64(seed))
    for blend in BLENDS:
        order = draw.permutation(case.reads.n_pages)
        _sweep(*state.arrays(), lam * state.page_s, np.ascontiguousarray(mu), blend, order)
        found = state.schedule()
        found_s = case.cost(found).time_s
        if found_s < best_s:
            best, best_s = found, found_s
    return best


@kernel
def _sweep(
    where: Int8s,
    read: Int8s,
    born: Int32s,
    start: Int8s,
    of_read: Int64s,
    of_move: Int64s,
    page_s: Floats,
    tier_of: Int64s,
    norm: float,
    room: Int64s,
    loads: Floats,
    occupancy: Int64s,
    price: Floats,
    mu: Floats,
    blend: float,
    order: Int64s,
) -> None:
    steps = loads.shape[0]
    cost = np.empty((2, len(of_read)))
    back = np.empty((steps, len(of_read)), np.int8)
    for page in order:
        p, a, b = wide(page), wide(born[page] + 1), wide(steps - 1)
        if a > b:
            continue
        occupy(p, a, b, -1, where, read, born, start, of_read, of_move, page_s, loads, occupancy)
        replan(
            p, a, b, -1, -1, where, read, born, start, of_read, of_move, page_s, tier_of, norm,
            room, loads, occupancy, price, mu, blend, cost, back,
        )  # fmt: skip
        occupy(p, a, b, 1, where, read, born, start, of_read, of_move, page_s, loads, occupancy)
