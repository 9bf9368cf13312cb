"""Ranked cascade: keep the pages that a predictor scores best, leave each tier below its share."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel, wide
from vsim.sim.placement.predictor import LEAST_MASS, Predictor, places, pressure_of, rank_pages
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.stack.cascade import mark_reads, served, settle
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.schedule import TierSchedule

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

HYSTERESIS = 0.02
"""How much better a page must score than one that it displaces, where the move is paid."""
SIMPLEX_HYSTERESIS = 0.3
"""The same where both moves of an exchange share one direction with the reads."""


def ranked_cascade(case: StackCase, predictor: Predictor) -> TierSchedule:
    """Rank pages by a predictor's score. Online: step t sees S_1 … S_t only.

    for each step t:
        update the traces with what t reads, and the scores
        for each tier i above the last, from HBM down, with b = the bandwidth of the tiers below:
            share = reads that tiers from i down serve, times b/(B_i + b): then all finish together
            bypass = share less the reads that come to the tiers below anyway: their mean and 1.34
                standard deviations (a page too many there costs more than one too few)
            leave out the best `bypass` pages, keep the next k_i of those that are there, that t
                read, or that the tier above displaced
            a page enters only if it beats one that is there by the hysteresis where it pays for
                the move, and, below HBM, while the tier's channel is idle in this step

    Where tiers are exclusive nothing is left out that is there: to move it away would cost more
    than it brings.

    Raises:
        ValueError: the predictor uses mass and the case has none.
    """
    reads, stack, seen = case.reads, case.stack, case.seen
    if predictor.uses_mass and seen is None:
        raise ValueError(f"predictor {predictor.name} follows attention mass; the trace has none")
    if seen is None:
        seen = Seen(np.zeros(reads.steps + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, "f4"))
    margin = np.full(stack.tiers - 1, HYSTERESIS)
    if stack.exclusive:
        margin[:] = HYSTERESIS if stack.duplex else SIMPLEX_HYSTERESIS
    else:
        margin[0] = 0.0
    table = _ranked_cascade(
        reads.offsets, reads.pages, reads.born, case.starts().astype(np.int8), stack.room(),
        stack.exclusive, stack.duplex, np.array(stack.bytes_per_s) / reads.page_bytes,
        stack.weight_bytes / reads.page_bytes, margin,
        predictor.kinds, predictor.decays, predictor.weights,
        *places(reads.request, reads.position),
        seen.offsets, seen.pages, seen.relative,
    )  # fmt: skip
    return TierSchedule.of_table(table, stack.tiers - 1)


@kernel
def _ranked_cascade(
    offsets: Int64s,
    pages: Int32s,
    born: Int32s,
    start: Int8s,
    room: Int64s,
    exclusive: bool,
    duplex: bool,
    pages_per_s: Floats,
    weight_pages: float,
    margin: Floats,
    kinds: Int64s,
    decays: Floats,
    weights: Floats,
    place: Int32s,
    heads: Floats,
    seen_offsets: Int64s,
    seen_pages: Int32s,
    seen_relative: Float32s,
) -> Int8s:
    steps, n, last = len(offsets) - 1, len(born), len(room)
    where = np.full((n, steps), last, np.int8)
    here = start.copy()
    traces = np.zeros((len(kinds), n))
    score = np.zeros(n)
    read = np.zeros(n, np.bool_)
    mass = np.full(n, LEAST_MASS)
    similarity = np.zeros(steps)
    pressure = np.zeros(steps)
    reading = np.zeros(len(heads))
    newborn = np.zeros(n, np.bool_)
    candidate = np.zeros(n, np.bool_)
    left_out = np.zeros(n, np.bool_)
    bypass = np.zeros(last, np.int64)
    budget = np.full(last, n, np.int64)
    mean = np.zeros(last)
    spread = np.zeros(last)
    count = np.zeros(last + 1, np.int64)
    for t in range(steps):
        lo, hi = offsets[t], offsets[t + 1]
        if not exclusive:
            # Where pages are at t was decided after t − 1.
            for p in range(n):
                if born[p] < t:
                    where[p, t] = here[p]
        served(offsets, pages, born, t, here, count)
        for i in range(lo, hi):
            read[pages[i]] = True
        longest_s = (count[0] + weight_pages) / pages_per_s[0]
        lower_s = 0.0
        for i in range(1, last + 1):
            lower_s = max(lower_s, count[i] / pages_per_s[i])
        longest_s = max(longest_s, lower_s)
        equal_s = (hi - lo + weight_pages) / pages_per_s.sum()
        pressure[t] = pressure_of(lower_s, equal_s)
        rank_pages(
            offsets, pages, t, seen_offsets, seen_pages, seen_relative, place, heads,
            kinds, decays, weights, read, pressure, mass, reading, similarity, traces, score,
        )  # fmt: skip

        # The share of the reads that the tiers below each one should serve, and what comes anyway.
        below, below_rate = 0.0, 0.0
        for q in range(last):
            i = last - 1 - q
            below += count[i + 1]
            below_rate += pages_per_s[i + 1]
            chosen = 0
            if i == 0:
                for j in range(lo, hi):
                    chosen += left_out[pages[j]]
            rate = max(1.0 / (t + 1.0), 0.1)
            off = below - chosen - mean[i]
            mean[i] += rate * off
            spread[i] += rate * (off * off - spread[i])
            all_ = below + count[i] + (weight_pages if i == 0 else 0.0)
            share = all_ * below_rate / (below_rate + pages_per_s[i])
            spare = share - mean[i] - 1.34 * np.sqrt(spread[i])
            bypass[i] = wide(min(max(spare, 0.0), float(n)))
            if exclusive:
                bypass[i] = 0
            elif i > 0:
                idle = longest_s * pages_per_s[i] - (0 if duplex else count[i])
                budget[i] = wide(min(max(idle, 0.0), float(n)))

        u = t if exclusive else t + 1
        if u < steps:
            mark_reads(offsets, pages, born, t, candidate, newborn, u)
            for p in range(n):
                if exclusive and candidate[p] and here[p] == 0 and not newborn[p]:
                    score[p] += 1e9  # it is being read where it is
                candidate[p] = candidate[p] and born[p] < u
            settle(here, newborn, candidate, score, room, bypass, margin, budget, left_out)
        if exclusive:
            for p in range(n):
                if born[p] < t:
                    where[p, t] = here[p]
        for i in range(lo, hi):
            read[pages[i]] = False
    return where
