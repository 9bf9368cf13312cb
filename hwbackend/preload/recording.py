"""allocations_of: a process's events as a trace of the schema `allocations`."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from vsim.hwbackend.preload.events import Kind, Op, ProcessLog
from vsim.hwbackend.preload.lifetimes import Live, Step, lifetimes
from vsim.traces.schema import MOST_ALLOCATION_BYTES

_CALLS: Final = {
    Kind.PLAIN: "cudaMalloc",
    Kind.ASYNC: "cudaMallocAsync",
    Kind.MANAGED: "cudaMallocManaged",
    Kind.VMM: "vmm",
}
_OUT_OF_MEMORY: Final = 2


def allocations_of(log: ProcessLog) -> pa.Table:
    """Number allocations, which have only addresses in the log, and make one row an event.

    A free of what was not seen names a handle of its own, of unknown size; so does a call that
    failed. What goes with its context is freed by a row each then, and a chunk of virtual memory
    when it has no handle and is mapped nowhere any more. What is live at the end has no free: the
    process's end gave it back. Chunks are known by their driver's handle, which stands as their
    address.

    Args:
        log: of one process; what the library did by itself is left out.
    """
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            "time_ns", "thread", "stream", "op", "handle", "bytes", "other_handle", "device",
            "call", "result", "address",
        )
    }  # fmt: skip
    for step in lifetimes(log):
        event, code = step.event, int(step.event["result"])
        who = int(event["time_ns"]) - log.started_ns, int(event["thread"]), int(event["stream"])
        for row in _rows(step, code):
            for name, value in zip(columns, (*who, *row), strict=True):
                columns[name].append(value)
    times = np.array(columns["time_ns"], np.int64)
    return pa.table(
        {
            # An event's time is taken before the file's for the very first; it begins at 0.
            "time_ns": times - min(int(times[0]), 0) if len(times) else times,
            "thread": pa.array(columns["thread"], pa.int64()),
            "stream": pa.array(_small_ids(columns["stream"]), pa.int64()),
            "op": pa.array(columns["op"], pa.string()),
            "handle": pa.array(columns["handle"], pa.int64()),
            "bytes": pa.array(columns["bytes"], pa.int64()),
            "other_handle": pa.array(columns["other_handle"], pa.int64()),
            "device": pa.array(columns["device"], pa.int32()),
            "call": pa.array(columns["call"], pa.string()),
            "result": pa.array(columns["result"], pa.string()),
            "address": pa.array(columns["address"], pa.int64()),
        }
    )


def _rows(step: Step, code: int) -> Iterator[tuple[object, ...]]:
    """What follows the time, the thread and the stream, of each row that an event makes."""
    this = step.this
    said = "ok" if code == 0 else "out_of_memory" if code == _OUT_OF_MEMORY else "failed"
    if step.op in (Op.MALLOC, Op.REALLOC):
        old = step.old.number if step.old else None
        name = "malloc" if old is None else "realloc"
        yield name, *_what(this, this.bytes, old), said, _shown(this.address)
    elif step.unseen or code != 0:
        yield "free", *_what(this, 0 if code == 0 else this.bytes), said, _shown(this.address)
    else:
        for gone in step.ended:
            yield "free", *_what(gone, gone.bytes), said, _shown(gone.address)


def _what(live: Live, size: int, other: int | None = None) -> tuple[object, ...]:
    return (
        live.number, min(size, MOST_ALLOCATION_BYTES), other, live.device, _CALLS[live.kind],
    )  # fmt: skip


def _shown(address: int) -> int:
    return address & (2**63 - 1)


def _small_ids(streams: list[object]) -> list[int]:
    """Number streams by their first use; 0, 1 and 2 are CUDA's own and stay."""
    known: dict[object, int] = {0: 0, 1: 1, 2: 2}
    return [known.setdefault(stream, len(known)) for stream in streams]
