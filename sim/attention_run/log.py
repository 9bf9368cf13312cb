"""`operations_log`: what a run of recorded attention did, one row an operation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vsim.sim.attention_run.counters import History
from vsim.sim.attention_run.occupancy import written_by
from vsim.sim.placement.case import Case
from vsim.sim.placement.moves import hits_of_reads, paid_promotions
from vsim.sim.schedules.schedule import Schedule
from vsim.traces.arrow_arrays import listed
from vsim.traces.schema import schema_of

Int64s = npt.NDArray[np.int64]

_ATTEND_STREAM, _COPY_STREAM = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Operations of one kind: a row for each step that has any page, in this order in a step.

    `whole` says whether a row moves its pages whole; None: it moves nothing.
    """

    kind: str
    source: str
    target: str | None
    step: Int64s
    page: Int64s
    whole: bool | None = True


def operations_log(
    history: History, case: Case, schedule: Schedule, detail: str
) -> pa.Table | None:
    """Return the log in the operations schema.

    Each step has at most these rows: promote (copy); attend to pages in HBM; attend in place to
    the others; keep pages that this attend streamed in (a copy of 0 bytes, for they crossed the
    link already); write through or down (copy); demote (copy); evict. They begin when the step's
    body does and end with it. Prefill steps list the pages that they begin, with the bytes of the
    tokens that they write.

    Args:
        history: what happened.
        case: what was placed.
        schedule: the placement.
        detail: `none`, `transfers` for the copies between tiers, or `all`.
    """
    if detail == "none":
        return None
    parts = [*_prefill(history, case), *_decode(history, case, schedule)]
    if detail == "transfers":
        parts = [part for part in parts if part.kind == "copy" and part.whole is not None]
    return _table(history, parts)


def _prefill(history: History, case: Case) -> list[_Part]:
    """The pages of prompts that are written down; attends of prompts are dense."""
    reads = case.reads
    down = reads.born < 0
    if case.tiers.exclusive:
        down = down & ~case.resident()
    page = np.flatnonzero(down)
    step = written_by(history.batch, history.parts)[page]
    return [_Part("copy", *history.tier_names, step, page, whole=False)]


def _decode(history: History, case: Case, schedule: Schedule) -> list[_Part]:
    reads = case.reads
    hbm, slow = history.tier_names
    begin = history.parts.steps
    step_of_read = begin + np.repeat(np.arange(reads.steps), reads.reads_per_step)
    hit = hits_of_reads(case, schedule)
    paid = paid_promotions(case, schedule)
    page, pages = schedule.page.astype(np.int64), reads.pages.astype(np.int64)
    first, last = begin + schedule.first.astype(np.int64), begin + schedule.last.astype(np.int64)
    streamed = ~paid & (schedule.first > 0) & (reads.born[page] != schedule.first - 1)
    leaves = schedule.last + 1 < reads.steps
    parts = [
        _Part("copy", slow, hbm, first[paid], page[paid]),
        _Part("attend", hbm, None, step_of_read[hit], pages[hit]),
        _Part("attend", slow, None, step_of_read[~hit], pages[~hit]),
        _Part("copy", slow, hbm, first[streamed] - 1, page[streamed], whole=None),
    ]
    if case.tiers.exclusive:
        gone, page_gone = demotions(case, schedule)
        return [*parts, _Part("copy", hbm, slow, begin + gone, page_gone)]
    born = np.flatnonzero(reads.born >= 0)
    written = begin + reads.born[born].astype(np.int64)
    return [
        *parts,
        _Part("copy", hbm, slow, written, born),
        _Part("evict", hbm, None, last[leaves] + 1, page[leaves], whole=None),
    ]


def demotions(case: Case, schedule: Schedule) -> tuple[Int64s, Int64s]:
    """The step and the page of every demotion that `evaluate` counts, int64[n] each.

    A page is demoted in the step after its residency, or after its birth if it was not kept; one
    that was in HBM at the start and is not at step 0, in step 0.
    """
    reads = case.reads
    page, first = schedule.page.astype(np.int64), schedule.first.astype(np.int64)
    ends = schedule.last.astype(np.int64) + 1
    kept = np.zeros(reads.n_pages, np.bool_)
    kept[page[reads.born[page] == first - 1]] = True
    kept[page[first == 0]] = True
    born = np.flatnonzero((reads.born >= 0) & ~kept)
    dropped = np.flatnonzero(case.resident() & ~kept)
    step = np.concatenate([ends, reads.born[born].astype(np.int64) + 1, np.zeros_like(dropped)])
    pages = np.concatenate([page, born, dropped])
    inside = step < reads.steps
    return step[inside], pages[inside]


def _table(history: History, parts: list[_Part]) -> pa.Table:
    """Group each part's pages by step, order rows by step and part."""
    of_part = np.concatenate([np.full(len(part.page), i) for i, part in enumerate(parts)])
    step = np.concatenate([part.step for part in parts]).astype(np.int64)
    page = np.concatenate([part.page for part in parts]).astype(np.int64)
    key = step * len(parts) + of_part
    order = np.lexsort((page, key))
    rows, starts = np.unique(key[order], return_index=True)
    offsets = np.append(starts, len(key)).astype(np.int64)
    step, of_part = np.divmod(rows, len(parts))
    kind = [parts[i].kind for i in of_part]
    moved = np.diff(offsets) * history.batch.reads.page_bytes
    moved[[parts[i].whole is None for i in of_part]] = 0
    partly = np.array([parts[i].whole is False for i in of_part], np.bool_)
    moved[partly] = history.work.down_bytes[step[partly]]
    kept = np.array([parts[i].whole is None and parts[i].kind == "copy" for i in of_part], np.bool_)
    # What is kept waits for the attend that streams it in: the row before.
    waiting = np.flatnonzero(kept)
    times = history.times
    end_ns = history.end_ns
    submit_ns = end_ns - times.body_ns
    columns: dict[str, Any] = {
        "id": np.arange(len(rows)),
        "step": step,
        "kind": pa.array(kind, pa.string()).dictionary_encode(),
        "source_tier": _names([parts[i].source for i in of_part]),
        "target_tier": _names([parts[i].target for i in of_part]),
        "pages": listed(offsets, page[order]),
        "bytes": moved,
        "stream": np.where([k == "attend" for k in kind], _ATTEND_STREAM, _COPY_STREAM),
        "depends_on": listed(np.concatenate([[0], np.cumsum(kept)]), waiting - 1),
        "submit_ns": submit_ns[step],
        "start_ns": submit_ns[step],
        "end_ns": end_ns[step],
        "predicted": np.ones(len(rows), np.bool_),
    }
    schema = schema_of("operations")
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], schema=schema)


def _names(names: list[Any]) -> Any:
    return pa.array(names, pa.string()).dictionary_encode()
