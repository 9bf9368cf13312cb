"""PyTorch's memory snapshots: what `torch.cuda.memory._dump_snapshot` writes.

A snapshot is a pickle of plain values: `segments` (what the caching allocator holds now, with its
blocks) and `device_traces` (its events, GPU by GPU). A pickle may name any function of any module
and have it called; here every name is refused, so that nothing but plain values comes out. Read by
PyTorch 2.1 to 2.11; of each event `action`, `addr`, `size`, `stream` and `time_us` are used, and
`pool_id` where it is there: else pools are known by the segments that hold them (`torch_pools.py`).
"""

import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from vsim.traces.allocations import CUDA_MALLOC, TORCH, VMM, AllocationTrace
from vsim.traces.faults import first_line, refuse
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.torch_events import (
    ACTIONS,
    COMMON,
    IDLE,
    DeviceEvents,
    Event,
    Kept,
    allocations_of,
)
from vsim.traces.importers.torch_pools import name_pools
from vsim.traces.schema import MOST_ALLOCATION_BYTES
from vsim.traces.trace_file import TraceFile

PICKLE_MAGIC: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))

_DAMAGED: Final = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError,
    ValueError, OverflowError, RecursionError,
)  # fmt: skip
"""What unpickling raises on a file that is cut off, damaged or made to deceive."""
_MOST: Final = 2**63 - 1
_IN_USE: Final = ("active_allocated", "active_pending_free", "active_awaiting_free")


class _NamedGlobalError(pickle.UnpicklingError):
    """A pickle names something of a module."""


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles plain values and refuses every global, so that no code of the file runs."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _NamedGlobalError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _NamedGlobalError("something outside of the file")


def is_pickle(file: TraceFile) -> bool:
    """Whether a file starts as a pickle of protocol 2 or later does."""
    return file.head.startswith(PICKLE_MAGIC)


def import_snapshot(file: TraceFile, part: str | None) -> AllocationTrace:
    """Import a snapshot's events of all GPUs.

    Args:
        file: the pickle, plain or gzipped.
        part: must be None: a snapshot is of one process.

    Raises:
        InputError: it is no snapshot, it names a global, or an event is not what PyTorch writes.
    """
    if part is not None:
        refuse("--part", "does nothing with a snapshot, which is of one process; leave it out")
    return allocations_in(_unpickled(file), file.name, file.stem)


def allocations_in(found: Any, name: str, source: str) -> AllocationTrace:
    """Make a trace of a snapshot in memory: what `torch.cuda.memory._snapshot()` returns.

    Segments that are there at the end name the private pools where events do not; of a pool that
    was given back before, nothing says that it was one.

    Args:
        found: the snapshot.
        name: what faults are to call it.
        source: what the trace is made from.

    Raises:
        InputError: with what is wrong in it.
    """
    if not isinstance(found, dict) or not isinstance(found.get("device_traces"), list):
        refuse(name, "is a pickle without device_traces; write it with torch.cuda.memory."
                          "_dump_snapshot after _record_memory_history")  # fmt: skip
    faults = Faults(name)
    idle = 0
    devices = []
    segments = found.get("segments", [])
    kept = dict(_kept(segments, faults))
    for device, rows in enumerate(found["device_traces"]):
        if not isinstance(rows, list):
            faults.add("is no list of events", place=f"device_traces[{device}]")
            continue
        rows = _with_pools(rows, device, segments)
        events = [
            event
            for number, row in enumerate(rows)
            if (event := _event(row, f"device_traces[{device}][{number}]", faults)) is not None
        ]
        telling = [event for event in events if event.action in ACTIONS]
        idle += len(events) - len(telling)
        if telling or kept.get(device):
            devices.append(DeviceEvents(device, telling, kept.get(device, ())))
    faults.settle()
    if not devices:
        refuse(name, "holds no event; call torch.cuda.memory._record_memory_history before "
                          "the work")  # fmt: skip
    notes = [f"{idle} events that allocate and free nothing were left out"] if idle else []
    return allocations_of(devices, source, "not stated", notes)


def _with_pools(rows: list[Any], device: int, segments: Any) -> Sequence[Any]:
    """A GPU's events with their pools, where segments name private ones and no event does."""
    ours = [
        segment for segment in segments if isinstance(segment, dict)
        and segment.get("device", 0) == device
    ] if isinstance(segments, list) else []  # fmt: skip
    told = any(isinstance(row, dict) and "pool_id" in row for row in rows)
    if told or all(segment.get("segment_pool_id", COMMON) in (COMMON, None) for segment in ours):
        return rows
    return name_pools(rows, [(len(rows), ours)])


def _unpickled(file: TraceFile) -> Any:
    with file.open() as content:
        try:
            return _PlainUnpickler(content).load()
        except _NamedGlobalError as error:
            refuse(file.name, f"is a pickle that names {first_line(error)}; a snapshot holds plain "
                              "values alone, so this is refused")  # fmt: skip
        except MemoryError:
            refuse(file.name, "needs more memory than there is, or is damaged; copy it again")
        except _DAMAGED as error:
            refuse(file.name, f"is no whole pickle ({first_line(error)}); copy it again")
        except OSError as error:
            refuse(file.name, f"cannot be read: {first_line(error)}")


def _event(row: Any, place: str, faults: Faults) -> Event | None:
    action = row.get("action") if isinstance(row, dict) else None
    if not isinstance(action, str):
        faults.add("is no event with an action", place=place)
        return None
    if action in IDLE:
        return Event(action, 0, 0, 0, 0)
    if action not in ACTIONS:
        faults.add(f"has the action {action[:40]!r}, which PyTorch 2.11 has not", place=place)
        return None
    address = row.get("addr", 0) if action != "oom" else 0
    return whole_event(action, address, row, place, faults)


def whole_event(action: str, address: Any, row: Any, place: str, faults: Faults) -> Event | None:
    """An event whose numbers are whole and of a size that there is; else a fault, and None."""
    numbers = [address]
    for key, least, most in (
        ("size", 1, MOST_ALLOCATION_BYTES), ("stream", 0, _MOST), ("time_us", 0, _MOST // 1000),
    ):  # fmt: skip
        value = row.get(key, 0 if key != "size" else None)
        if type(value) is not int or not least <= value <= most:
            faults.add(f"is {value!r:.40}; write a whole number", place=f"{place}.{key}")
            return None
        numbers.append(value)
    if type(address) is not int or not 0 <= address <= _MOST - MOST_ALLOCATION_BYTES:
        faults.add(f"is {address!r:.40}; write an address", place=f"{place}.addr")
        return None
    pool = row.get("pool_id", COMMON)
    known = isinstance(pool, tuple | list) and len(pool) == 2
    if not known or any(type(part) is not int or not 0 <= part <= _MOST for part in pool):
        faults.add(f"is {pool!r:.40}; write two whole numbers", place=f"{place}.pool_id")
        return None
    return Event(action, *numbers)._replace(pool=(pool[0], pool[1]))


def _kept(segments: Any, faults: Faults) -> Iterator[tuple[int, list[Kept]]]:
    """What each GPU's segments are, and the blocks in use in them."""
    if not isinstance(segments, list):
        faults.add("is no list", place="segments")
        return
    found: dict[int, list[Kept]] = {}
    for number, segment in enumerate(segments):
        place = f"segments[{number}]"
        if not isinstance(segment, dict) or not isinstance(segment.get("blocks"), list):
            faults.add("is no segment with blocks", place=place)
            continue
        facts = {"size": segment.get("total_size"), "stream": segment.get("stream", 0),
                 "pool_id": segment.get("segment_pool_id", COMMON)}  # fmt: skip
        whole = whole_event("segment", segment.get("address"), facts, place, faults)
        device = segment.get("device", 0)
        if type(device) is not int or not 0 <= device < 1024:
            faults.add(f"is {device!r:.40}; write a GPU's number", place=f"{place}.device")
            continue
        if whole is None:
            continue
        call = VMM if segment.get("is_expandable") else CUDA_MALLOC
        size, stream = whole.size, whole.stream
        ours = found.setdefault(device, [])
        ours.append(Kept(whole.address, size, size, stream, call, whole.pool))
        at = whole.address
        for index, block in enumerate(segment["blocks"]):
            inner = f"{place}.blocks[{index}]"
            if not isinstance(block, dict):
                faults.add("is no block", place=inner)
                break
            facts = {"size": block.get("size"), "stream": stream}
            piece = whole_event("block", block.get("address", at), facts, inner, faults)
            if piece is None:
                break
            if block.get("state") in _IN_USE:
                asked = block.get("requested_size", piece.size)
                good = type(asked) is int and 1 <= asked <= piece.size
                asked = asked if good else piece.size
                ours.append(Kept(piece.address, piece.size, asked, stream, TORCH, whole.pool))
            at = piece.address + piece.size
    yield from found.items()
