"""allocations_of: a process's events as a trace of the schema `allocations`."""

from dataclasses import dataclass
from typing import Final

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


def allocations_of(log: ProcessLog) -> pa.Table:
    """Number allocations, which have only addresses in the log, and make one row an event.

    A free of what was not seen names a handle of its own, of unknown size; so does a call that
    failed. What is live at the end has no free: the process's end gave it back. Chunks of virtual
    memory are known by their driver's handle, which stands as their address.

    Args:
        log: of one process; what the library did by itself is left out.
    """
    chosen = np.isin(log.events["op"], [int(op) for op in _OPS])
    live: dict[tuple[bool, int], _Live] = {}
    columns: dict[str, list[object]] = {
        name: []
        for name in (
            "time_ns", "thread", "stream", "op", "handle", "bytes", "other_handle", "device",
            "call", "result", "address",
        )
    }  # fmt: skip
    for handle, event in enumerate(log.events[chosen]):
        op, kind, code = Op(event["op"]), Kind(event["kind"]), int(event["result"])
        virtual = kind == Kind.VMM
        address, other = int(event["address"]), None
        call, device = _CALLS[kind], int(event["device"])
        size = min(int(event["bytes"]), MOST_ALLOCATION_BYTES)
        named = handle
        if code == 0 and op == Op.FREE:
            gone = live.pop((virtual, address), None)
            size = 0
            if gone is not None:
                named, size, call, device = gone.handle, gone.bytes, gone.call, gone.device
        if op == Op.REALLOC and (virtual, int(event["other"])) in live:
            other = live[(virtual, int(event["other"]))].handle
        if code == 0 and op != Op.FREE:
            if op == Op.REALLOC:
                live.pop((virtual, int(event["other"])), None)
            live[(virtual, address)] = _Live(handle, size, call, device)
        row = (
            int(event["time_ns"]) - log.started_ns, int(event["thread"]), int(event["stream"]),
            _OPS[op] if op != Op.REALLOC or other is not None else "malloc", named, size,
            other, device, call,
            "ok" if code == 0 else "out_of_memory" if code == _OUT_OF_MEMORY else "failed",
            address & (2**63 - 1),
        )  # fmt: skip
        for name, value in zip(columns, row, strict=True):
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


def _small_ids(streams: list[object]) -> list[int]:
    """Number streams by their first use; 0, 1 and 2 are CUDA's own and stay."""
    known: dict[object, int] = {0: 0, 1: 1, 2: 2}
    return [known.setdefault(stream, len(known)) for stream in streams]
