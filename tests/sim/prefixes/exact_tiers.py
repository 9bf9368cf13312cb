"""Exact optima of tiny prefix caches over tiers, two ways that share nothing with the bound.

`optimum` is a mixed-integer program, piece by piece and slot by slot: binary x[piece, tier, t] says
that a copy of it lies in a tier between the requests t and t + 1. `all_policies` goes through
everything that a cache of equal blocks could hold after each request.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

Group = tuple[int, Callable[[int], int]]
"""Parts of a piece, and the first block of which a prefix of so many blocks needs one."""

ONE_GROUP: tuple[Group, ...] = ((1, lambda blocks: 0),)


def optimum(
    rows: list[list[int]],
    rooms: Sequence[int],
    worth: Sequence[float],
    loads: Sequence[float],
    groups: Sequence[Group] = ONE_GROUP,
    *,
    whole: bool = True,
) -> float:
    """What can be saved, `worth` by depth less `loads` by tier for each part found there.

    Args:
        rows: the blocks of each request.
        rooms: parts that each tier holds.
        worth: of a block by its depth.
        loads: of a part from each tier.
        groups: whose pieces a prefix needs.
        whole: False for the linear relaxation.
    """
    pieces = [(g, b) for g in range(len(groups)) for b in sorted({b for row in rows for b in row})]
    entries: list[tuple[int, int, float]] = []
    upper: list[float] = []
    cost: list[float] = []

    def column(of: float = 0.0) -> int:
        cost.append(-of)
        return len(cost) - 1

    def at_most(limit: float, *terms: tuple[int, float]) -> None:
        entries.extend((len(upper), at, weight) for at, weight in terms)
        upper.append(limit)

    slots, tiers = range(len(rows)), range(len(rooms))
    held = {(p, j, t): column() for p in pieces for j in tiers for t in slots}
    for t, row in enumerate(rows):
        for j in tiers:
            at_most(rooms[j], *((held[p, j, t], float(groups[p[0]][0])) for p in pieces))
            for p in pieces:
                if p[1] not in row:  # stays, or came down from a tier above
                    above = [(held[p, i, t - 1], -1.0) for i in tiers if i <= j and t]
                    at_most(0.0, (held[p, j, t], 1.0), *above)
        if not t:
            continue
        ends = {h: column(sum(worth[:h])) for h in range(1, len(row) + 1)}
        at_most(1.0, *((y, 1.0) for y in ends.values()))
        for g, (size, first) in enumerate(groups):
            for i, block in enumerate(row):
                needing = [(y, 1.0) for h, y in ends.items() if first(h) <= i < h]
                if not needing:
                    continue
                taken = [column(-size * loads[j]) for j in tiers]
                at_most(0.0, *needing, *((z, -1.0) for z in taken))
                for j, z in enumerate(taken):
                    at_most(0.0, (z, 1.0), (held[(g, block), j, t - 1], -1.0))
    if not entries:
        return 0.0
    row_of, column_of, weight = (np.array(part) for part in zip(*entries, strict=True))
    result = milp(
        np.array(cost),
        integrality=np.full(len(cost), int(whole)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(
            coo_array((weight, (row_of, column_of)), shape=(len(upper), len(cost))).tocsr(),
            ub=np.array(upper),
        ),
        options={"mip_rel_gap": 0.0},
    )
    if result.status != 0:
        raise RuntimeError(f"the exact program was not solved: {result.message}")
    return -float(result.fun)


def all_policies(
    rows: list[list[int]],
    rooms: Sequence[int],
    worth: Sequence[float],
    loads: Sequence[float],
    *,
    overlap: bool = False,
) -> float:
    """What the best of all policies saves, by going through all that two tiers can hold.

    With overlap a request takes the longer of what it computes and what is loaded while it is
    served, for itself and for others that come later.
    """

    def contents(choice: frozenset[int], room: int) -> list[frozenset[int]]:
        sizes = range(min(room, len(choice)) + 1)
        return [frozenset(c) for size in sizes for c in combinations(sorted(choice), size)]

    def found(row: list[int], upper: frozenset[int], lower: frozenset[int]) -> list[list[int]]:
        """Every prefix that can be had."""
        depth = 0
        while depth < len(row) and row[depth] in upper | lower:
            depth += 1
        return [row[:size] for size in range(depth + 1)]

    @cache
    def best(at: int, upper: frozenset[int], lower: frozenset[int]) -> float:
        if at == len(rows):
            return 0.0
        row, most = rows[at], -float("inf")
        full = sum(worth[: len(row)])
        now = upper | frozenset(row)  # what is used is in the upper tier, if only for a moment
        for above in contents(now | (lower if overlap else frozenset()), rooms[0]):
            ahead = len(above - now) * loads[1]
            for prefix in found(row, upper, lower):
                worth_of_it = sum(worth[: len(prefix)])
                loaded = loads[1] * len(set(prefix) - upper)
                saved = worth_of_it - loaded
                if overlap:
                    saved = full - max(full - worth_of_it, loaded + ahead)
                for below in contents(now | lower, rooms[1]):
                    most = max(most, saved + best(at + 1, above, below))
        return most

    return best(0, frozenset(), frozenset())
