"""Re-planning one page at a time: its best path over tiers, given where all other pages are."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel, wide

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@kernel
def step_time(load: Floats, tier_of: Int64s, norm: float, tiers: int) -> float:
    """The time of one step from float64[resources], seconds on each."""
    high = 0.0
    for r in range(len(load)):
        high = max(high, load[r])
    if np.isinf(norm) or high == 0.0:
        return high
    total = 0.0
    for i in range(tiers):
        mine = 0.0
        for r in range(len(load)):
            if tier_of[r] == i:
                mine = max(mine, load[r])
        total += (mine / high) ** norm
    return float(high * total ** (1.0 / norm))


@kernel
def occupy(
    p: int,
    a: int,
    b: int,
    sign: int,
    where: Int8s,
    read: Int8s,
    born: Int32s,
    start: Int8s,
    of_read: Int64s,
    of_move: Int64s,
    page_s: Floats,
    loads: Floats,
    occupancy: Int64s,
) -> None:
    """Add (sign 1) or take away (−1) what page p does at steps a..b and its move at b + 1."""
    steps = loads.shape[0]
    for t in range(a, min(b + 2, steps)):
        here = wide(where[p, t])
        if t == born[p] + 1:
            before = wide(0) if born[p] >= 0 else wide(start[p])
            if before < 0:
                before = here
        else:
            before = wide(where[p, t - 1])
        fresh = wide(t > 0 and (read[p, t - 1] > 0 or born[p] == t - 1))
        if before != here:
            for r in range(len(page_s)):
                loads[t, r] += sign * of_move[fresh, before, here, r] * page_s[r]
        if t <= b:
            if here < occupancy.shape[1]:
                occupancy[t, here] += sign
            if read[p, t]:
                for r in range(len(page_s)):
                    loads[t, r] += sign * of_read[here, r] * page_s[r]


@kernel
def replan(
    p: int,
    a: int,
    b: int,
    forced_step: int,
    forced_tier: int,
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
    cost: Floats,
    back: Int8s,
) -> bool:
    """Find page p's best path over a..b by dynamic programming; write it to `where`.

    The page is not in `loads` and `occupancy` over a..b (see `occupy`), and where it is before a
    and after b stays. A transition costs what it adds to its step's time, blended with the linear
    price of its loads, and the price of its slot; a full tier is closed.

    Args:
        p, a, b: the page and the steps.
        forced_step, forced_tier: a step at which it has to be in a tier; −1: none.
        where: int8[n_pages, T], the tiers of all pages.
        read: int8[n_pages, T], 1 where a step reads a page.
        born, start: of each page; start −1: free.
        of_read, of_move: int64[K, resources] and int64[2, K, K, resources], see TierStack.
        page_s: float64[resources], seconds of one page.
        tier_of, norm, room: see TierStack.
        loads: float64[T, resources], seconds, weights included.
        occupancy: int64[T, K − 1].
        price: float64[T, resources], seconds of a page by the bound's multipliers.
        mu: float64[T, K − 1], seconds of a slot.
        blend: 0: only what it adds to the steps' times; 1: only prices.
        cost, back: float64[2, K] and int8[T, K], room to work in.

    Returns:
        False if no path is open; `where` is as it was.
    """
    steps, resources = loads.shape
    tiers = of_read.shape[0]
    begin = born[p] + 1
    with_p = np.empty(resources)
    now, then = 0, 1
    for t in range(a, b + 1):
        base = step_time(loads[t], tier_of, norm, tiers)
        fresh = wide(t > 0 and (read[p, t - 1] > 0 or born[p] == t - 1))
        for j in range(tiers):
            cost[then, j] = np.inf
            if j < tiers - 1 and occupancy[t, j] >= room[j]:
                continue
            if t == forced_step and j != forced_tier:
                continue
            for i in range(tiers):
                so_far = cost[now, i]
                if t == begin:
                    before = wide(0) if born[p] >= 0 else wide(start[p])
                    so_far = 0.0 if before == i or (before < 0 and i == j) else np.inf
                elif t == a:
                    so_far = 0.0 if where[p, t - 1] == i else np.inf
                if so_far == np.inf:
                    continue
                linear = 0.0
                for r in range(resources):
                    more = of_move[fresh, i, j, r] + (of_read[j, r] if read[p, t] else 0)
                    with_p[r] = loads[t, r] + more * page_s[r]
                    linear += more * price[t, r]
                value = so_far + blend * linear
                if blend < 1.0:
                    value += (1.0 - blend) * (step_time(with_p, tier_of, norm, tiers) - base)
                if j < tiers - 1:
                    value += mu[t, j]
                if value < cost[then, j]:
                    cost[then, j] = value
                    back[t, j] = i
        now, then = then, now
    if b + 1 < steps:
        # The move to where the page is afterwards.
        t, j = b + 1, wide(where[p, b + 1])
        base = step_time(loads[t], tier_of, norm, tiers)
        fresh = wide(read[p, b] > 0)
        for i in range(tiers):
            linear = 0.0
            for r in range(resources):
                with_p[r] = loads[t, r] + of_move[fresh, i, j, r] * page_s[r]
                linear += of_move[fresh, i, j, r] * price[t, r]
            cost[now, i] += blend * linear
            if blend < 1.0:
                cost[now, i] += (1.0 - blend) * (step_time(with_p, tier_of, norm, tiers) - base)
    best = 0
    for i in range(tiers):
        if cost[now, i] < cost[now, best]:
            best = i
    if cost[now, best] == np.inf:
        return False
    for q in range(b - a + 1):
        t = b - q
        where[p, t] = best
        best = back[t, best]
    return True
