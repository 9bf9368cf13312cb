"""`Plan`: a log of operations as something to carry out: each operation and when it was predicted.

Slots are numbered anew, tier after tier and only those that the log touches, so that carrying it
out takes no more memory than it must.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.sim.engine.backend import Operation, StepBatch
from vsim.traces.arrow_arrays import coded, elements, integers, lists
from vsim.traces.faults import refuse
from vsim.traces.schema import BATCH_COLUMNS

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TierRead:
    """What a step attends to in one tier.

    Args:
        tier: which, HBM is 0.
        pages: int64, in the plan's slots.
        row_pages: int64[requests], how many of them are each request's; empty where the log does
            not say.
        size_bytes: that the tier gives, weights excluded.
    """

    tier: int
    pages: Int64s
    row_pages: Int64s
    size_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """An operation and its predicted times, ns.

    Args:
        operation: a copy or a step; its serial is its place in the plan.
        step: the step that it served, by the log.
        submit_ns: when it was submitted.
        began_ns: of a step, when its kernels began; of a copy, as `submit_ns`.
        end_ns: when it ended.
        reads: of a step, what it attends to.
        compute_bytes: of a step, what its other kernels read of HBM; -1 where the log has none.
    """

    operation: Operation
    step: int
    submit_ns: int
    began_ns: int
    end_ns: int
    reads: tuple[TierRead, ...] = ()
    compute_bytes: int = -1

    @property
    def kind(self) -> str:
        """`copy` or `step`."""
        return self.operation.kind

    @property
    def kernels_ns(self) -> int:
        """How long it takes without what the host does before."""
        return self.end_ns - self.began_ns


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Operations in the order in which they are submitted.

    Args:
        tiers: names, HBM first.
        slots: pages of each tier that are touched; the plan's slot numbers go through them.
        page_tokens: tokens of a page.
        page_bytes: bytes of a page.
        operations: by time of submission.
        without_work: operations of the log that move nothing and compute nothing.
        has_batches: whether every step says what it computes.
        predicts_copies: whether copies have times of their own. In a log of recorded attention each
            ends with the step that it serves, whenever it was done.
    """

    tiers: tuple[str, ...]
    slots: tuple[int, ...]
    page_tokens: int
    page_bytes: int
    operations: tuple[Planned, ...]
    without_work: int
    has_batches: bool
    predicts_copies: bool

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return sum(each.kind == "step" for each in self.operations)

    @property
    def idle_ns(self) -> int:
        """Predicted time in which nothing is under way."""
        busy_until = self.operations[0].submit_ns if self.operations else 0
        idle = 0
        for each in self.operations:
            idle += max(each.submit_ns - busy_until, 0)
            busy_until = max(busy_until, each.end_ns)
        return idle


@dataclass(frozen=True, slots=True, eq=False)
class _Log:
    """Columns of a log."""

    file: str
    step: Int64s
    kind: list[str]
    source: list[str | None]
    target: list[str | None]
    pages: list[Int64s]
    bytes: Int64s
    submit: Int64s
    start: Int64s
    end: Int64s
    batches: Mapping[str, list[Int64s]]

    def __len__(self) -> int:
        return len(self.step)


def _split(column: Any) -> list[Int64s]:
    offsets, flat = lists(column)
    return np.split(elements(flat).astype(np.int64), offsets[1:-1]) if len(offsets) > 1 else []


def _words(column: Any) -> list[str | None]:
    codes, words = coded(column)
    return [None if code < 0 else words[code] for code in codes.tolist()]


def _columns(table: pa.Table, file: str) -> _Log:
    batches = {}
    if all(name in table.column_names for name in BATCH_COLUMNS):
        batches = {name: _split(table.column(name)) for name in BATCH_COLUMNS}
    return _Log(
        file=file,
        step=integers(table.column("step")),
        kind=[str(word) for word in _words(table.column("kind"))],
        source=_words(table.column("source_tier")),
        target=_words(table.column("target_tier")),
        pages=_split(table.column("pages")),
        bytes=integers(table.column("bytes")),
        submit=integers(table.column("submit_ns")),
        start=integers(table.column("start_ns")),
        end=integers(table.column("end_ns")),
        batches=batches,
    )


def plan_of(
    table: pa.Table,
    tiers: Sequence[str],
    *,
    page_tokens: int,
    page_bytes: int,
    file: str,
    until_ns: int | None = None,
    columns: Int64s | None = None,
    batches: Sequence[StepBatch] | None = None,
) -> Plan:
    """Make a plan of a log in the operations schema.

    Args:
        table: of a simulated run with `output.operations: all`, or of one of recorded attention.
        tiers: names, HBM first.
        page_tokens: tokens of a page.
        page_bytes: bytes of a page.
        file: what the log is called, for faults.
        until_ns: only operations that had ended so long after the first was submitted.
        columns: int64[pages], of recorded attention: the layer, request and head that each page
            belongs to, as one number.
        batches: of the steps that compute, in order, in the log's slots; without them a request's
            pages of several tiers stand tier by tier, see `_batch`.

    Raises:
        InputError: the log lacks what a step attends to, or names a tier or a kind that can't be
            carried out.
    """
    log = _columns(table, file)
    rows = np.arange(len(log))
    if until_ns is not None and len(log):
        rows = rows[log.end <= int(log.submit.min()) + until_ns]
    order = {name: i for i, name in enumerate(tiers)}
    _refuse(log, rows, order)
    numbers, slots = _renumbered(log, rows, order)
    steps = list(_steps(log, rows, order, numbers, page_tokens, columns))
    if batches is not None:
        steps = _in_order(steps, batches, np.concatenate([known for known, _ in numbers]))
    found = [*_copies(log, rows, order, numbers), *steps]
    if not any(each.kind == "step" for each in found):
        within = "" if until_ns is None else " in the window"
        refuse(file, f"holds no step{within}; write output.operations: all, or a longer --window")
    found.sort(key=lambda each: (each.submit_ns, each.kind == "step", each.operation.serial))
    operations = tuple(_numbered(found))
    carried = sum(1 if each.kind == "copy" else 0 for each in operations)
    rows_of_steps = sum(log.kind[row] in ("attend", "compute") for row in rows.tolist())
    return Plan(
        tiers=tuple(tiers),
        slots=slots,
        page_tokens=page_tokens,
        page_bytes=page_bytes,
        operations=operations,
        without_work=len(rows) - rows_of_steps - carried,
        has_batches=all(
            each.operation.batch is not None for each in operations if each.kind == "step"
        ),
        predicts_copies=bool(log.batches),
    )


def _refuse(log: _Log, rows: Int64s, order: Mapping[str, int]) -> None:
    for row in rows.tolist():
        if log.kind[row] not in ("copy", "attend", "compute", "evict"):
            refuse(
                log.file,
                f"is {log.kind[row]!r}; a replay carries out copy, attend and compute",
                place=f"row {row}, column kind",
            )
        for name, column in (("source_tier", log.source), ("target_tier", log.target)):
            tier = column[row]
            if tier is not None and tier not in order:
                refuse(
                    log.file,
                    f"is {tier!r}, which is none of the run's tiers: {', '.join(order)}",
                    place=f"row {row}, column {name}",
                )


def _halves(log: _Log, row: int) -> tuple[Int64s, Int64s]:
    """Pages of a copy: an engine logs sources, then targets; a placement each page once."""
    pages = log.pages[row]
    if not log.batches:
        return pages, pages
    return pages[: len(pages) // 2], pages[len(pages) // 2 :]


def _touched(log: _Log, rows: Int64s, order: Mapping[str, int]) -> Iterator[tuple[int, Int64s]]:
    """Pairs of a tier and pages of it."""
    for row in rows.tolist():
        if log.kind[row] == "copy":
            sources, targets = _halves(log, row)
            yield order[str(log.source[row])], sources
            yield order[str(log.target[row])], targets
        elif log.kind[row] == "attend":
            yield order[str(log.source[row])], log.pages[row]


def _renumbered(
    log: _Log, rows: Int64s, order: Mapping[str, int]
) -> tuple[list[tuple[Int64s, int]], tuple[int, ...]]:
    """For each tier the log's numbers, ascending, and the first of the plan's; and their counts."""
    pages: list[list[Int64s]] = [[np.empty(0, np.int64)] for _ in order]
    for tier, touched in _touched(log, rows, order):
        pages[tier].append(touched)
    found = [np.unique(np.concatenate(each)) for each in pages]
    first = np.concatenate([[0], np.cumsum([len(each) for each in found])]).tolist()
    numbers = [(each, first[tier]) for tier, each in enumerate(found)]
    return numbers, tuple(len(each) for each in found)


def _new(numbers: list[tuple[Int64s, int]], tier: int, pages: Int64s) -> Int64s:
    known, first = numbers[tier]
    return np.searchsorted(known, pages) + first


def _copies(
    log: _Log, rows: Int64s, order: Mapping[str, int], numbers: list[tuple[Int64s, int]]
) -> Iterator[Planned]:
    for row in rows.tolist():
        if log.kind[row] != "copy" or log.bytes[row] == 0:
            continue
        sources, targets = _halves(log, row)
        source, target = order[str(log.source[row])], order[str(log.target[row])]
        operation = Operation(
            "copy",
            row,
            source_tier=source,
            target_tier=target,
            sources=_new(numbers, source, sources),
            targets=_new(numbers, target, targets),
            size_bytes=int(log.bytes[row]),
        )
        submit = int(log.submit[row])
        yield Planned(operation, int(log.step[row]), submit, submit, int(log.end[row]))


def _steps(
    log: _Log,
    rows: Int64s,
    order: Mapping[str, int],
    numbers: list[tuple[Int64s, int]],
    page_tokens: int,
    columns: Int64s | None,
) -> Iterator[Planned]:
    """One for each step that computes or attends; its rows may stand anywhere in the log."""
    rows_of: dict[int, list[int]] = {}
    for row in rows.tolist():
        if log.kind[row] in ("compute", "attend"):
            rows_of.setdefault(int(log.step[row]), []).append(row)
    for step, own in rows_of.items():
        computes = [row for row in own if log.kind[row] == "compute"]
        attends = sorted(
            (row for row in own if log.kind[row] == "attend"),
            key=lambda row: order[str(log.source[row])],
        )
        empty = np.empty(0, np.int64)
        reads = tuple(
            TierRead(
                tier=order[str(log.source[row])],
                pages=_new(numbers, order[str(log.source[row])], log.pages[row]),
                row_pages=log.batches["row_pages"][row] if log.batches else empty,
                size_bytes=int(log.bytes[row]),
            )
            for row in attends
        )
        batch = None
        if computes and log.batches and len(log.batches["rows"][computes[0]]):
            batch = _batch(log, computes[0], reads, page_tokens)
        elif columns is not None:
            pages = np.concatenate([log.pages[row] for row in attends])
            slots = np.concatenate([read.pages for read in reads])
            batch = _selected(columns[pages], pages, slots, page_tokens)
        yield Planned(
            Operation("step", min(own), batch=batch),
            step,
            submit_ns=min(int(log.submit[row]) for row in own),
            began_ns=int(log.start[attends[0] if attends else computes[0]]),
            end_ns=max(int(log.end[row]) for row in own),
            reads=reads,
            compute_bytes=int(log.bytes[computes[0]]) if computes else -1,
        )


def _batch(log: _Log, row: int, reads: tuple[TierRead, ...], page_tokens: int) -> StepBatch:
    """Put a step's batch together again.

    The log does not say in which order a request's pages of different tiers stand. Those in HBM,
    where new pages are born, are put last, since the last page is the one that is partly filled.
    """
    context = log.batches["context_tokens"][row]
    new = log.batches["new_tokens"][row]
    pages = -(-context // page_tokens)
    indptr = np.concatenate([[0], np.cumsum(pages)])
    counts = np.array([read.row_pages for read in reads], np.int64).reshape(len(reads), -1)
    if counts.sum(axis=0).tolist() != pages.tolist():
        message = f"step {int(log.step[row])} attends to other pages than its contexts take"
        refuse(log.file, f"{message}; run the scenario again", place=f"row {row}")
    indices = np.empty(int(indptr[-1]), np.int32)
    behind = indptr[:-1].copy()
    for read, each in zip(reversed(reads), reversed(counts), strict=True):
        first = np.cumsum(each) - each
        places = np.arange(len(read.pages)) + np.repeat(behind - first, each)
        indices[places] = read.pages
        behind += each
    return StepBatch(
        rows=log.batches["rows"][row],
        new_tokens=new,
        context_tokens=context,
        samples=log.batches["samples"][row].astype(np.bool_),
        indptr=indptr.astype(np.int32),
        indices=indices,
        last_page_len=(context - (pages - 1) * page_tokens).astype(np.int32),
    )


def _in_order(
    steps: Sequence[Planned], batches: Sequence[StepBatch], known: Int64s
) -> list[Planned]:
    """Let each request's pages stand as its batch has them.

    Args:
        steps: as the log has them.
        batches: of those that compute, in the order in which they began.
        known: the log's slot of each of the plan's.
    """
    found = {each.step: each for each in steps}
    computing = sorted(
        (each for each in steps if each.operation.batch is not None), key=lambda each: each.step
    )
    by_slot = np.argsort(known)
    for each, batch in zip(computing, batches, strict=True):
        mine = each.operation.batch
        assert mine is not None
        same = (mine.rows, batch.rows), (mine.context_tokens, batch.context_tokens)
        if not all(np.array_equal(*pair) for pair in same):
            raise ValueError(f"step {each.step} of the log has another batch")
        indices = by_slot[np.searchsorted(known, batch.indices, sorter=by_slot)]
        operation = replace(each.operation, batch=replace(mine, indices=indices.astype(np.int32)))
        found[each.step] = replace(each, operation=operation)
    return list(found.values())


def _selected(column: Int64s, page: Int64s, slot: Int64s, page_tokens: int) -> StepBatch:
    """A step of recorded attention: each layer, request and head reads the pages it selected.

    Rows are columns, ascending; those that read no page are left out. A page that is partly filled
    is read whole.
    """
    order = np.lexsort((page, column))
    rows, counts = np.unique(column, return_counts=True)
    ones = np.ones(len(rows), np.int64)
    return StepBatch(
        rows=rows,
        new_tokens=ones,
        context_tokens=counts * page_tokens,
        samples=np.ones(len(rows), np.bool_),
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        indices=slot[order].astype(np.int32),
        last_page_len=np.full(len(rows), page_tokens, np.int32),
    )


def _numbered(found: Sequence[Planned]) -> list[Planned]:
    """Give operations their places in the plan as serials."""
    return [
        replace(each, operation=replace(each.operation, serial=number))
        for number, each in enumerate(found)
    ]
