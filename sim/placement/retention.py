"""Online retention by a predictor: keep the pages that score best, prefetch on an idle link."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.sim.placement.predictor import Predictor, echo, match_steps, places, update_traces
from vsim.sim.placement.schedule import Schedule
from vsim.sim.placement.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

LEAST_MASS = -4.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How scores become moves.

    Attributes:
        hysteresis: added to the score of a page that is in HBM.
        balance: leave out of HBM as many of the surest pages as the slow tier has time for.
        prefetch: promote pages on the channel's idle time in a step.
        margin: how much better than the page it replaces a prefetched page must score.
    """

    hysteresis: float = 0.0
    balance: bool = False
    prefetch: bool = False
    margin: float = 0.0


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
        prefetch: while the channel is idle at t: promote the best page that is neither in HBM nor
            read by t, in place of the worst page in HBM that t does not read, if better by margin
        rank the pages in HBM (score + hysteresis) and those streamed in
        balance: bypass = the slow tier's share of the reads, B2/(B1+B2), less the misses that come
            anyway: their mean and 1.34 standard deviations (one page too many on the slow tier
            costs 1/B2, one too few 1/B1; for 10 : 1 that is the chance of 1 in 11)
        leave out the best `bypass` pages, which are read nearly always, and keep the next k

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
    page, first, last, n, hits, prefetched, used = _retain(
        reads.offsets, reads.pages, reads.born, resident, tiers.hbm_pages, tiers.ratio(),
        tiers.weight_bytes / reads.page_bytes,
        predictor.kinds, predictor.decays, predictor.weights,
        *places(reads.request, reads.position),
        seen.offsets, seen.pages, seen.relative,
        retention.hysteresis, retention.balance, retention.prefetch, retention.margin,
    )  # fmt: skip
    elapsed = time.perf_counter() - began
    return Kept(
        schedule=Schedule.of(page[:n], first[:n], last[:n]),
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
    balance: bool,
    prefetch: bool,
    margin: float,
) -> tuple[Int32s, Int32s, Int32s, int, int, int, int]:
    steps = len(offsets) - 1
    n_pages = len(resident)
    traces = np.zeros((len(kinds), n_pages))
    score = np.zeros(n_pages)
    read = np.zeros(n_pages, np.bool_)
    mass = np.full(n_pages, -4.0)
    similarity = np.zeros(steps)
    echoes = False
    for f in range(len(kinds)):
        echoes = echoes or kinds[f] == 5
    reading = np.zeros(len(heads))  # share of the heads that read each place
    since = np.full(n_pages, -1, np.int32)
    waits = np.zeros(n_pages, np.bool_)  # prefetched and not read since
    members = np.empty(n_pages, np.int32)  # pages in HBM
    used = 0
    for p in range(n_pages):
        if resident[p]:
            since[p] = 0
            members[used] = p
            used += 1
    size = n_pages + 4096
    page_of = np.empty(size, np.int32)
    first_of = np.empty(size, np.int32)
    last_of = np.empty(size, np.int32)
    n = 0
    hits, prefetched, fulfilled = 0, 0, 0
    missed = np.empty(n_pages, np.int32)
    value = np.empty(n_pages)
    left_out = np.full(n_pages, -1, np.int32)  # the step for which the page was bypassed
    mean, spread = 0.0, 0.0  # of the misses that were not chosen
    noted = 0
    for t in range(steps):
        lo, hi = offsets[t], offsets[t + 1]
        misses = 0
        chosen = 0
        for i in range(lo, hi):
            p = pages[i]
            read[p] = True
            if since[p] < 0:
                missed[misses] = p
                misses += 1
                chosen += left_out[p] == t
            elif waits[p]:
                waits[p] = False
                fulfilled += 1
        hits += hi - lo - misses
        for i in range(seen_offsets[t], seen_offsets[t + 1]):
            mass[seen_pages[i]] = min(max(seen_relative[i], -4.0), 4.0)
        reading[:] = 0.0
        for i in range(lo, hi):
            reading[place[pages[i]]] += 1.0
        for j in range(len(reading)):
            reading[j] /= heads[j]
        fast = (weight_pages + hi - lo - misses) / ratio
        update_traces(traces, kinds, decays, read, mass, misses > fast, place, reading)
        if echoes:
            match_steps(offsets, pages, t, read, similarity)
        for f in range(len(kinds)):
            if kinds[f] == 5:
                echo(offsets, pages, t, similarity, decays[f], traces[f])
        for i in range(seen_offsets[t], seen_offsets[t + 1]):
            mass[seen_pages[i]] = -4.0
        score[:] = 0.0
        for f in range(len(kinds)):
            w = weights[f]
            for p in range(n_pages):
                score[p] += w * traces[f, p]

        idle = int(fast - misses) if fast > misses else 0
        if prefetch and idle > 0 and t + 1 < steps:
            if n + idle > size:
                size = 2 * (size + idle)
                page_of = np.concatenate((page_of[:n], np.empty(size - n, np.int32)))
                first_of = np.concatenate((first_of[:n], np.empty(size - n, np.int32)))
                last_of = np.concatenate((last_of[:n], np.empty(size - n, np.int32)))
            # The best pages outside replace the worst inside, as many as gain by it.
            m = 0
            for p in range(n_pages):
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
            leave = moves - free
            if leave > 0:
                worst = inside[leave - 1]
                ties = leave
                for v in inside[:leave]:
                    ties -= v < worst
                kept = 0
                for j in range(used):
                    p = members[j]
                    leaves = not read[p] and score[p] <= worst
                    if leaves and score[p] == worst:
                        leaves = ties > 0
                        ties -= 1
                    if leaves:
                        if since[p] < t:
                            page_of[n] = p
                            first_of[n] = since[p]
                            last_of[n] = t - 1
                            n += 1
                        since[p] = -1
                        waits[p] = False
                        left_out[p] = t  # not to come back in the same step
                    else:
                        members[kept] = p
                        kept += 1
                used = kept
            if moves > 0:
                least = -outside[moves - 1]
                ties = moves
                for v in outside[:moves]:
                    ties -= -v > least
                for p in range(n_pages):
                    if since[p] >= 0 or read[p] or born[p] >= t or left_out[p] == t:
                        continue
                    if score[p] > least or (score[p] == least and ties > 0):
                        ties -= score[p] == least
                        members[used] = p
                        used += 1
                        since[p] = t
                        waits[p] = True
                        prefetched += 1

        for i in range(lo, hi):
            read[pages[i]] = False
        if t + 1 == steps:
            break
        bypass = 0
        if balance:
            noted += 1
            rate = max(1.0 / noted, 0.1)
            off = misses - chosen - mean
            mean += rate * off
            spread += rate * (off * off - spread)
            share = (weight_pages + hi - lo) / (1.0 + ratio)
            bypass = max(int(share - mean - 1.34 * np.sqrt(spread)), 0)
        total = used + misses
        for j in range(used):
            value[j] = score[members[j]] + hysteresis
        for j in range(misses):
            value[used + j] = score[missed[j]]
        bypass = min(bypass, total)
        limit = min(room + bypass, total)
        ranked = np.sort(value[:total])
        least = ranked[total - limit] if limit > 0 else np.inf
        most = ranked[total - bypass] if bypass > 0 else np.inf
        # How many of those that tie at the two ends belong to them.
        ties = limit
        top_ties = bypass
        for j in range(total):
            ties -= value[j] > least
            top_ties -= value[j] > most
        if n + used > size:
            size = 2 * (size + used)
            page_of = np.concatenate((page_of[:n], np.empty(size - n, np.int32)))
            first_of = np.concatenate((first_of[:n], np.empty(size - n, np.int32)))
            last_of = np.concatenate((last_of[:n], np.empty(size - n, np.int32)))
        kept = 0
        for j in range(total):
            p = members[j] if j < used else missed[j - used]
            stays = value[j] > least
            if value[j] == least and ties > 0:
                stays = True
                ties -= 1
            if stays and (value[j] > most or (value[j] == most and top_ties > 0)):
                top_ties -= value[j] == most
                left_out[p] = t + 1
                stays = False
            if stays:
                if j >= used:
                    since[p] = t + 1
                members[kept] = p
                kept += 1
            elif j < used:
                page_of[n] = p
                first_of[n] = since[p]
                last_of[n] = t
                n += 1
                since[p] = -1
                waits[p] = False
        used = kept
    total = n + used
    page_all = np.empty(total, np.int32)
    first_all = np.empty(total, np.int32)
    last_all = np.empty(total, np.int32)
    page_all[:n] = page_of[:n]
    first_all[:n] = first_of[:n]
    last_all[:n] = last_of[:n]
    for j in range(used):
        p = members[j]
        page_all[n + j] = p
        first_all[n + j] = since[p]
        last_all[n + j] = steps - 1
    return page_all, first_all, last_all, total, hits, prefetched, fulfilled
