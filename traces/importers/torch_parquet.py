"""Events of PyTorch's caching allocator as a Parquet table: `action`, `addr`, `size`, `t_us`.

Columns: action, addr (the block's address), size (bytes as asked for), stream, and t_us or time_us
(microseconds); `workload`, where several runs are in one file, and `seq`, the order within a run.
Others are not read. Source: PyTorch's `_snapshot()["device_traces"]`, one event a row.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from vsim.traces.allocations import AllocationTrace
from vsim.traces.faults import refuse, suggestion
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import parquet_head, read_parquet, row_place, whole_numbers
from vsim.traces.importers.torch_events import (
    ACTIONS,
    IDLE,
    DeviceEvents,
    Event,
    allocations_of,
)
from vsim.traces.schema import MOST_ALLOCATION_BYTES
from vsim.traces.trace_file import TraceFile

COLUMN_NAMES: Final = ("action", "addr", "size")
_TIMES: Final = ("t_us", "time_us")
_KNOWN: Final = (*COLUMN_NAMES, "stream", "seq", "workload", *_TIMES)


def import_events(file: TraceFile, part: str | None) -> AllocationTrace:
    """Import one run's events.

    Args:
        file: the Parquet file.
        part: the `workload` that is wanted; None where the file holds one alone.

    Raises:
        InputError: naming the file and each wrong row, or the workloads to choose from.
    """
    head = parquet_head(file)
    times = [name for name in _TIMES if name in head.names]
    if not times:
        refuse(file.name, "is missing; add microseconds as int64", place="column t_us")
    columns: list[str] = [name for name in _KNOWN if name in head.names and name not in times[1:]]
    table = _part_of(read_parquet(file, columns), file.name, part)
    faults = Faults(file.name)
    actions = _actions(table, faults)
    address = whole_numbers(table, "addr", faults, maximum=2**62)
    size = whole_numbers(table, "size", faults, minimum=1, maximum=MOST_ALLOCATION_BYTES)
    time_us = whole_numbers(table, times[0], faults)
    stream = np.zeros(len(size), np.int64)
    if "stream" in columns:
        stream = whole_numbers(table, "stream", faults, maximum=2**62)
    if "seq" in columns:
        _in_order(whole_numbers(table, "seq", faults), faults)
    faults.settle()
    events = [
        Event(*values)
        for values in zip(
            actions, *(each.tolist() for each in (address, size, stream, time_us)), strict=True
        )
    ]
    telling = [event for event in events if event.action in ACTIONS]
    if not telling:
        refuse(file.name, "holds no event that allocates or frees; name another file")
    left = sorted(set(head.names) - {*columns})
    notes = [f"columns not read: {', '.join(left)}"] if left else []
    name = file.stem if part is None else f"{file.stem}, {part}"
    licence = head.metadata.get("licence", "not stated")
    source = head.metadata.get("source", "")
    return allocations_of(
        [DeviceEvents(0, telling)], f"{name} ({source})" if source else name, licence, notes
    )


def _part_of(table: pa.Table, file: str, part: str | None) -> pa.Table:
    """The rows of one workload."""
    if "workload" not in table.column_names:
        if part is not None:
            refuse("--part", "does nothing: the file has no column workload; leave it out")
        return table
    words = table.column("workload").cast(pa.string()).to_pylist()
    known = list(dict.fromkeys(words))
    if part is None:
        if len(known) > 1:
            shown = ", ".join(str(word) for word in known[:20])
            refuse(file, f"holds {len(known)} workloads; choose one with --part: {shown}")
        return table
    if part not in known:
        refuse("--part", f"{part!r} is no workload of the file"
                         f"{suggestion(part, [str(word) for word in known])}")  # fmt: skip
    return table.filter(pa.array([word == part for word in words]))


def _actions(table: pa.Table, faults: Faults) -> list[str]:
    column = table.column("action")
    kind = column.type
    words = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(words) or pa.types.is_large_string(words)):
        faults.add(f"is {kind}; write words", place="column action")
        return [""] * table.num_rows
    found = column.cast(pa.string()).to_pylist()
    known = {*ACTIONS, *IDLE}
    for row, word in enumerate(found):
        if word not in known:
            said = f"{word!r:.40} is unknown{suggestion(str(word), known)}"
            faults.add(said, place=row_place(row, "action"))
    return [str(word) for word in found]


def _in_order(numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]", faults: Faults) -> None:
    falls = np.flatnonzero(np.diff(numbers) <= 0)
    if len(falls):
        row = int(falls[0]) + 1
        said = f"is {numbers[row]} after {numbers[row - 1]}; sort the rows by seq"
        faults.add(said, place=row_place(row, "seq"))
