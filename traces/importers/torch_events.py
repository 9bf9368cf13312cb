"""Events of PyTorch's caching allocator as allocations.

PyTorch numbers nothing: an event names an address, which comes again as soon as a block is freed.
Here each block and each piece of a segment gets a handle of its own, in the order of the events.
Source of the events' meaning: PyTorch, `torch/cuda/_memory_viz.py` and the `TraceEntry` of
`c10/cuda/CUDACachingAllocator.h`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from vsim.traces.allocations import (
    CUDA_MALLOC,
    FREE,
    FREE_REQUEST,
    MALLOC,
    OK,
    OUT_OF_MEMORY,
    TORCH,
    VMM,
    AllocationTrace,
)

ACTIONS: Final = (
    "alloc", "free_requested", "free_completed", "segment_alloc", "segment_free", "segment_map",
    "segment_unmap", "oom",
)  # fmt: skip
IDLE: Final = frozenset({"snapshot", "user_defined", "annotation", "workspace_snapshot"})
"""Events that allocate and free nothing."""

COMMON: Final = (0, 0)
"""The identity of pools that are not private."""

_US: Final = 1000
_CALLS: Final[Mapping[str, int]] = {
    "segment_alloc": CUDA_MALLOC, "segment_free": CUDA_MALLOC, "segment_map": VMM,
    "segment_unmap": VMM,
}  # fmt: skip


class Event(NamedTuple):
    """One event: size in bytes as it was asked for, `time_us` on any clock that does not fall.

    `pool` is a private pool's identity; (0, 0) are the common ones.
    """

    action: str
    address: int
    size: int
    stream: int
    time_us: int
    pool: tuple[int, int] = COMMON


class Kept(NamedTuple):
    """What was there at the end: a block in use or a mapped range, with its size in bytes.

    `requested` is what was asked for, of a range its size.
    """

    address: int
    size: int
    requested: int
    stream: int
    call: int
    pool: tuple[int, int] = COMMON


class _Row(NamedTuple):
    time_ns: int
    stream: int
    op: int
    handle: int
    bytes: int
    call: int
    result: int
    address: int
    pool: int = 0


@dataclass(frozen=True, slots=True)
class DeviceEvents:
    """One GPU's events in order, and what a snapshot found there at the end, if one was taken."""

    device: int
    events: Sequence[Event]
    kept: Sequence[Kept] = ()


def allocations_of(
    devices: Iterable[DeviceEvents], source: str, licence: str, notes: Iterable[str] = ()
) -> AllocationTrace:
    """Make a trace of the events of every GPU of a process.

    A block that is freed and was never allocated gets a handle that no malloc has. What a snapshot
    shows in use without any event was there before the recording: it is allocated at time 0.
    """
    said = list(notes)
    rows: list[_Row] = []
    of_device: list[int] = []
    numbers, streams, pools = count(), {0: 0}, {COMMON: 0}
    for each in devices:
        conversion = _Conversion(numbers, streams, pools)
        conversion.read(each)
        made = [*conversion.stayed(each.kept), *conversion.rows]
        rows.extend(made)
        of_device.extend([each.device] * len(made))
        said.extend(f"device {each.device}: {note}" for note in conversion.notes)
    order = np.argsort([row.time_ns for row in rows], kind="stable")  # of one device as they are

    def column(name: str, kind: Any = np.int64) -> Any:
        return np.array([getattr(row, name) for row in rows], kind)[order]

    return AllocationTrace(
        time_ns=column("time_ns"),
        thread=np.zeros(len(rows), np.int64),
        stream=column("stream"),
        op=column("op", np.int8),
        handle=column("handle"),
        bytes=column("bytes"),
        other_handle=np.full(len(rows), -1, np.int64),
        device=np.array(of_device, np.int64)[order],
        call=column("call", np.int8),
        result=column("result", np.int8),
        address=column("address"),
        source=source,
        licence=licence,
        notes=tuple(said),
        pool=column("pool") if len(pools) > 1 else None,
    )


class _Conversion:
    """One GPU's events as rows; state: the rows so far, and what is alive at which address."""

    def __init__(
        self, numbers: Iterator[int], streams: dict[int, int], pools: dict[tuple[int, int], int]
    ) -> None:
        self.rows: list[_Row] = []
        self.notes: list[str] = []
        self._numbers = numbers
        self._streams = streams
        self._pools = pools
        self._blocks: dict[int, int] = {}
        self._pending: dict[int, int] = {}  # given up, but a stream may still use them
        self._pieces: dict[int, tuple[int, int]] = {}  # of segments, by start: handle and end
        self._before: list[int] = []  # sizes
        self._now = 0
        self._stream = self._pool = 0

    def read(self, device: DeviceEvents) -> None:
        """Add all events' rows."""
        events = device.events
        cuts = _cuts(events)
        start = events[0].time_us if events else 0
        raised = 0
        after: Sequence[Event | None] = [*events[1:], None]
        for event, following in zip(events, after, strict=True):
            time_ns = (event.time_us - start) * _US
            raised += time_ns < self._now
            self._now = max(self._now, time_ns)
            self._stream = self._number(event.stream)
            self._pool = self._pools.setdefault(event.pool, len(self._pools))
            self._take(event, following, cuts)
        if raised:
            self.notes.append(f"{raised} times lay before the event before them and were raised")
        if self._before:
            self.notes.append(
                f"{len(self._before)} blocks of {sum(self._before):,} bytes were there before the "
                "recording and are freed in it"
            )

    def _take(self, event: Event, following: Event | None, cuts: Sequence[int]) -> None:
        action, address, size = event.action, event.address, event.size
        if action == "alloc":
            self._blocks[address] = next(self._numbers)
            self._add(MALLOC, self._blocks[address], size, TORCH, address)
        elif action == "free_requested":
            handle = self._pending[address] = self._given_up(self._blocks, event)
            at_once = following is not None and following[:2] == ("free_completed", address)
            if not at_once:
                self._add(FREE_REQUEST, handle, size, TORCH, address)
        elif action == "free_completed":
            self._add(FREE, self._given_up(self._pending, event), size, TORCH, address)
        elif action in ("segment_alloc", "segment_map"):
            end = address + size
            inner = cuts[bisect_right(cuts, address) : bisect_left(cuts, end)]
            for low, high in pairwise([address, *inner, end]):
                handle = next(self._numbers)
                self._pieces[low] = (handle, high)
                self._add(MALLOC, handle, high - low, _CALLS[action], low)
        elif action in ("segment_free", "segment_unmap"):
            self._unmap(event)
        elif action == "oom":
            self._add(MALLOC, next(self._numbers), size, TORCH, -1, OUT_OF_MEMORY)

    def _add(
        self, op: int, handle: int, size: int, call: int, address: int, result: int = OK
    ) -> None:
        self.rows.append(
            _Row(self._now, self._stream, op, handle, size, call, result, address, self._pool)
        )

    def _number(self, stream: int) -> int:
        return self._streams.setdefault(stream, len(self._streams))

    def _given_up(self, alive: dict[int, int], event: Event) -> int:
        """The handle of a block that is no longer `alive`; a new one where it was there before."""
        handle = alive.pop(event.address, -1)
        if handle < 0:
            handle = next(self._numbers)
            self._before.append(event.size)
        return handle

    def _unmap(self, event: Event) -> None:
        """Free the pieces of a range; what of it was there before the recording, as one piece."""
        at, end = event.address, event.address + event.size
        while at < end:
            handle, high = self._pieces.pop(at, (-1, 0))
            if handle < 0:
                handle = next(self._numbers)
                high = min((low for low in self._pieces if at < low < end), default=end)
            self._add(FREE, handle, high - at, _CALLS[event.action], at)
            at = high

    def stayed(self, kept: Sequence[Kept]) -> list[_Row]:
        """Allocate at time 0 what is there at the end and no event made."""
        rows = []
        taken = {*self._blocks, *self._pending}
        ranges = sorted((low, high) for low, (_, high) in self._pieces.items())
        for each in kept:
            spans = [(each.address, each.address + each.size)]
            if each.call != TORCH:
                spans = _without(spans[0], ranges)
            elif each.address in taken:
                continue
            for low, high in spans:
                handle, stream = next(self._numbers), self._number(each.stream)
                pool = self._pools.setdefault(each.pool, len(self._pools))
                size = each.requested if each.call == TORCH else high - low
                rows.append(_Row(0, stream, MALLOC, handle, size, each.call, OK, low, pool))
        if blocks := [row.bytes for row in rows if row.call == TORCH]:
            self.notes.append(
                f"{len(blocks)} blocks of {sum(blocks):,} bytes were there before the recording "
                "and stay"
            )
        return rows


def _cuts(events: Sequence[Event]) -> list[int]:
    """Where ranges that are unmapped begin and end: they may be parts of what one event mapped."""
    found = set()
    for event in events:
        if event.action == "segment_unmap":
            found |= {event.address, event.address + event.size}
    return sorted(found)


def _without(span: tuple[int, int], ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a span that no range covers; ranges are sorted and apart."""
    at, end = span
    left = []
    for low, high in ranges:
        if high <= at or low >= end:
            continue
        if low > at:
            left.append((at, low))
        at = max(at, high)
    if at < end:
        left.append((at, end))
    return left
