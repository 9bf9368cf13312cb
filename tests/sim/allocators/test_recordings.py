"""The models on recordings of PyTorch itself: what they reserve is what PyTorch reserved.

Each file of `traces/recorded/allocations/` is one run of a program with one setting, with PyTorch's
own events and its own statistics. One stream: peaks are equal. Several: within 2 %, though they are
expected to be equal too. Some capture graphs, whose pools are their own.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vsim.sim.allocators.caching import CachingAllocator
from vsim.sim.allocators.device import DeviceMemory
from vsim.sim.allocators.events import RELEASE, TRIM, TRIM_OR_RETRY, TRY, Events, events_of
from vsim.sim.allocators.model_settings import Caching, Memory
from vsim.sim.allocators.replay import AllocatorRun, replay
from vsim.traces.allocations import (
    FREE,
    FREE_REQUEST,
    MALLOC,
    OK,
    TORCH,
    AllocationTrace,
    read_allocations,
)

FOLDER = Path(__file__).parents[3] / "traces/recorded/allocations"
RECORDINGS = sorted(path.name for path in FOLDER.glob("*.arrow"))
_MIB = 2**20


def settings_of(trace: AllocationTrace) -> Caching:
    """The model's settings, from what PYTORCH_CUDA_ALLOC_CONF was."""
    pairs = dict(part.split(":") for part in trace.facts["alloc_conf"].split(",") if part)
    fields: dict[str, object] = {"model": "caching"}
    if pairs.pop("expandable_segments", "False") == "True":
        fields["model"] = "expandable"
    if size := pairs.pop("max_split_size_mb", None):
        fields["max_split_size"] = int(size) * _MIB
    if parts := pairs.pop("roundup_power2_divisions", None):
        fields["roundup_power2_divisions"] = int(parts)
    if share := pairs.pop("garbage_collection_threshold", None):
        fields["garbage_collection_threshold"] = float(share)
    assert pairs == {}
    if int(trace.facts["allowed_bytes"]):
        fields["memory_limit"] = int(trace.facts["allowed_bytes"])
    if "memory_limit" not in fields:
        fields.pop("garbage_collection_threshold", None)
    return Caching.model_validate(fields)


def replayed(name: str) -> tuple[AllocationTrace, Events, AllocatorRun, CachingAllocator]:
    trace = read_allocations(FOLDER / name)
    events = events_of(trace, name)
    settings = settings_of(trace)
    memory = Memory(int(trace.facts["device_bytes"]), events.recorded_segments, events.private)
    allocator = settings.make(memory)
    assert isinstance(allocator, CachingAllocator)
    run = replay(events, allocator, limited=settings.memory_limit is not None)
    return trace, events, run, allocator


pytestmark = pytest.mark.skipif(not RECORDINGS, reason="no recordings are committed here")


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_is_reserved_is_what_pytorch_reserved(name: str) -> None:
    trace, events, run, _ = replayed(name)
    wanted = int(trace.facts["peak_reserved_bytes"])
    one_stream = len(np.unique(events.stream[events.op == MALLOC])) == 1
    found = run.peak_reserved_bytes
    if one_stream:
        assert found == wanted
    else:
        assert abs(found / wanted - 1) <= 0.02


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_is_reserved_is_equal_after_every_call_and_not_at_the_peak_alone(name: str) -> None:
    """Where the recording is in the midst of a retry, its call is not over yet."""
    _, events, run, _ = replayed(name)
    assert events.recorded_reserved is not None
    over = (events.op == MALLOC) | (events.op == FREE) | (events.op == TRY)
    assert over.sum() > 0.9 * len(events)
    np.testing.assert_array_equal(run.reserved_bytes[over], events.recorded_reserved[over])


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_block_lies_where_pytorch_put_it(name: str) -> None:
    """By its address; of expandable segments by its place in the range of its pool and stream."""
    trace, events, _, _ = replayed(name)
    settings = settings_of(trace)
    memory = Memory(int(trace.facts["device_bytes"]), events.recorded_segments, events.private)
    allocator = settings.make(memory)
    assert isinstance(allocator, CachingAllocator)
    limited = settings.memory_limit is not None
    starts: dict[tuple[int, bool], int] = {}
    moved = 0
    for op, handle, size, stream, row in zip(
        *(v.tolist() for v in (events.op, events.handle, events.bytes, events.stream, events.row)),
        strict=True,
    ):
        if op == FREE:
            allocator.free(handle)
        elif op == TRY:
            assert not allocator.malloc(handle, size, stream)
        elif op == RELEASE:
            allocator.release(stream)
        elif op == TRIM or (op == TRIM_OR_RETRY and not limited):
            allocator.trim()
            # A range that nothing is mapped in any more goes; the pool's next one lies elsewhere.
            there = {
                (block.pool.stream, block.pool.is_small)
                for _, _, blocks in allocator.segments() for block in blocks
            }  # fmt: skip
            starts = {pool: shift for pool, shift in starts.items() if pool in there}
        elif op == MALLOC:
            assert allocator.malloc(handle, size, stream)
            block = allocator._handed_out[handle]
            shift = int(trace.address[row]) - block.address
            if settings.model == "caching":
                moved += shift != 0
            else:
                moved += starts.setdefault((stream, block.pool.is_small), shift) != shift
    assert moved == 0


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_is_in_use_is_what_pytorch_counted(name: str) -> None:
    """With what is rounded up (active_bytes) and as it was asked for (requested_bytes)."""
    trace, events, run, _ = replayed(name)
    assert int(run.allocated_bytes.max()) == int(trace.facts["peak_active_bytes"])
    assert int(events.live_bytes.max()) == int(trace.facts["peak_requested_bytes"])
    assert run.failures == int(trace.facts["out_of_memory"])


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_begins_with_nothing_and_its_events_tell_what_was_reserved(name: str) -> None:
    trace, events, _, _ = replayed(name)
    assert events.before_bytes == 0
    assert events.unknown == 0
    assert events.recorded_reserved is not None
    assert trace.time_ns[0] == 0
    driver = (trace.call != TORCH) & (trace.result == OK)
    change = np.where(trace.op == MALLOC, trace.bytes, -trace.bytes) * driver
    assert int(np.cumsum(change).max()) == int(trace.facts["peak_reserved_bytes"])


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_blocks_lie_apart_in_recorded_segments(name: str) -> None:
    """The recording itself is sound: no block overlaps another, and each is in a segment."""
    trace = read_allocations(FOLDER / name)
    size = {int(h): int(b) for h, b, op in zip(trace.handle, trace.bytes, trace.op, strict=True)
            if op == MALLOC}  # fmt: skip
    blocks: dict[int, int] = {}
    for op, call, handle, address in zip(
        *(v.tolist() for v in (trace.op, trace.call, trace.handle, trace.address)), strict=True
    ):
        if call != TORCH or address < 0 or op == FREE_REQUEST:
            continue
        if op == MALLOC:
            assert address not in blocks
            blocks[address] = size[handle]
        elif op == FREE:
            assert blocks.pop(address) == size[handle]
    alive = sorted(blocks.items())
    assert all(a + s <= b for (a, s), (b, _) in itertools.pairwise(alive))


def test_the_settings_matter_for_a_peak_to_be_equal() -> None:
    """The comparison can fail: PyTorch's defaults in every run's place give other peaks."""
    differs = 0
    for name in RECORDINGS:
        trace = read_allocations(FOLDER / name)
        events = events_of(trace, name)
        other = CachingAllocator(DeviceMemory())
        found = replay(events, other, limited=False).peak_reserved_bytes
        differs += found != int(trace.facts["peak_reserved_bytes"])
    assert differs > 0


def test_private_pools_matter_for_what_is_reserved_to_be_equal() -> None:
    """The comparison can fail: with every pool a common one, the graphs' program reserves less."""
    name = "graphs-default.arrow"
    trace, _, run, _ = replayed(name)
    assert trace.pool is not None
    assert set(trace.pool.tolist()) == {0, 1, 2, 3}  # two of the four graphs have one together
    common = events_of(replace(trace, pool=None), name)
    other = CachingAllocator(DeviceMemory(recorded=common.recorded_segments))
    found = replay(common, other, limited=False).peak_reserved_bytes
    assert found < run.peak_reserved_bytes == int(trace.facts["peak_reserved_bytes"])


def test_pools_of_dropped_graphs_go_back_and_those_of_others_stay() -> None:
    """Two of the four graphs are dropped, one with its result; the other's result keeps 2 MiB."""
    _, events, run, allocator = replayed("graphs-default.arrow")
    released = events.op == RELEASE
    assert len(set(events.stream[released].tolist())) == released.sum() == 2
    assert len(events.private) == 3
    left = [block.pool.stream for _, _, blocks in allocator.segments() for block in blocks]
    assert set(left) & set(events.private) == set(events.private) - {events.stream[released][0]}
    assert run.reserved_bytes[-1] == int(
        read_allocations(FOLDER / "graphs-default.arrow").facts["reserved_bytes"]
    )


@pytest.mark.parametrize(
    "program", ["train", "mlp", "lengths", "growing_kv", "graphs", "callables"]
)
def test_a_run_with_expandable_segments_is_foretold_by_one_without(program: str) -> None:
    """To the byte, from the calls of another process; with several streams it depends on time."""
    trace = read_allocations(FOLDER / f"{program}-default.arrow")
    events = events_of(trace, program)
    device_bytes = int(trace.facts["device_bytes"])
    other = Caching(model="expandable").make(Memory(device_bytes, (), events.private))
    found = replay(events, other, limited=False).peak_reserved_bytes
    run = read_allocations(FOLDER / f"{program}-expandable.arrow")
    assert found == int(run.facts["peak_reserved_bytes"])
