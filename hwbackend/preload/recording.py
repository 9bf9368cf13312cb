"""allocations_of: a process's events as a trace of the schema `allocations`."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vsim.hwbackend.preload.events import Kind, Op, ProcessLog
from vsim.traces.schema import MOST_ALLOCATION_BYTES

_CALLS: Final = {
    Kind.PLAIN: "cudaMalloc",
    Kind.ASYNC: "cudaMallocAsync",
    Kind.MANAGED: "cudaMallocManaged",
    Kind.VMM: "vmm",
}
_OUT_OF_MEMORY: Final = 2
_OPS: Final = {Op.MALLOC: "malloc", Op.FREE: "free", Op.REALLOC: "realloc"}


@dataclass(frozen=True, slots=True)
class _Live:
    handle: int
    bytes: int
    call: str
    device: int
    context: int


def allocations_of(log: ProcessLog) -> pa.Table:
    """Number allocations, which have only addresses in the log, and make one row an event.

    A free of what was not seen names a handle of its own, of unknown size; so does a call that
    failed. What goes with its context is freed by a row each then. What is live at the end has no
    free: the process's end gave it back. Chunks of virtual memory are known by their driver's
    handle, which stands as their address.

    Args:
        log: of one process; what the library did by itself is left out.
    """
    chosen = np.isin(log.events["op"], [int(op) for op in (*_OPS, Op.CONTEXT_END)])
    live: dict[tuple[bool, int], _Live] = {}
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            "time_ns", "thread", "stream", "op", "handle", "bytes", "other_handle", "device",
            "call", "result", "address",
        )
    }  # fmt: skip

    def add(event: Any, *row: object) -> None:
        who = int(event["time_ns"]) - log.started_ns, int(event["thread"]), int(event["stream"])
        for name, value in zip(columns, (*who, *row), strict=True):
            columns[name].append(value)

    for handle, event in enumerate(log.events[chosen]):
        op, code = Op(event["op"]), int(event["result"])
        address, named = int(event["address"]), int(event["other"])
        if op == Op.CONTEXT_END:
            for key in [key for key, each in live.items() if each.context == named and not key[0]]:
                gone = live.pop(key)
                add(event, "free", gone.handle, gone.bytes, None, gone.device, gone.call, "ok",
                    _shown(key[1]))  # fmt: skip
            continue
        kind = Kind(event["kind"])
        virtual = kind == Kind.VMM
        this = _Live(
            handle, min(int(event["bytes"]), MOST_ALLOCATION_BYTES), _CALLS[kind],
            int(event["device"]), named,
        )  # fmt: skip
        other = None
        if op == Op.FREE:
            this = replace(this, bytes=0) if code == 0 else this
            this = live.pop((virtual, address), this) if code == 0 else this
        if op == Op.REALLOC and (old := live.get((virtual, named))) is not None:
            other, this = old.handle, replace(this, context=old.context)
        if code == 0 and op != Op.FREE:
            if op == Op.REALLOC:
                live.pop((virtual, named), None)
            live[virtual, address] = this
        add(
            event, _OPS[op] if op != Op.REALLOC or other is not None else "malloc", this.handle,
            this.bytes, other, this.device, this.call,
            "ok" if code == 0 else "out_of_memory" if code == _OUT_OF_MEMORY else "failed",
            _shown(address),
        )  # fmt: skip
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


def _shown(address: int) -> int:
    return address & (2**63 - 1)


def _small_ids(streams: list[object]) -> list[int]:
    """Number streams by their first use; 0, 1 and 2 are CUDA's own and stay."""
    known: dict[object, int] = {0: 0, 1: 1, 2: 2}
    return [known.setdefault(stream, len(known)) for stream in streams]
