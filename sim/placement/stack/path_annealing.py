"""Annealing over paths: read a page from another tier, and re-plan what is around it. An oracle."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel, wide
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.paths import occupy, replan, step_time
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.placement.stack.state import PathState

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

BLEND = 0.1
WINDOW = 30
"""Steps before and after the read that are re-planned at most."""
TRIES = 64
"""Pages that are looked at to find those in the tier that is full."""
VICTIMS = 6
"""Of these, how many are compared."""


def path_annealing(
    case: StackCase,
    lam: Floats,
    mu: Floats,
    begin: TierSchedule,
    *,
    proposals: int = 2_000_000,
    temperature: float = 0.1,
    seed: int = 0,
) -> TierSchedule:
    """Anneal from a schedule; return the best of begin and end.

    propose: draw a read of page p at step t, another tier j, and a window around t
        if j is full at t: of a few pages there take out the one whose next read is farthest
        p's best path through j at t, then the other page's best path, both within the window
            (see `price_guided`); where they are outside it stays
    accept by Metropolis, by the true change of the steps' times, while the temperature falls
        exponentially to a 1,000th

    Args:
        case: the case.
        lam, mu: the bound's multipliers.
        begin: a feasible schedule.
        proposals: how many to draw.
        temperature: the first one, in pages on the channel below HBM.
        seed: of the draws.
    """
    state = PathState.of(case, begin)
    reads = case.reads
    if reads.reads == 0:
        return begin
    step_of_read = np.repeat(np.arange(reads.steps, dtype=np.int32), reads.reads_per_step)
    second_s = reads.page_bytes / case.stack.bytes_per_s[1]
    _anneal(
        *state.arrays(), lam * state.page_s, np.ascontiguousarray(mu), reads.pages, step_of_read,
        proposals, temperature * second_s, seed,
    )  # fmt: skip
    found = state.schedule()
    return found if case.cost(found).time_s < case.cost(begin).time_s else begin


@kernel
def _draw(state: UInt64s) -> float:
    """A float in [0, 1) of xorshift64*, whose state is uint64[1]."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float(np.float64((x * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * 2.0**-53)


@kernel
def _anneal(
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
    page_of_read: Int32s,
    step_of_read: Int32s,
    proposals: int,
    temperature: float,
    seed: int,
) -> None:
    n, steps = where.shape
    tiers = len(of_read)
    cost = np.empty((2, tiers))
    back = np.empty((steps, tiers), np.int8)
    old = np.empty((2, steps), np.int8)
    pair = np.empty(2, np.int64)
    first = np.empty(2, np.int64)
    state = np.empty(1, np.uint64)
    # The seed is spread by one multiplication and kept odd, so never zero.
    state[0] = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    for _ in range(8):
        _draw(state)
    cool = 1000.0 ** (-1024.0 / (proposals + 1.0))
    for k in range(proposals):
        if k % 1024 == 0:
            temperature *= cool
        x = wide(_draw(state) * len(page_of_read))
        p, t = wide(page_of_read[x]), wide(step_of_read[x])
        j = wide(_draw(state) * tiers)
        if born[p] >= t or where[p, t] == j:
            continue
        a = max(t - 1 - wide(_draw(state) * WINDOW), wide(0))
        b = min(t + 1 + wide(_draw(state) * WINDOW), wide(steps - 1))
        pair[0], pair[1] = p, -1
        if j < tiers - 1 and occupancy[t, j] >= room[j]:
            farthest, met = wide(-1), 0
            for _ in range(TRIES):
                c = wide(_draw(state) * n)
                if c != p and born[c] < t and where[c, t] == j:
                    u = t
                    while u <= b and not read[c, u]:
                        u += 1
                    if u > farthest:
                        farthest = u
                        pair[1] = c
                    met += 1
                    if met == VICTIMS:
                        break
            if met == 0:
                continue
        both = 2 if pair[1] >= 0 else 1
        change = 0.0
        for u in range(a, min(b + 2, steps)):
            change -= step_time(loads[u], tier_of, norm, tiers)
        for v in range(both):
            q = pair[v]
            first[v] = max(a, wide(born[q] + 1))
            for u in range(a, b + 1):
                old[v, u] = where[q, u]
            occupy(q, first[v], b, -1, where, read, born, start, of_read, of_move, page_s, loads,
                   occupancy)  # fmt: skip
        good = True
        for v in range(both):
            q = pair[v]
            good = good and replan(
                q, first[v], b, t if v == 0 else -1, j, where, read, born, start, of_read, of_move,
                page_s, tier_of, norm, room, loads, occupancy, price, mu, BLEND, cost, back,
            )  # fmt: skip
            occupy(q, first[v], b, 1, where, read, born, start, of_read, of_move, page_s, loads,
                   occupancy)  # fmt: skip
        for u in range(a, min(b + 2, steps)):
            change += step_time(loads[u], tier_of, norm, tiers)
        if good and (change <= 0.0 or _draw(state) < np.exp(-change / temperature)):
            continue
        for w in range(both):
            v = both - 1 - w
            q = pair[v]
            occupy(q, first[v], b, -1, where, read, born, start, of_read, of_move, page_s, loads,
                   occupancy)  # fmt: skip
            for u in range(a, b + 1):
                where[q, u] = old[v, u]
            occupy(q, first[v], b, 1, where, read, born, start, of_read, of_move, page_s, loads,
                   occupancy)  # fmt: skip
