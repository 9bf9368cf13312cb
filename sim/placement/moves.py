"""A schedule as operations: what a replay executes, step by step."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vsim.sim.placement.case import Case
from vsim.sim.placement.operation_figures import bytes_of_pages, step_ends_ns
from vsim.sim.schedules.cost import Cost
from vsim.sim.schedules.schedule import Schedule
from vsim.traces.arrow_arrays import listed

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]

_PROMOTE, _ATTEND_FAST, _ATTEND_SLOW, _KEEP, _DEMOTE, _EVICT = range(6)
_KINDS = ("copy", "attend", "attend", "copy", "copy", "evict")


def operations(case: Case, schedule: Schedule, cost: Cost, slow_tier: str) -> pa.Table:
    """Write a schedule in the operations schema, one row an operation that concerns any page.

    Each step has at most these, in this order: promote pages over the channel (copy); attend to
    pages in HBM; attend in place to the others; keep pages that this attend streamed in (a copy of
    0 bytes: they crossed the channel already; it waits for the attend); demote pages (exclusive
    tiers only); evict. All of a step are submitted at its start and predicted to end with it.

    Args:
        case: the case that was placed.
        schedule: the placement.
        cost: its cost, for the times.
        slow_tier: the name of the slow tier.
    """
    reads, tiers = case.reads, case.tiers
    steps = reads.steps
    hit = hits_of_reads(case, schedule)
    step_of_read = np.repeat(np.arange(steps), reads.reads_per_step)
    paid = paid_promotions(case, schedule)
    first, last = schedule.first.astype(np.int64), schedule.last.astype(np.int64)
    kept = ~paid & (first > 0)
    leaves = last + 1 < steps
    out_kind = _DEMOTE if tiers.exclusive else _EVICT
    parts = [
        (first[paid], _PROMOTE, schedule.page[paid]),
        (step_of_read[hit], _ATTEND_FAST, reads.pages[hit]),
        (step_of_read[~hit], _ATTEND_SLOW, reads.pages[~hit]),
        (first[kept] - 1, _KEEP, schedule.page[kept]),
        (last[leaves], out_kind, schedule.page[leaves]),
    ]
    key = np.concatenate([step * len(_KINDS) + kind for step, kind, _ in parts])
    page = np.concatenate([pages.astype(np.int64) for _, _, pages in parts])
    order = np.lexsort((page, key))
    key, page = key[order], page[order]
    rows, starts = np.unique(key, return_index=True)
    offsets = np.append(starts, len(key)).astype(np.int64)
    step, kind = rows // len(_KINDS), rows % len(_KINDS)
    ends_ns = step_ends_ns(cost.step_s)
    starts_ns = np.concatenate([[0], ends_ns[:-1]])
    moved = bytes_of_pages(
        np.where((kind == _KEEP) | (kind == _EVICT), 0, np.diff(offsets)), reads.page_bytes
    )
    source = _tier_of(kind, {_PROMOTE: slow_tier, _ATTEND_FAST: "hbm", _ATTEND_SLOW: slow_tier,
                             _KEEP: slow_tier, _DEMOTE: "hbm", _EVICT: "hbm"})  # fmt: skip
    target = _tier_of(kind, {_PROMOTE: "hbm", _KEEP: "hbm", _DEMOTE: slow_tier})
    # What is kept waits for the attend that streams it in: the row before, if there is one.
    waits = np.zeros(len(rows), np.bool_)
    waits[1:] = (kind[1:] == _KEEP) & (kind[:-1] == _ATTEND_SLOW) & (step[1:] == step[:-1])
    waiting = np.flatnonzero(waits)
    return pa.table(
        {
            "id": np.arange(len(rows)),
            "step": step,
            "kind": pa.array([_KINDS[k] for k in kind]).dictionary_encode(),
            "source_tier": source,
            "target_tier": target,
            "pages": listed(offsets, page),
            "bytes": moved,
            "stream": np.where((kind == _ATTEND_FAST) | (kind == _ATTEND_SLOW), 0, 1).astype("i4"),
            "depends_on": listed(np.concatenate([[0], np.cumsum(waits)]), waiting - 1),
            "submit_ns": starts_ns[step],
            "start_ns": starts_ns[step],
            "end_ns": ends_ns[step],
            "predicted": np.ones(len(rows), np.bool_),
        }
    )


def _tier_of(kind: Int64s, names: dict[int, str]) -> Any:
    return pa.array([names.get(int(k)) for k in kind], pa.string()).dictionary_encode()


def paid_promotions(case: Case, schedule: Schedule) -> Bools:
    """bool[n]: intervals that start with a promotion over the channel."""
    reads, tiers = case.reads, case.tiers
    first = schedule.first.astype(np.int64)
    page = schedule.page.astype(np.int64)
    start = np.ones(reads.n_pages, np.bool_) if case.start == "free" else case.resident()
    born = reads.born[page]
    free = (first == 0) & start[page]
    free |= (born >= 0) & (born == first - 1)
    if not tiers.exclusive:
        step_of_read = np.repeat(np.arange(reads.steps), reads.reads_per_step)
        read_at = np.sort(step_of_read * reads.n_pages + reads.pages)
        wanted = (first - 1) * reads.n_pages + page
        at = np.searchsorted(read_at, wanted)
        free |= (at < len(read_at)) & (read_at[np.minimum(at, len(read_at) - 1)] == wanted)
    paid: Bools = ~free
    return paid


def hits_of_reads(case: Case, schedule: Schedule) -> Bools:
    """bool[reads], in the order of PageReads.pages: HBM serves the read."""
    reads = case.reads
    step = np.repeat(np.arange(reads.steps, dtype=np.int64), reads.reads_per_step)
    page = reads.pages.astype(np.int64)
    key = schedule.page.astype(np.int64) * (reads.steps + 1)
    at = np.searchsorted(key + schedule.first, page * (reads.steps + 1) + step, side="right") - 1
    hit: Bools = reads.born[reads.pages] == step
    if len(key):
        inside = np.maximum(at, 0)
        hit |= (at >= 0) & (schedule.page[inside] == page) & (schedule.last[inside] >= step)
    return hit
