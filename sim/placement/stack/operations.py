"""A schedule over tiers as operations: what a replay executes, step by step."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vsim.sim.placement.operation_figures import bytes_of_pages, step_ends_ns
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.cost import StackCost
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.traces.arrow_arrays import listed

Int64s = npt.NDArray[np.int64]

_DROP, _DOWN, _UP, _ATTEND, _EVICT, _KEEP = range(6)
_KINDS = ("evict", "copy", "copy", "attend", "evict", "copy")


def stack_operations(
    case: StackCase, schedule: TierSchedule, cost: StackCost, tier_names: tuple[str, ...]
) -> pa.Table:
    """Write a schedule in the operations schema, one row an operation that concerns any page.

    Each step has at most these, in this order, each for a pair of tiers: drop copies that the start
    left (first step only); copy pages downwards, then upwards, over the channels; attend to pages
    where they are, one row a tier; drop copies; keep in HBM what this attend streamed in (a copy of
    0 bytes, which waits for it). A page that was just on the GPU is copied from there: its source
    is HBM. All of a step are submitted at its start and predicted to end with it.

    Args:
        case: the case that was placed.
        schedule: the placement.
        cost: its cost, for the times.
        tier_names: of each tier, from HBM down.
    """
    reads, tiers = case.reads, case.stack.tiers
    key, page = _rows(case, schedule)
    order = np.lexsort((page, key))
    key, page = key[order], page[order]
    rows, starts = np.unique(key, return_index=True)
    offsets = np.append(starts, len(key)).astype(np.int64)
    target, source = rows % tiers, rows // tiers % tiers
    kind, step = rows // tiers**2 % len(_KINDS), rows // tiers**2 // len(_KINDS)
    free = np.isin(kind, (_DROP, _EVICT, _KEEP))
    names: list[str | None] = list(tier_names)
    targets = [
        None if k in (_DROP, _EVICT, _ATTEND) else names[j]
        for k, j in zip(kind.tolist(), target.tolist(), strict=True)
    ]
    attend_of = ((step * len(_KINDS) + _ATTEND) * tiers + source) * tiers + source
    at = np.searchsorted(rows, attend_of)
    waits = (kind == _KEEP) & (rows[np.minimum(at, len(rows) - 1)] == attend_of)
    ends_ns = step_ends_ns(cost.step_s)
    starts_ns = np.concatenate([[0], ends_ns[:-1]])
    return pa.table(
        {
            "id": np.arange(len(rows)),
            "step": step,
            "kind": pa.array([_KINDS[k] for k in kind]).dictionary_encode(),
            "source_tier": _encoded([names[i] for i in source.tolist()]),
            "target_tier": _encoded(targets),
            "pages": listed(offsets, page),
            "bytes": bytes_of_pages(np.where(free, 0, np.diff(offsets)), reads.page_bytes),
            "stream": np.where(kind == _ATTEND, 0, 1).astype("i4"),
            "depends_on": listed(np.concatenate([[0], np.cumsum(waits)]), at[waits]),
            "submit_ns": starts_ns[step],
            "start_ns": starts_ns[step],
            "end_ns": ends_ns[step],
            "predicted": np.ones(len(rows), np.bool_),
        }
    )


def _encoded(names: list[str | None]) -> Any:
    return pa.array(names, pa.string()).dictionary_encode()


def _rows(case: StackCase, schedule: TierSchedule) -> tuple[Int64s, Int64s]:
    """The key (step, order, source, target) and the page, for each page of each operation."""
    reads, stack = case.reads, case.stack
    steps, tiers = reads.steps, stack.tiers
    where = schedule.table(steps, reads.n_pages, tiers - 1).astype(np.int64)
    step_of_read = np.repeat(np.arange(steps, dtype=np.int64), reads.reads_per_step)
    read = np.zeros(where.shape, np.bool_)
    read[reads.pages, step_of_read] = True
    late = np.flatnonzero(reads.born >= 0)
    given = case.may_start().astype(np.int64)
    before = np.empty_like(where)
    before[:, 1:] = where[:, :-1]
    before[:, 0] = np.where(given < 0, where[:, 0], given)
    fresh = np.zeros(where.shape, np.bool_)
    fresh[:, 1:] = read[:, :-1]
    written = late[reads.born[late] + 1 < steps]
    before[written, reads.born[written] + 1] = 0
    fresh[written, reads.born[written] + 1] = True
    exists = np.arange(steps) > reads.born[:, None]
    page, step = np.nonzero(exists & (before != where))
    i, j = before[page, step], where[page, step]
    is_fresh = fresh[page, step]
    paid = stack.moves().sum(axis=3)[is_fresh.astype(np.int64), i, j] > 0
    dropped = ~paid & (j == tiers - 1)
    kept = ~paid & ~dropped
    i = np.where(paid & is_fresh & (not stack.exclusive), 0, i)
    order = np.where(j > i, _DOWN, _UP)
    order[dropped] = np.where(step[dropped] > 0, _EVICT, _DROP)
    order[kept] = _KEEP
    # What is free happens as the step before ends.
    step = step - np.where((order == _EVICT) | (order == _KEEP), 1, 0)
    served = np.where(reads.born[reads.pages] == step_of_read, 0, where[reads.pages, step_of_read])
    moves = ((step * len(_KINDS) + order) * tiers + i) * tiers + j
    attends = ((step_of_read * len(_KINDS) + _ATTEND) * tiers + served) * tiers + served
    return (
        np.concatenate([moves, attends]),
        np.concatenate([page, reads.pages.astype(np.int64)]),
    )
