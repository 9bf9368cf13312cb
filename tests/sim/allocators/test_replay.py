"""Replay loses nothing: live bytes to the byte, frees from before, calls that failed."""

from typing import Any

import numpy as np
import pytest

from vsim.sim.allocators.caching import CachingAllocator, CachingOptions
from vsim.sim.allocators.device import MIB, DeviceMemory
from vsim.sim.allocators.events import RELEASE, TRIM, TRIM_OR_RETRY, Events, events_of
from vsim.sim.allocators.replay import replay
from vsim.traces.allocations import (
    CUDA_MALLOC,
    FREE,
    FREE_REQUEST,
    MALLOC,
    MEMCPY,
    OK,
    OUT_OF_MEMORY,
    REALLOC,
    TORCH,
    AllocationTrace,
)
from vsim.traces.faults import InputError

Row = tuple[int, int, int] | tuple[int, int, int, dict[str, Any]]


def trace(*rows: Row, call: int = CUDA_MALLOC) -> AllocationTrace:
    """Rows of op, handle and bytes, and what differs from the defaults."""
    count = len(rows)
    full = [{"other_handle": -1, "stream": 0, "device": 0, "result": OK, "call": call, "pool": 0,
             "address": -1, **(row[3] if len(row) == 4 else {})} for row in rows]  # fmt: skip

    def column(name: str, kind: Any = np.int64) -> Any:
        return np.array([row[name] for row in full], kind)

    return AllocationTrace(
        time_ns=np.arange(count) * 10,
        thread=np.zeros(count, np.int64),
        stream=column("stream"),
        op=np.array([row[0] for row in rows], np.int8),
        handle=np.array([row[1] for row in rows], np.int64),
        bytes=np.array([row[2] for row in rows], np.int64),
        other_handle=column("other_handle"),
        device=column("device"),
        call=column("call", np.int8),
        result=column("result", np.int8),
        address=column("address"),
        source="a test",
        pool=column("pool") if any(row["pool"] for row in full) else None,
    )


def of(*rows: Row, call: int = CUDA_MALLOC) -> Events:
    return events_of(trace(*rows, call=call), "t.arrow")


def test_live_bytes_count_what_was_there_before_until_it_is_freed() -> None:
    events = of((MALLOC, 1, 100), (FREE, 9, 40), (FREE, 1, 0), (FREE, 8, 0), (MALLOC, 2, 5))
    assert events.before_bytes == 40
    assert events.unknown == 1  # handle 8, whose size nobody knows
    assert events.live_bytes.tolist() == [140, 100, 0, 5]
    run = replay(events, CachingAllocator(DeviceMemory()), limited=False)
    assert run.live_bytes.tolist() == events.live_bytes.tolist()


def test_a_block_given_up_lives_until_it_is_free_and_copies_change_nothing() -> None:
    events = of((MALLOC, 1, 100), (FREE_REQUEST, 1, 100), (MEMCPY, 1, 8, {"other_handle": 1}),
                (MALLOC, 2, 10), (FREE, 1, 100))  # fmt: skip
    assert events.live_bytes.tolist() == [100, 110, 10]
    assert events.row.tolist() == [0, 3, 4]


def test_growth_replaces_the_old_allocation() -> None:
    rows: list[Row] = [(MALLOC, 1, 100), (REALLOC, 2, 150, {"other_handle": 1}), (FREE, 2, 150)]
    events = of(*rows)
    assert events.grows
    assert events.live_bytes.tolist() == [100, 150, 0]
    device = DeviceMemory()
    run = replay(events, CachingAllocator(device), limited=False)
    assert run.live_bytes.tolist() == [100, 150, 0]
    assert device.calls["copy", 100, 1] == 1


def test_the_first_failure_is_told_with_what_was_live_and_the_program_goes_on() -> None:
    events = of((MALLOC, 1, 30 * MIB), (MALLOC, 2, 40 * MIB), (FREE, 2, 0), (MALLOC, 3, 10 * MIB),
                (FREE, 1, 0))  # fmt: skip
    run = replay(events, CachingAllocator(DeviceMemory(64 * MIB)), limited=True)
    assert run.failures == 1
    assert run.first_failure is not None
    assert (run.first_failure.row, run.first_failure.time_ns) == (1, 10)
    assert run.first_failure.live_bytes == 30 * MIB
    assert (run.live_bytes // MIB).tolist() == [30, 30, 30, 40, 10]


def test_a_call_that_failed_is_tried_again_where_memory_ends_and_passed_over_elsewhere() -> None:
    rows: list[Row] = [(MALLOC, 1, 30 * MIB), (MALLOC, 2, 40 * MIB, {"result": OUT_OF_MEMORY})]
    endless = replay(of(*rows), CachingAllocator(DeviceMemory()), limited=False)
    assert (endless.failures, endless.saved, endless.peak_reserved_bytes) == (0, 0, 30 * MIB)
    small = replay(of(*rows), CachingAllocator(DeviceMemory(64 * MIB)), limited=True)
    assert (small.failures, small.saved) == (1, 0)
    large = replay(of(*rows), CachingAllocator(DeviceMemory(70 * MIB)), limited=True)
    assert (large.failures, large.saved, large.live_bytes[-1]) == (0, 1, 30 * MIB)


def segment(op: int, handle: int, size: int, **more: Any) -> Row:
    return (op, handle, size, {"call": CUDA_MALLOC, **more})


def test_a_cache_that_the_program_emptied_is_emptied_and_a_retry_only_where_memory_is_endless() -> (
    None
):
    emptied: list[Row] = [
        segment(MALLOC, 1, 20 * MIB), (MALLOC, 2, 2 * MIB), (FREE, 2, 2 * MIB),
        segment(FREE, 1, 20 * MIB), (MALLOC, 3, 512),
    ]  # fmt: skip
    events = of(*emptied, call=TORCH)
    assert events.op.tolist() == [MALLOC, FREE, TRIM, MALLOC]
    assert events.recorded_reserved is not None
    assert (events.recorded_reserved // MIB).tolist() == [20, 20, 0, 0]
    run = replay(events, CachingAllocator(DeviceMemory()), limited=False)
    assert (run.reserved_bytes // MIB).tolist() == [20, 20, 0, 2]
    retried = [*emptied[:4], segment(MALLOC, 4, 30 * MIB), (MALLOC, 3, 30 * MIB)]
    events = of(*retried, call=TORCH)
    assert events.op.tolist()[2] == TRIM_OR_RETRY
    options = CachingOptions(limit_bytes=50 * MIB)
    kept = replay(events, CachingAllocator(DeviceMemory(), options), limited=True)
    assert (kept.reserved_bytes // MIB).tolist() == [20, 20, 20, 50]


def test_a_private_pool_is_released_when_the_first_of_its_segments_goes() -> None:
    """Two graphs' pools, of which one goes back; the other stays though nothing lives in it."""
    rows = []
    for pool, handle in ((1, 10), (2, 20)):
        rows += [
            segment(MALLOC, handle, 30 * MIB, pool=pool),
            (MALLOC, handle + 1, 30 * MIB, {"call": TORCH, "pool": pool}),
            (FREE, handle + 1, 30 * MIB, {"call": TORCH, "pool": pool}),
        ]
    gone = segment(FREE, 20, 30 * MIB, pool=2)
    events = of(*rows, gone, (MALLOC, 3, 512), call=TORCH)
    assert events.op.tolist() == [MALLOC, FREE, MALLOC, FREE, RELEASE, TRIM, MALLOC]
    assert events.stream[4] == events.stream[2] != events.stream[0]
    assert events.recorded_reserved is not None
    assert (events.recorded_reserved // MIB).tolist() == [30, 30, 60, 60, 60, 30, 30]
    run = replay(events, CachingAllocator(DeviceMemory(), None, events.private), limited=False)
    assert (run.reserved_bytes // MIB).tolist() == [30, 30, 60, 60, 60, 30, 32]


def test_a_capture_that_gives_its_own_memory_back_releases_nothing() -> None:
    """It is out of memory, gives back an oversize block of its own and takes another segment."""
    of_pool = {"call": TORCH, "pool": 1}
    rows: list[Row] = [
        segment(MALLOC, 1, 50 * MIB, pool=1), (MALLOC, 2, 50 * MIB, of_pool),
        (FREE, 2, 50 * MIB, of_pool), segment(FREE, 1, 50 * MIB, pool=1),
        segment(MALLOC, 3, 60 * MIB, pool=1), (MALLOC, 4, 60 * MIB, of_pool),
    ]  # fmt: skip
    assert RELEASE not in of(*rows, call=TORCH).op.tolist()


def test_segments_get_the_addresses_that_were_recorded() -> None:
    rows: list[Row] = [
        segment(MALLOC, 1, 20 * MIB, address=90 * MIB), (MALLOC, 2, 2 * MIB),
        segment(MALLOC, 3, 30 * MIB, address=50 * MIB), (MALLOC, 4, 30 * MIB),
    ]  # fmt: skip
    events = of(*rows, call=TORCH)
    allocator = CachingAllocator(DeviceMemory(recorded=events.recorded_segments))
    replay(events, allocator, limited=False)
    assert [at // MIB for at, _, _ in allocator.segments()] == [50, 90]


def test_the_gpu_has_to_be_named_where_there_are_several() -> None:
    both = trace((MALLOC, 1, 5), (MALLOC, 2, 7, {"device": 3}))
    with pytest.raises(InputError, match="is of 2 GPUs; choose one with --device: 0, 3"):
        events_of(both, "t.arrow")
    assert events_of(both, "t.arrow", 3).bytes.tolist() == [7]
    with pytest.raises(InputError, match=r"--device: 1 allocates nothing in t.arrow; write one of"):
        events_of(both, "t.arrow", 1)
    with pytest.raises(InputError, match="allocates nothing"):
        of((FREE, 1, 5))


def test_a_stream_within_a_private_pool_is_a_stream_of_its_own() -> None:
    graph, other = {"pool": 1}, {"pool": 2, "stream": 3}
    events = of(
        (MALLOC, 0, MIB), (MALLOC, 1, MIB, graph), (MALLOC, 2, MIB, other), (FREE, 1, 0),
        (MALLOC, 3, MIB, {"stream": 3}), (MALLOC, 4, MIB, graph), call=TORCH,
    )  # fmt: skip
    assert events.stream.tolist() == [0, 4, 5, 4, 3, 4]
    assert events.private == {4, 5}
    allocator = CachingAllocator(DeviceMemory(), None, events.private)
    run = replay(events, allocator, limited=False)
    # Segments of 2 MiB: of stream 0, of each graph, of stream 3; the first graph's is used again.
    assert run.peak_reserved_bytes == 8 * MIB
