"""Online retention by a predictor: keep the pages that score best, prefetch on an idle link."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel, wide
from vsim.sim.placement.kth_smallest import kth_smallest
from vsim.sim.placement.predictor import LEAST_MASS, Predictor, places, pressure_of, rank_pages
from vsim.sim.placement.sharing import share_reads
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

SURE = 1e6
"""Above every score: the page is known to be read."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How scores become moves.

    Attributes:
        hysteresis: added to the score of a page that is in HBM.
        balance: share reads of pages in HBM with the slow tier, so that both take equally long.
        prefetch: promote pages on the channel's idle time in a step.
        margin: how much better than the page it replaces a prefetched page must score.
        foresight: steps ahead whose reads are known; only an oracle knows any.
    """

    hysteresis: float = 0.0
    balance: bool = False
    prefetch: bool = False
    margin: float = 0.0
    foresight: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The attention mass a policy has seen: of all pages that were recorded, read or not (CSR).

    Attributes:
        offsets: int64[T+1].
        pages: int32[n].
        relative: float32[n], log2 of the mass over the least selected mass in that head and step.
    """

    offsets: Int64s
    pages: Int32s
    relative: Float32s


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What an online policy did, and how good its predictions were.

    Attributes:
        schedule: the residency intervals.
        predicted_reads: share of reads, beside those of pages just written, whose page was in HBM.
        used_promotions: share of prefetched pages read before they were evicted; 1 if there were
            none.
        prefetches: pages prefetched.
        planner_s_per_step: wall time of the policy itself a step.
    """

    schedule: Schedule
    predicted_reads: float
    used_promotions: float
    prefetches: int
    planner_s_per_step: float


def retain(
    reads: PageReads,
    tiers: TwoTiers,
    resident: Bools,
    predictor: Predictor,
    retention: Retention = Retention(),
    seen: Seen | None = None,
) -> Kept:
    """Keep the pages that the predictor scores highest. Online: step t sees S_1 … S_t only.

    for each step t:
        update the traces with what t reads, and the scores
        prefetch: while the channel is idle at t, by the usual pressure: promote the best page that
            is neither in HBM nor read by t, in place of the worst page in HBM that t does not read,
            if better by margin
        rank the pages in HBM (score + hysteresis) and those streamed in, and keep the best k

    A foresight of n puts the pages that t + 1 reads first, then those of t + 2, … up to t + n. With
    `balance`, reads are shared with the slow tier in the end (`sharing.py`).

    Args:
        reads, tiers, resident: the case.
        predictor: scores pages.
        retention: how scores become moves.
        seen: attention mass, for a predictor that uses it.

    Raises:
        ValueError: the predictor uses mass and `seen` is None.
    """
    if predictor.uses_mass and seen is None:
        raise ValueError(f"predictor {predictor.name} follows attention mass; the trace has none")
    if seen is None:
        seen = Seen(np.zeros(reads.steps + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, "f4"))
    began = time.perf_counter()
    stays, hits, prefetched, used = _retain(
        reads.offsets, reads.pages, reads.born, resident, tiers.hbm_pages, tiers.ratio(),
        tiers.weight_bytes / reads.page_bytes,
        predictor.kinds, predictor.decays, predictor.weights,
        *places(reads.request, reads.position),
        seen.offsets, seen.pages, seen.relative,
        retention.hysteresis, retention.prefetch, retention.margin, retention.foresight,
    )  # fmt: skip
    schedule = Schedule.of(*stays)
    if retention.balance:
        schedule = share_reads(reads, tiers, schedule)
    elapsed = time.perf_counter() - began
    return Kept(
        schedule=schedule,
        predicted_reads=hits / max(reads.reads, 1),
        used_promotions=used / prefetched if prefetched else 1.0,
        prefetches=int(prefetched),
        planner_s_per_step=elapsed / reads.steps,
    )


@kernel
def _retain(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    resident: Bools,
    room: int,
    ratio: float,
    weight_pages: float,
    kinds: Int64s,
    decays: Floats,
    weights: Floats,
    place: Int32s,
    heads: Floats,
    seen_offsets: Int64s,
    seen_pages: Int32s,
    seen_relative: Float32s,
    hysteresis: float,
    prefetch: bool,
    margin: float,
    foresight: int,
) -> tuple[Int32s, int, int, int]:
    """Carry out `retain`; returns int32[3, n], page, first and last of each stay, and counts."""
    steps = len(offsets) - 1
    n_pages = len(resident)
    traces = np.zeros((len(kinds), n_pages))
    score = np.zeros(n_pages)
    read = np.zeros(n_pages, np.bool_)
    mass = np.full(n_pages, LEAST_MASS)
    similarity = np.zeros(steps)
    pressure = np.zeros(steps)
    reading = np.zeros(len(heads))
    since = np.full(n_pages, -1, np.int32)  # first step of the page's stay in HBM
    waits = np.zeros(n_pages, np.bool_)  # prefetched and not read since
    members = np.empty(n_pages, np.int32)  # pages in HBM
    missed = np.empty(n_pages, np.int32)
    value = np.empty(n_pages)
    used, n = wide(0), wide(0)  # a literal would be a type to compile for
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            members[used] = p
            used += 1
    stays = np.empty((3, n_pages + 4096), np.int32)
    hits, prefetched, fulfilled = 0, 0, 0
    usual = 0.0
    for t in range(steps):
        lo, hi = offsets[t], offsets[t + 1]
        misses, streamed = 0, 0  # streamed: misses and pages that t writes
        for i in range(lo, hi):
            p = pages[i]
            read[p] = True
            if since[p] < 0:
                missed[streamed] = p
                streamed += 1
                misses += born[p] < t
            elif waits[p]:
                waits[p] = False
                fulfilled += 1
        hits += hi - lo - misses
        hbm = (weight_pages + hi - lo - misses) / ratio  # HBM's time, in pages of the channel
        equal = (weight_pages + hi - lo) / (1.0 + ratio)
        pressure[t] = pressure_of(float(misses), equal)
        rank_pages(
            offsets, pages, t, seen_offsets, seen_pages, seen_relative, place, heads,
            kinds, decays, weights, read, pressure, mass, reading, similarity, traces, score,
        )  # fmt: skip
        for j in range(min(foresight, steps - 1 - t), 0, -1):
            for i in range(offsets[t + j], offsets[t + j + 1]):
                score[pages[i]] = SURE + foresight - j

        usual = 0.9 * usual + 0.1 * pressure[t]
        idle = int(min(usual * max(hbm - misses, 0.0), float(n_pages)))
        if prefetch and idle > 0 and t + 1 < steps:
            stays = _with_room(stays, n, idle)
            used, n, promotions = _prefetch(
                t, idle, margin, score, read, born, room, since, waits, members, used, stays, n,
                value,
            )  # fmt: skip
            prefetched += promotions
        for i in range(lo, hi):
            read[pages[i]] = False
        if t + 1 < steps:
            stays = _with_room(stays, n, used)
            used, n = _keep_best(
                t, hysteresis, score, room, missed[:streamed], since, waits, members, used, stays,
                n, value,
            )  # fmt: skip
    stays = _with_room(stays, n, used)
    for j in range(used):
        p = members[j]
        stays[0, n], stays[1, n], stays[2, n] = p, since[p], steps - 1
        n += 1
    return stays[:, :n], hits, prefetched, fulfilled


@kernel
def _with_room(stays: Int32s, n: int, more: int) -> Int32s:
    """Return `stays`, or a larger copy, in which `more` follow the first n."""
    if n + more <= stays.shape[1]:
        return stays
    grown = np.empty((3, 2 * (n + more)), np.int32)
    for i in range(n):
        for field in range(3):
            grown[field, i] = stays[field, i]
    return grown


@kernel
def _prefetch(
    t: int,
    idle: int,
    margin: float,
    score: Floats,
    read: Bools,
    born: Int32s,
    room: int,
    since: Int32s,
    waits: Bools,
    members: Int32s,
    used: int,
    stays: Int32s,
    n: int,
    value: Floats,
) -> tuple[int, int, int]:
    """Let the best pages outside replace the worst inside, as many as gain by it and as are idle.

    Returns how many pages are in HBM, how many stays have ended, and how many were promoted.
    """
    m = 0
    for p in range(len(score)):
        if since[p] < 0 and not read[p] and born[p] < t:
            value[m] = -score[p]
            m += 1
    outside = np.sort(value[:m])
    m = 0
    for j in range(used):
        if not read[members[j]]:
            value[m] = score[members[j]]
            m += 1
    inside = np.sort(value[:m])
    free = room - used
    moves = min(free, idle, len(outside))
    while (
        moves < min(idle, len(outside), free + len(inside))
        and -outside[moves] > inside[moves - free] + margin
    ):
        moves += 1
    if moves == 0:
        return used, n, 0
    # Whom to promote, before anybody leaves. Of those that tie at the edge, the first pages.
    least = -outside[moves - 1]
    ties = moves
    for j in range(moves):
        ties -= -outside[j] > least
    promoted = np.empty(moves, np.int32)
    m = 0
    for p in range(len(score)):
        if since[p] >= 0 or read[p] or born[p] >= t:
            continue
        if score[p] > least or (score[p] == least and ties > 0):
            ties -= score[p] == least
            promoted[m] = p
            m += 1
    leave = moves - free
    if leave > 0:
        worst = inside[leave - 1]
        ties = leave
        for j in range(leave):
            ties -= inside[j] < worst
        kept = 0
        for j in range(used):
            p = members[j]
            leaves = not read[p] and score[p] <= worst
            if leaves and score[p] == worst:
                leaves = ties > 0
                ties -= 1
            if leaves:
                stays[0, n], stays[1, n], stays[2, n] = p, since[p], t - 1
                n += 1
                since[p] = -1
                waits[p] = False
            else:
                members[kept] = p
                kept += 1
        used = kept
    for j in range(moves):
        members[used] = promoted[j]
        used += 1
        since[promoted[j]] = t
        waits[promoted[j]] = True
    return used, n, moves


@kernel
def _keep_best(
    t: int,
    hysteresis: float,
    score: Floats,
    room: int,
    missed: Int32s,
    since: Int32s,
    waits: Bools,
    members: Int32s,
    used: int,
    stays: Int32s,
    n: int,
    value: Floats,
) -> tuple[int, int]:
    """Keep the best of the pages in HBM and those streamed in; return their number and `n`."""
    total = used + len(missed)
    for j in range(used):
        value[j] = score[members[j]] + hysteresis
    for j in range(len(missed)):
        value[used + j] = score[missed[j]]
    limit = min(room, total)
    least = np.inf
    if limit > 0:
        least = kth_smallest(value[:total].copy(), total - limit)
    ties = limit  # how many of those that tie at the edge stay
    for j in range(total):
        ties -= value[j] > least
    kept = 0
    for j in range(total):
        p = members[j] if j < used else missed[j - used]
        stays_on = value[j] > least
        if value[j] == least and ties > 0:
            stays_on = True
            ties -= 1
        if stays_on:
            if j >= used:
                since[p] = t + 1
            members[kept] = p
            kept += 1
        elif j < used:
            stays[0, n], stays[1, n], stays[2, n] = p, since[p], t
            n += 1
            since[p] = -1
            waits[p] = False
    return kept, n
