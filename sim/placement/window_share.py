"""The published oracle: annealing over a look-ahead window W and a migrated share R.

Source: arXiv 2508.13231. It is a feasible schedule, so it shows no bound; the certificate says how
far above the optimum it is.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.schedules.cost import evaluate
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

PROPOSALS_PER_TEMPERATURE = 12
INITIAL_ACCEPTANCE = 0.8
COOLING = 0.9
LEAST_IMPROVEMENT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class WindowShare:
    """The schedule found, the two scalars it belongs to, and how many were tried."""

    schedule: Schedule
    window: int
    share: float
    tried: int


def window_share(
    reads: PageReads,
    tiers: TwoTiers,
    resident: Bools,
    *,
    free_start: bool = False,
    seed: int = 0,
) -> WindowShare:
    """Anneal (W, R) for the least time.

    start at W = 16, R = 0.5
    C = the temperature at which a mean increase is accepted with probability 0.8
    repeat: 12 times: propose ΔW ∈ {±1, ±2} (0.4), ΔR = ±0.1 (0.4) or both (0.2); accept an
            increase ΔT with probability exp(−ΔT / C)
        C = 0.9 C
    until the best time improved by less than 0.1 % at this temperature
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    start = None if free_start else resident
    times: dict[tuple[int, int], float] = {}

    def time_of(window: int, tenths: int) -> float:
        if (window, tenths) not in times:
            schedule = window_share_schedule(reads, tiers, resident, window, tenths / 10)
            times[window, tenths] = evaluate(reads, tiers, schedule, start).time_s
        return times[window, tenths]

    def propose(window: int, tenths: int) -> tuple[int, int]:
        kind = draw.random()
        if kind < 0.4 or kind >= 0.8:
            window += int(draw.choice([-2, -1, 1, 2]))
        if kind >= 0.4:
            tenths += int(draw.choice([-1, 1]))
        return min(max(window, 1), reads.steps), min(max(tenths, 0), 10)

    here = (min(16, reads.steps), 5)
    now = time_of(*here)
    best, best_time = here, now
    increases = [abs(time_of(*propose(*here)) - now) for _ in range(6)]
    temperature = -(sum(increases) / len(increases)) / math.log(INITIAL_ACCEPTANCE)
    while True:
        before = best_time
        for _ in range(PROPOSALS_PER_TEMPERATURE):
            there = propose(*here)
            change = time_of(*there) - now
            if change <= 0 or (temperature > 0 and draw.random() < math.exp(-change / temperature)):
                here, now = there, now + change
                if now < best_time:
                    best, best_time = here, now
        temperature *= COOLING
        if before - best_time <= LEAST_IMPROVEMENT * before:
            break
    window, tenths = best
    schedule = window_share_schedule(reads, tiers, resident, window, tenths / 10)
    return WindowShare(schedule, window, tenths / 10, len(times))


def window_share_schedule(
    reads: PageReads, tiers: TwoTiers, resident: Bools, window: int, share: float
) -> Schedule:
    """Place pages by their reads in the next `window` steps, moving `share` of the candidates.

    for each step t:
        c = reads of each page in t .. t + W − 1
        pair the pages outside HBM, most reads first, with those inside, fewest first, while the
        former has more; exchange the first R of these pairs
    """
    page, first, last, n = _window_share(
        reads.offsets, reads.pages, reads.born, resident, tiers.hbm_pages, window, share
    )
    return Schedule.of(page[:n], first[:n], last[:n])


@kernel
def _window_share(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    resident: Bools,
    room: int,
    window: int,
    share: float,
) -> tuple[Int32s, Int32s, Int32s, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    count = np.zeros(n_pages, np.int32)
    for i in range(offsets[min(window, steps)]):
        count[pages[i]] += 1
    since = np.full(n_pages, -1, np.int32)
    used = 0
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            used += 1
    size = n_pages + 4096
    page_of = np.empty(size, np.int32)
    first_of = np.empty(size, np.int32)
    last_of = np.empty(size, np.int32)
    n = 0
    inside = np.zeros(window + 2, np.int64)
    outside = np.zeros(window + 2, np.int64)
    for t in range(steps):
        inside[:] = 0
        outside[:] = 0
        for p in range(n_pages):
            if since[p] >= 0:
                inside[count[p]] += 1
            elif born[p] < t:
                outside[count[p]] += 1
        # How many of each count go out and come in: pair the extremes, by counting.
        free = room - used
        low, high = 0, window
        pairs, fills = np.int64(0), np.int64(0)
        left_in, left_out = inside[0], outside[window]
        while high > 0:
            if left_out == 0:
                high -= 1
                left_out = outside[high]
                continue
            if free > fills:
                take = min(left_out, free - fills)
                fills += take
                left_out -= take
                continue
            while low < high and left_in == 0:
                low += 1
                left_in = inside[low]
            if low >= high:
                break
            take = min(left_in, left_out)
            pairs += take
            left_in -= take
            left_out -= take
        moved = math.ceil(share * pairs)
        incoming = fills + moved
        # The highest counts outside and the lowest inside; lowest page numbers first.
        high = window
        need = incoming
        while high > 0 and need > outside[high]:
            need -= outside[high]
            high -= 1
        low = 0
        drop = np.int64(moved)
        while low < window and drop > inside[low]:
            drop -= inside[low]
            low += 1
        if n + moved > size:
            size = 2 * (size + moved)
            page_of = np.concatenate((page_of[:n], np.empty(size - n, np.int32)))
            first_of = np.concatenate((first_of[:n], np.empty(size - n, np.int32)))
            last_of = np.concatenate((last_of[:n], np.empty(size - n, np.int32)))
        if incoming > 0:
            for p in range(n_pages):
                c = count[p]
                if since[p] >= 0:
                    if moved > 0 and (c < low or (c == low and drop > 0)):
                        if c == low:
                            drop -= 1
                        if since[p] < t:
                            page_of[n] = p
                            first_of[n] = since[p]
                            last_of[n] = t - 1
                            n += 1
                        since[p] = -1
                        used -= 1
                elif born[p] < t and c > 0 and (c > high or (c == high and need > 0)):
                    if c == high:
                        need -= 1
                    since[p] = t
                    used += 1
        for i in range(offsets[t], offsets[t + 1]):
            count[pages[i]] -= 1
        if t + window < steps:
            for i in range(offsets[t + window], offsets[t + window + 1]):
                count[pages[i]] += 1
    total = n
    for p in range(n_pages):
        if since[p] >= 0:
            total += 1
    page_all = np.empty(total, np.int32)
    first_all = np.empty(total, np.int32)
    last_all = np.empty(total, np.int32)
    for i in range(n):
        page_all[i], first_all[i], last_all[i] = page_of[i], first_of[i], last_of[i]
    for p in range(n_pages):
        if since[p] >= 0:
            page_all[n] = p
            first_all[n] = since[p]
            last_all[n] = steps - 1
            n += 1
    return page_all, first_all, last_all, n
