"""The exact optimum of a tiny prefix cache, block by block and slot by slot.

It shares nothing with runs, schedules or prices: binary x[b, t] says that block b is in the cache
between the requests t and t + 1, and y[r, i] that request r finds its first i + 1 blocks.
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array


def optimum(rows: list[list[int]], capacity: int, worth: list[float]) -> float:
    """Solve as a mixed-integer program what leading blocks can save, `worth` by depth."""
    blocks = sorted({block for row in rows for block in row})
    n, slots = len(blocks), len(rows)
    held = {block: [b * slots + t for t in range(slots)] for b, block in enumerate(blocks)}
    found = [(r, i) for r, row in enumerate(rows) for i in range(len(row))]
    place = {pair: n * slots + j for j, pair in enumerate(found)}
    entries: list[tuple[int, int, float]] = []
    upper: list[float] = []

    def at_most(limit: float, *terms: tuple[int, float]) -> None:
        entries.extend((len(upper), column, weight) for column, weight in terms)
        upper.append(limit)

    for t, row in enumerate(rows):
        at_most(capacity, *((held[block][t], 1.0) for block in blocks))
        for block in blocks:
            if block not in row:  # comes in by being used only
                before = [(held[block][t - 1], -1.0)] if t else []
                at_most(0.0, (held[block][t], 1.0), *before)
        for i, block in enumerate(row):
            y = place[t, i]
            at_most(0.0, (y, 1.0), *([(held[block][t - 1], -1.0)] if t else []))
            if i:
                at_most(0.0, (y, 1.0), (place[t, i - 1], -1.0))
    size = n * slots + len(found)
    cost = np.zeros(size)
    for (r, i), y in place.items():
        cost[y] = -worth[i]
        if r == 0:
            at_most(0.0, (y, 1.0))
    row_of, column, weight = (np.array(part) for part in zip(*entries, strict=True))
    result = milp(
        cost,
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(
            coo_array((weight, (row_of, column)), shape=(len(upper), size)).tocsr(),
            ub=np.array(upper),
        ),
        options={"mip_rel_gap": 0.0},
    )
    if result.status != 0:
        raise RuntimeError(f"the exact program was not solved: {result.message}")
    return -float(result.fun)
