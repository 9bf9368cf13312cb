"""`AllocationTrace`: what a program allocated and freed, row by row."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import coded, integers
from vsim.traces.arrow_io import Provenance, metadata_of, read_table, write_table
from vsim.traces.schema import (
    ALLOCATION_CALLS,
    ALLOCATION_OPS,
    ALLOCATION_RESULTS,
    schema_of,
)
from vsim.traces.writing import FreshFile, Name, fresh_file

MALLOC, FREE_REQUEST, FREE, REALLOC, MEMCPY = range(len(ALLOCATION_OPS))
CUDA_MALLOC, CUDA_MALLOC_ASYNC, MANAGED, PINNED, VMM, TORCH = range(len(ALLOCATION_CALLS))
OK, OUT_OF_MEMORY, FAILED = range(len(ALLOCATION_RESULTS))

OPTIONAL: Final[tuple[str, ...]] = ("device", "call", "result", "address")
"""Columns that vsim always writes; beside them `pool`, where a pool is private."""
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "op": ALLOCATION_OPS, "call": ALLOCATION_CALLS, "result": ALLOCATION_RESULTS,
}  # fmt: skip

Ints = NDArray[np.int64]
Codes = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class AllocationTrace:
    """Calls in the order in which they took effect; arrays of one length, a row a call.

    Attributes:
        time_ns: int64, since the recording's start, never falls.
        thread, stream: int64; stream 0 is the default stream.
        op: int8, one of MALLOC, FREE_REQUEST, FREE, REALLOC, MEMCPY.
        handle: int64, the allocation; a number that no malloc has was there before.
        bytes: int64, as asked for; of a free 0 where unknown.
        other_handle: int64, of a realloc the one replaced, of a memcpy the source; else -1.
        device: int64, the GPU.
        call: int8, who gave it: CUDA_MALLOC to TORCH.
        result: int8, OK, OUT_OF_MEMORY or FAILED.
        address: int64, -1 where unknown.
        source, licence, machine: where it is from.
        facts: further metadata of the file.
        pool: int64, the private pool of PyTorch's allocator, 0 for the common ones; None where
            none is private.
        notes: what an import left out or made up, one sentence each.
    """

    time_ns: Ints
    thread: Ints
    stream: Ints
    op: Codes
    handle: Ints
    bytes: Ints
    other_handle: Ints
    device: Ints
    call: Codes
    result: Codes
    address: Ints
    source: str
    licence: str = "not stated"
    machine: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pool: Ints | None = None

    def __len__(self) -> int:
        return len(self.op)

    @property
    def requests(self) -> NDArray[np.bool_]:
        """bool[rows]: what the program itself asked for.

        Beside blocks of PyTorch's allocator, what that one took from the driver is not; neither is
        pinned host memory ever part of a device.
        """
        blocks: NDArray[np.bool_] = self.call == TORCH
        return blocks if blocks.any() else np.not_equal(self.call, PINNED)


def read_allocations(path: str | Path) -> AllocationTrace:
    """Read a trace of kind `allocations`. Raises InputError with every fault of the file."""
    return allocations_from_table(read_table(path, "allocations"), str(path))


def allocations_from_table(table: pa.Table, file: str) -> AllocationTrace:
    """Make a trace of a table that `read_table` has checked; `file` where it names no source."""
    rows = table.num_rows
    metadata = metadata_of(table)
    made: dict[str, Any] = {}
    for name in ("time_ns", "thread", "stream", "handle", "bytes", "other_handle"):
        made[name] = integers(table.column(name))
    for name, default in (("device", 0), ("address", -1)):
        there = name in table.column_names
        made[name] = integers(table.column(name)) if there else np.full(rows, default, np.int64)
    if "pool" in table.column_names:
        made["pool"] = integers(table.column("pool"))
    for name, words in _WORDS.items():
        made[name] = _codes(table, name, words)
    known = {
        "kind", "schema_version", "producer", "producer_version", "source", "licence", "machine",
        "calibration_hash",
    }  # fmt: skip
    return AllocationTrace(
        **made,
        source=metadata.get("source", file),
        licence=metadata.get("licence", "not stated"),
        machine=metadata.get("machine"),
        facts={key: value for key, value in metadata.items() if key not in known},
    )


def allocations_table(trace: AllocationTrace) -> pa.Table:
    """The trace as a table of the schema `allocations`, its optional columns with it."""
    columns: dict[str, Any] = {}
    for name in ("time_ns", "thread", "stream", "handle", "bytes"):
        columns[name] = pa.array(getattr(trace, name))
    columns["device"] = pa.array(trace.device.astype(np.int32))
    for name in ("other_handle", "address"):
        values = getattr(trace, name)
        columns[name] = pa.array(values, mask=values < 0)
    dictionary: Any = pa.DictionaryArray
    for name, words in _WORDS.items():
        codes = pa.array(getattr(trace, name).astype(np.int32))
        columns[name] = dictionary.from_arrays(codes, pa.array(words))
    optional = OPTIONAL
    if trace.pool is not None:
        columns["pool"] = pa.array(trace.pool)
        optional = (*OPTIONAL, "pool")
    names = schema_of("allocations", optional).names
    return pa.table({name: columns[name] for name in names})


def write_allocations(
    trace: AllocationTrace, path: Name | FreshFile, *, zstd_level: int | None = None
) -> None:
    """Write a trace as an Arrow file, see `write_table`. Raises InputError where it can't be."""
    facts = Provenance(trace.source, trace.licence, machine=trace.machine, extra=trace.facts)
    begun = nullcontext(path) if isinstance(path, FreshFile) else fresh_file(path, "allocations")
    with begun as fresh:
        write_table(allocations_table(trace), fresh, "allocations", facts, zstd_level=zstd_level)


def _codes(table: pa.Table, name: str, words: tuple[str, ...]) -> Codes:
    """A column of words as their places among `words`; the first one where it is left out."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int8)
    codes, found = coded(table.column(name))
    place = np.array([words.index(str(word)) for word in found] or [0], np.int8)
    return place[codes]
