"""Replay: a program's calls through the model of an allocator."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.allocators.allocator import Allocator
from vsim.sim.allocators.caching import CachingAllocator
from vsim.sim.allocators.device import Call, Outside
from vsim.sim.allocators.events import RELEASE, TRIM, TRIM_OR_RETRY, TRY, Events
from vsim.traces.allocations import FREE, MALLOC, REALLOC

Ints = NDArray[np.int64]

_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The first call that failed.

    Args:
        event, row: which, in the events and in the trace.
        time_ns: when.
        asked_bytes: what was asked for.
        live_bytes: what the program held before it.
        reserved_bytes: what the allocator held when it failed.
    """

    event: int
    row: int
    time_ns: int
    asked_bytes: int
    live_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class AllocatorRun:
    """What a model did with a program's calls.

    Attributes:
        live_bytes: int64[events], what the program holds in this run: without what failed.
        allocated_bytes: int64[events], the same with what the model rounds up.
        reserved_bytes: int64[events], what the model has taken, beside the device too.
        peak_reserved_bytes: the most it had of the device at once, within a call too.
        failures: calls that failed.
        first_failure: the first of them; None where none did.
        saved: calls that failed in the recording and do not here.
        calls: how often the driver was called, by name, bytes of a piece and pieces side by side.
        beside_bytes: the most that was taken at once of each memory beside the device.
        calls_beside: as `calls`, for the memory beside it.
    """

    live_bytes: Ints
    allocated_bytes: Ints
    reserved_bytes: Ints
    peak_reserved_bytes: int
    failures: int
    first_failure: OutOfMemory | None
    saved: int
    calls: dict[Call, int]
    beside_bytes: dict[Outside, int]
    calls_beside: dict[Outside, dict[Call, int]]

    @property
    def driver_calls(self) -> int:
        """Calls of the driver, for whichever memory."""
        return sum(sum(calls.values()) for calls in (self.calls, *self.calls_beside.values()))

    @property
    def fragmentation(self) -> NDArray[np.float64]:
        """float64[events]: the share of what is reserved that no live byte is in; 0 of nothing."""
        whole = np.maximum(self.reserved_bytes, 1)
        share: NDArray[np.float64] = np.where(
            self.reserved_bytes > 0, 1 - self.live_bytes / whole, 0.0
        )
        return share


def replay(events: Events, allocator: Allocator, *, limited: bool) -> AllocatorRun:
    """Run events through an allocator, one after the other.

    A call that fails allocates nothing, and the program goes on without: what it frees later of
    that is passed over. A call that failed in the recording is tried where memory is limited, and
    given back at once where it succeeds, since the program went on without it.

    Args:
        events: the calls.
        allocator: a model that holds nothing yet; it holds what is left afterwards.
        limited: whether the model's memory ends somewhere.
    """
    lost: set[int] = set()  # handles of what failed
    count = len(events)
    allocated, reserved = np.empty(count, np.int64), np.empty(count, np.int64)
    change = np.zeros(count, np.int64)
    failures = saved = live = 0
    first: OutOfMemory | None = None
    for handle, size, stream in zip(*(part.tolist() for part in events.before), strict=True):
        if allocator.malloc(handle, size, stream):
            live += size
        else:
            failures += 1
            lost.add(handle)
            first = first or OutOfMemory(0, 0, 0, size, live, allocator.reserved_bytes)
    started = live
    columns = (events.op, events.handle, events.other, events.bytes, events.old_bytes,
               events.stream)  # fmt: skip
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for at, (op, handle, other, size, old_size, stream) in enumerate(rows):
        good, delta = True, 0
        if op == MALLOC:
            good = allocator.malloc(handle, size, stream)
            delta = size
        elif op == FREE:
            if handle in lost:
                lost.discard(handle)
            else:
                allocator.free(handle)
                delta = -size
        elif op == REALLOC:
            if other == _NONE or other in lost:
                good, delta = allocator.malloc(handle, size, stream), size
            else:
                good = allocator.grow(other, handle, old_size, size, stream)
                delta = size - old_size
                if not good:  # the program has lost it, as it has what a malloc did not give
                    allocator.free(other)
                    change[at] -= old_size
        elif op == TRY and limited:
            good = allocator.malloc(handle, size, stream)
            if good:
                saved += 1
                allocator.free(handle)
        elif op == TRIM or (op == TRIM_OR_RETRY and not limited):
            allocator.trim()
        elif op == RELEASE and isinstance(allocator, CachingAllocator):
            allocator.release(stream)
        if good:
            change[at] += delta
        else:
            failures += 1
            lost.add(handle)
            if first is None:
                before = started + int(change[:at].sum())
                first = OutOfMemory(
                    event=at,
                    row=int(events.row[at]),
                    time_ns=int(events.time_ns[at]),
                    asked_bytes=size,
                    live_bytes=before,
                    reserved_bytes=allocator.reserved_bytes,
                )
        allocated[at] = allocator.allocated_bytes
        reserved[at] = allocator.reserved_bytes
    beside = allocator.device.beside
    return AllocatorRun(
        live_bytes=started + np.cumsum(change),
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        peak_reserved_bytes=allocator.device.peak_bytes,
        failures=failures,
        first_failure=first,
        saved=saved,
        calls=dict(allocator.device.calls),
        beside_bytes={name: memory.peak_bytes for name, memory in beside.items()},
        calls_beside={name: dict(memory.calls) for name, memory in beside.items()},
    )
