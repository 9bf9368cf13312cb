"""Events: the calls of one GPU of a trace, as replay goes through them."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.allocations import (
    CUDA_MALLOC,
    FREE,
    MALLOC,
    OK,
    OUT_OF_MEMORY,
    REALLOC,
    TORCH,
    VMM,
    AllocationTrace,
)
from vsim.traces.faults import refuse

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

TRY: Final = 100
"""A malloc that failed in the recording: what happens to it depends on the memory that there is."""
TRIM: Final = 101
"""The recorded program had its caching allocator give back what was free."""
TRIM_OR_RETRY: Final = 102
"""The same, or the recorded allocator did so by itself since memory was out."""
RELEASE: Final = 103
"""A private pool's graphs are gone: what is free of it goes back with the rest from here on."""


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """What one GPU was asked for, in order; arrays of one length.

    Attributes:
        op: MALLOC, FREE, REALLOC, TRY, TRIM, TRIM_OR_RETRY or RELEASE (of the stream's pool).
        handle, other: of a REALLOC the new and the old allocation, which is -1 where it was there
            before the recording.
        bytes: as asked for; of a FREE the allocation's.
        old_bytes: of a REALLOC, the replaced allocation's; else 0.
        stream: the allocation's; 0 is the default stream. A stream within a private pool of
            PyTorch's allocator has a number of its own, behind all others.
        private: the numbers of such streams.
        time_ns: since the recording's start.
        row: the trace's row.
        before: handles, bytes and streams of what was there before the recording and is freed in
            it, in the order of these frees.
        unknown: frees, and replaced allocations, of which no size is known; they are left out.
        recorded_segments: sizes and addresses of the segments that the recorded caching allocator
            took with cudaMalloc.
        recorded_reserved: bytes that it held after each event; None where the trace does not say.
    """

    op: Ints
    handle: Ints
    other: Ints
    bytes: Ints
    old_bytes: Ints
    stream: Ints
    time_ns: Ints
    row: Ints
    before: tuple[Ints, Ints, Ints]
    unknown: int
    recorded_segments: tuple[tuple[int, int], ...]
    recorded_reserved: Ints | None
    private: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.op)

    @property
    def grows(self) -> bool:
        """Whether anything is made larger or smaller after it was allocated."""
        return bool((self.op == REALLOC).any())

    @property
    def before_bytes(self) -> int:
        """What was there before the recording, as far as it is freed in it."""
        return int(self.before[1].sum())

    @property
    def live_bytes(self) -> Ints:
        """int64[events]: what the program holds after each event, as it asked for it.

        A block that was given up counts until no stream uses it any more.
        """
        made = np.where((self.op == MALLOC) | (self.op == REALLOC), self.bytes, 0)
        gone = np.where(self.op == FREE, self.bytes, 0) + self.old_bytes
        live: Ints = self.before_bytes + np.cumsum(made - gone)
        return live


def devices_of(trace: AllocationTrace) -> list[int]:
    """The GPUs that the program allocated on."""
    found: list[int] = np.unique(trace.device[trace.requests]).tolist()
    return found


def events_of(trace: AllocationTrace, file: str, device: int | None = None) -> Events:
    """The calls of one GPU.

    Args:
        trace: the trace.
        file: its name, for faults.
        device: the GPU; None where the trace has one alone.

    Raises:
        InputError: there is no such GPU, several to choose from, or nothing that allocates.
    """
    chosen = _chosen(trace, file, device)
    asked = trace.requests & (trace.device == chosen)
    done = asked & (trace.result == OK) & np.isin(trace.op, (MALLOC, FREE, REALLOC))
    tried = asked & (trace.result == OUT_OF_MEMORY) & (trace.op == MALLOC)
    driver = _driver_rows(trace, chosen)
    trims = _trims(trace, driver, asked)
    rows = np.flatnonzero(done | tried | (trims > 0))
    if not (done & (trace.op != FREE)).any():
        refuse(file, "allocates nothing; name a recording with at least one malloc")

    op = trace.op[rows].astype(np.int64)
    op[tried[rows]] = TRY
    op = np.where(trims[rows] > 0, trims[rows], op)
    handle = np.where(op >= TRIM, -1, trace.handle[rows])
    other = np.where(op == REALLOC, trace.other_handle[rows], -1)
    size, (whole, private) = trace.bytes[rows].copy(), _streams(trace)
    stream = whole[rows]
    made = (op == MALLOC) | (op == REALLOC)
    place = _places(handle[made], handle)
    known = (op == FREE) & (place >= 0)
    size[known], stream[known] = size[made][place[known]], stream[made][place[known]]
    replaced = _places(handle[made], other)
    old_bytes = np.where(replaced >= 0, size[made][replaced], 0)
    lost = (op == REALLOC) & (replaced < 0)
    other[lost] = -1
    keep = (op != FREE) | (size > 0)
    early = (op == FREE) & (place < 0) & keep
    reserved = None
    if driver.any():
        change = np.where(trace.op == MALLOC, trace.bytes, -trace.bytes) * driver
        reserved = np.cumsum(change)[rows][keep]
    events = Events(
        op=op[keep],
        handle=handle[keep],
        other=other[keep],
        bytes=np.where(op >= TRIM, 0, size)[keep],
        old_bytes=old_bytes[keep],
        stream=stream[keep],
        time_ns=trace.time_ns[rows][keep],
        row=rows[keep],
        before=(handle[early], size[early], stream[early]),
        unknown=int(np.count_nonzero(~keep) + np.count_nonzero(lost)),
        recorded_segments=_segments(trace, driver),
        recorded_reserved=reserved,
        private=private,
    )
    return _with_releases(events, _releases(trace, driver, asked, whole))


def gone_on(events: Events, times: int, file: str) -> Events:
    """The events as if the last one, which failed in the recording, had not ended its program.

    Args:
        events: of a program that gave up.
        times: how often it makes the call, the recorded time counted.
        file: the trace's name, for faults.

    Raises:
        InputError: the last event is no call that failed.
    """
    if events.op[-1] != TRY:
        refuse(file, "does not end with a call that ran out of memory; leave --again out")
    names = ("op", "handle", "other", "bytes", "old_bytes", "stream", "time_ns", "row")
    last = {name: np.repeat(getattr(events, name)[-1:], times - 1) for name in names}
    last["handle"] = events.handle.max() + np.arange(1, times)
    last["row"] = last["row"] + np.arange(1, times)  # as if the recording went on
    columns: dict[str, Any] = {
        name: np.concatenate((getattr(events, name), more)) for name, more in last.items()
    }
    columns["op"][len(events) - 1 :] = MALLOC
    reserved = events.recorded_reserved
    if reserved is not None:
        reserved = np.concatenate((reserved, np.repeat(reserved[-1:], times - 1)))
    return replace(events, **columns, recorded_reserved=reserved)


def _chosen(trace: AllocationTrace, file: str, device: int | None) -> int:
    known = devices_of(trace)
    listed = ", ".join(map(str, known))
    if not known:
        refuse(file, "allocates nothing on a GPU; name another recording")
    if device is None:
        if len(known) > 1:
            refuse(file, f"is of {len(known)} GPUs; choose one with --device: {listed}")
        return known[0]
    if device not in known:
        refuse("--device", f"{device} allocates nothing in {file}; write one of: {listed}")
    return device


def _streams(trace: AllocationTrace) -> tuple[Ints, frozenset[int]]:
    """Each row's stream, those within private pools numbered anew; and these numbers."""
    if trace.pool is None or not (trace.pool > 0).any():
        return trace.stream, frozenset()
    within = trace.pool > 0
    pairs = np.stack((trace.pool[within], trace.stream[within]), axis=1)
    known, which = np.unique(pairs, axis=0, return_inverse=True)
    first = int(trace.stream.max()) + 1
    stream = trace.stream.copy()
    stream[within] = first + which.reshape(-1)
    return stream, frozenset(range(first, first + len(known)))


def _places(known: Ints, wanted: Ints) -> Ints:
    """Where in `known`, whose numbers differ, each number is; -1 where it is not."""
    if len(known) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
    found: Ints = np.where(known[order][place] == wanted, order[place], -1)
    return found


def _driver_rows(trace: AllocationTrace, device: int) -> Mask:
    """What PyTorch's allocator itself took from the driver and gave back."""
    if not (trace.call == TORCH).any():
        return np.zeros(len(trace), np.bool_)
    calls = np.isin(trace.call, (CUDA_MALLOC, VMM)) & np.isin(trace.op, (MALLOC, FREE))
    found: Mask = calls & (trace.device == device) & (trace.result == OK)
    return found


def _segments(trace: AllocationTrace, driver: Mask) -> tuple[tuple[int, int], ...]:
    """Sizes and addresses of segments in order; none where an address is missing."""
    made = driver & (trace.call == CUDA_MALLOC) & (trace.op == MALLOC)
    if (trace.address[made] < 0).any():
        return ()
    return tuple(zip(trace.bytes[made].tolist(), trace.address[made].tolist(), strict=True))


def _releases(
    trace: AllocationTrace, driver: Mask, asked: Mask, stream: Ints
) -> list[tuple[int, int]]:
    """Rows before which a private pool was released, each with a stream of the pool.

    Its segments go back to the driver with others then. In a capture that is out of memory some do,
    too, and the pool's next row is right behind them: so such are left out.
    """
    if trace.pool is None:
        return []
    found: dict[int, int] = {}  # row by pool
    first, gone = -1, set[int]()
    for at in np.flatnonzero(driver | asked).tolist():
        pool = int(trace.pool[at])
        if driver[at] and trace.op[at] == FREE:
            first = at if first < 0 else first
            gone.add(pool)
            continue
        for each in gone - {0, pool}:
            found.setdefault(each, first)
        first, gone = -1, set()
    for each in gone - {0}:
        found.setdefault(each, first)
    pairs = {(found[pool], int(of)) for pool, of in zip(trace.pool.tolist(), stream, strict=True)
             if pool in found}  # fmt: skip
    return sorted(pairs)


def _with_releases(events: Events, releases: list[tuple[int, int]]) -> Events:
    """The events with a RELEASE before the row of each."""
    if not releases:
        return events
    row, stream = (np.array(part, np.int64) for part in zip(*releases, strict=True))
    place = np.searchsorted(events.row, row)
    filled: dict[str, Any] = {"op": RELEASE, "handle": -1, "other": -1, "bytes": 0, "old_bytes": 0,
              "stream": stream, "row": row, "time_ns": events.time_ns[place]}  # fmt: skip
    columns: dict[str, Any] = {
        name: np.insert(getattr(events, name), place, value) for name, value in filled.items()
    }
    reserved = events.recorded_reserved
    if reserved is not None:
        reserved = np.insert(reserved, place, np.where(place > 0, reserved[place - 1], 0))
    return replace(events, **columns, recorded_reserved=reserved)


def _trims(trace: AllocationTrace, driver: Mask, asked: Mask) -> Ints:
    """Mark the first of each run of frees to the driver: TRIM or TRIM_OR_RETRY; else 0.

    A caching allocator that is out of memory gives back too, and then takes a segment or fails: so
    only what is followed by neither was surely asked for by the program.
    """
    found = np.zeros(len(trace), np.int64)
    first = -1
    for at in np.flatnonzero(driver | asked).tolist():
        if driver[at] and trace.op[at] == FREE:
            first = at if first < 0 else first
        elif first >= 0:
            retried = driver[at] or trace.result[at] == OUT_OF_MEMORY
            found[first] = TRIM_OR_RETRY if retried else TRIM
            first = -1
    if first >= 0:
        found[first] = TRIM
    return found
