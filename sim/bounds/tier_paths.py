"""Cheapest paths over tiers between two reads, for given prices."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@kernel
def best_paths(
    order: Int64s,
    start: Int64s,
    end: Int64s,
    move: Floats,
    room: Floats,
    read: Floats,
    node: Floats,
    of_group: Floats,
    tiers: int,
    tolerance: float,
) -> tuple[npt.NDArray[np.bool_], Int64s]:
    """For each group the path of least reduced cost: its source tier, moves (step, from, to).

    `order` has the groups by `start`, those of one start by `end`. `move` is float64[2, T, K, K]:
    prices of moves, and of those just after a read or a birth.
    """
    steps = len(room)
    longest = 8  # moves that a path may have; a path with more waits for later rounds
    gain = np.zeros(len(start), np.bool_)
    path = np.zeros((len(start), 2 + 3 * longest), np.int64)
    cost = np.empty((tiers, tiers))
    step_cost = np.empty((tiers, tiers))
    back = np.empty((steps + 1, tiers, tiers), np.int8)
    at = 0
    while at < len(order):
        s = start[order[at]]
        upto = at
        farthest = np.int64(0)
        while upto < len(order) and start[order[upto]] == s:
            farthest = max(farthest, end[order[upto]])
            upto += 1
        # Groups of one start, by their end, while the program moves on from it.
        for i in range(tiers):
            for j in range(tiers):
                cost[i, j] = 0.0 if i == j else np.inf
        if s < 0 and s != -1 - tiers:
            for i in range(tiers):
                if i != -1 - s:
                    cost[i, i] = np.inf
        first = max(s, -1) + 1
        q = at
        for t in range(first, farthest + 1):
            if t < steps:
                fresh = np.int64(s >= 0 and t == first)
                for i in range(tiers):
                    for j in range(tiers):
                        best, by = np.inf, 0
                        for m in range(tiers):
                            value = cost[i, m] + move[fresh, t, m, j]
                            if value < best:
                                best, by = value, m
                        step_cost[i, j] = best + room[t, j]
                        back[t, i, j] = by
                for i in range(tiers):
                    for j in range(tiers):
                        cost[i, j] = step_cost[i, j]
            while q < upto and end[order[q]] == t:
                g = order[q]
                q += 1
                least, best_i, best_j = np.inf, -1, -1
                for i in range(tiers):
                    for j in range(tiers):
                        value = cost[i, j] - of_group[g]
                        if s >= 0:
                            value += node[s, i]
                        if t < steps:
                            value += read[t, j] - node[t, j]
                        if value < least:
                            least, best_i, best_j = value, i, j
                if least < -tolerance:
                    moves = 0
                    j = best_j
                    for u in range(min(t, steps - 1), first - 1, -1):
                        if back[u, best_i, j] != j:
                            moves += 1
                            j = back[u, best_i, j]
                    if moves > longest:
                        continue
                    gain[g] = True
                    path[g, 0] = best_i
                    path[g, 1] = moves
                    j = best_j
                    m = moves
                    for u in range(min(t, steps - 1), first - 1, -1):
                        b = back[u, best_i, j]
                        if b != j:
                            path[g, 3 * m - 1] = u
                            path[g, 3 * m] = b
                            path[g, 3 * m + 1] = j
                            m -= 1
                            j = b
        at = upto
    return gain, path
