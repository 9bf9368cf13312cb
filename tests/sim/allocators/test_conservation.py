"""Whatever a program does, its blocks never overlap and no byte is lost or there twice."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.allocators.allocator import Allocator
from vsim.sim.allocators.buddy import BuddyAllocator
from vsim.sim.allocators.caching import CachingAllocator
from vsim.sim.allocators.contiguous import HeapAllocator, SegmentAllocator
from vsim.sim.allocators.device import MIB, DeviceMemory
from vsim.sim.allocators.expandable import ExpandableAllocator
from vsim.sim.allocators.kv_caches import PagedKv, RangesKv, StaticKv
from vsim.sim.allocators.preload import PreloadAllocator
from vsim.sim.allocators.vmm_pool import VmmPoolAllocator

from .test_twins import STEPS, layout

MODELS: dict[str, Callable[[DeviceMemory], Any]] = {
    "first fit": lambda device: HeapAllocator(device, "first"),
    "segments": lambda device: SegmentAllocator(device, "first", 4 * MIB),
    "buddy": lambda device: BuddyAllocator(device, 32 * MIB),
    "pool": VmmPoolAllocator,
    "pool of three classes": lambda device: VmmPoolAllocator(device, (2 * MIB, 8 * MIB, 32 * MIB)),
    "preload": PreloadAllocator,
    "preload with a small pool": lambda device: PreloadAllocator(device, 6 * MIB, asked_to_pass=2),
    "caching": CachingAllocator,
    "expandable": ExpandableAllocator,
    "kv static": lambda device: StaticKv(device, 64 * MIB),
    "kv paged": lambda device: PagedKv(device, 3 * MIB),
    "kv ranges": lambda device: RangesKv(device, 2 * MIB, 3),
}


def places(allocator: Any) -> list[tuple[int, int]]:
    """Where blocks lie, of those models that give them addresses."""
    if isinstance(allocator, CachingAllocator):
        return [(at, size) for at, size, state in layout(allocator) if state == "used"]
    return allocator.blocks() if hasattr(allocator, "blocks") else []


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=examples(15), deadline=None)
@given(STEPS, st.sampled_from([None, 96 * MIB]))
def test_blocks_are_apart_and_bytes_add_up(
    name: str, steps: list[tuple[bool, int, int, int]], capacity: int | None
) -> None:
    device = DeviceMemory(capacity)
    allocator: Allocator = MODELS[name](device)
    live: dict[int, int] = {}
    for handle, (frees, size, stream, which) in enumerate(steps):
        if frees and live:
            chosen = list(live)[which % len(live)]
            if which % 3 or name == "kv static":
                allocator.free(chosen)
                del live[chosen]
            elif allocator.grow(chosen, handle, live[chosen], live[chosen] + size, stream):
                live[handle] = live.pop(chosen) + size
        elif allocator.malloc(handle, size, stream):
            live[handle] = size
        at = 0
        for start, length in places(allocator):
            assert start >= at
            at = start + length
        assert sum(live.values()) <= allocator.allocated_bytes <= allocator.reserved_bytes
        assert allocator.reserved_bytes == device.used_bytes <= device.peak_bytes
        assert capacity is None or device.peak_bytes <= capacity
    for handle in live:
        allocator.free(handle)
    allocator.trim()
    assert allocator.allocated_bytes == allocator.reserved_bytes == device.used_bytes == 0


@settings(max_examples=examples(15), deadline=None)
@given(STEPS)
def test_the_pool_s_chunks_are_those_that_were_made_and_not_released(
    steps: list[tuple[bool, int, int, int]],
) -> None:
    device = DeviceMemory()
    pool = VmmPoolAllocator(device, (2 * MIB, 16 * MIB))
    live: list[int] = []
    for handle, (frees, size, stream, which) in enumerate(steps):
        size += 2 * MIB  # slabs have chunks of their own
        if frees and live:
            pool.free(live.pop(which % len(live)))
        elif pool.malloc(handle, size, stream):
            live.append(handle)
        for chunk, count in pool.chunks().items():
            made = sum(c[2] * n for c, n in device.calls.items() if c[:2] == ("create", chunk))
            gone = sum(c[2] * n for c, n in device.calls.items() if c[:2] == ("release", chunk))
            assert count == made - gone


def test_buddy_blocks_are_powers_of_two_and_come_together_again() -> None:
    """2^k requests of the least size fill an arena of 2^(k + 9) bytes; freed, it is whole."""
    allocator = BuddyAllocator(DeviceMemory(), 4 * MIB)
    count = 4 * MIB // 512
    for handle in range(count):
        assert allocator.malloc(handle, 1 + handle % 512, 0)
    assert allocator.reserved_bytes == allocator.allocated_bytes == 4 * MIB
    assert allocator.free_blocks() == []
    for handle in sorted(range(count), key=lambda h: h * 7919 % count):
        allocator.free(handle)
    assert allocator.free_blocks() == [(0, 4 * MIB)]


def test_buddy_takes_a_smaller_arena_where_memory_is_short_of_one() -> None:
    allocator = BuddyAllocator(DeviceMemory(14 * MIB), 8 * MIB)
    assert allocator.malloc(0, 5 * MIB, 0)  # an arena of 8
    assert allocator.malloc(1, 3 * MIB, 0)  # 6 are left: an arena of 4
    assert not allocator.malloc(2, 3 * MIB, 0)
    assert allocator.malloc(3, MIB, 0)  # and one of 2
    assert allocator.reserved_bytes == 14 * MIB


def test_buddy_wastes_just_below_half_at_worst() -> None:
    allocator = BuddyAllocator(DeviceMemory(), 4 * MIB)
    allocator.malloc(0, MIB + 1, 0)
    assert allocator.allocated_bytes == 2 * MIB
    assert allocator.free_blocks() == [(2 * MIB, 2 * MIB)]


def test_first_fit_takes_the_lowest_hole_and_best_fit_the_smallest() -> None:
    for fit, wanted in (("first", 0), ("best", 6 * MIB)):
        heap = HeapAllocator(DeviceMemory(), fit)  # type: ignore[arg-type] # both are fits
        for handle, size in enumerate((4, 2, 3, 2)):  # holes of 4 at 0 and of 3 at 6
            heap.malloc(handle, size * MIB, 0)
        heap.free(0)
        heap.free(2)
        heap.malloc(9, 3 * MIB, 0)
        assert (wanted, 3 * MIB) in heap.blocks()


def test_a_heap_fails_with_memory_to_spare_where_a_pool_of_chunks_does_not() -> None:
    """Blocks of 2 and 6 MiB by turns fill 80; then 60 are free, in holes of 6."""
    found = {}
    for name, make in (("heap", MODELS["first fit"]), ("pool", MODELS["pool"])):
        allocator = make(DeviceMemory(80 * MIB))
        for at in range(10):
            allocator.malloc(2 * at, 2 * MIB, 0)
            allocator.malloc(2 * at + 1, 6 * MIB, 0)
        for at in range(10):
            allocator.free(2 * at + 1)
        found[name] = allocator.malloc(99, 40 * MIB, 0)
    assert found == {"heap": False, "pool": True}


def test_a_pool_uses_a_freed_range_again_without_a_call() -> None:
    device = DeviceMemory()
    pool = VmmPoolAllocator(device)
    pool.malloc(0, 30 * MIB, 0)
    pool.free(0)
    before = sum(device.calls.values())
    pool.malloc(1, 29 * MIB + 1, 0)
    assert sum(device.calls.values()) == before
    pool.free(1)
    pool.malloc(2, 40 * MIB, 0)  # its 15 chunks and 5 new ones
    assert device.calls["unmap", 2 * MIB, 15] == 1
    assert device.calls["create", 2 * MIB, 5] == 1


def test_a_pool_grows_without_a_copy_by_the_chunks_that_are_missing() -> None:
    device = DeviceMemory()
    pool = VmmPoolAllocator(device)
    pool.malloc(0, 64 * MIB, 0)
    assert pool.grow(0, 1, 64 * MIB, 65 * MIB, 0)
    assert device.calls["create", 2 * MIB, 1] == 1
    assert not any(call[0] == "copy" for call in device.calls)
    assert device.peak_bytes == 66 * MIB


def test_kv_takes_what_its_way_of_giving_room_says() -> None:
    """Three sequences of 5, 1 and 9 MiB that may grow to 32, one of which grows to 6 MiB."""
    wanted = {"static": 3 * 32, "paged": 6 + 2 + 10, "ranges": 8 + 4 + 12}
    made = {
        "static": StaticKv(DeviceMemory(), 32 * MIB),
        "paged": PagedKv(DeviceMemory(), 2 * MIB),
        "ranges": RangesKv(DeviceMemory(), 2 * MIB, 2),  # keys and values: 4 MiB at once
    }
    for name, cache in made.items():
        for handle, size in enumerate((5, 1, 9)):
            assert cache.malloc(handle, size * MIB, 0)
        assert cache.grow(0, 3, 5 * MIB, 6 * MIB, 0)
        assert cache.reserved_bytes == wanted[name] * MIB, name
        assert not any(call[0] == "copy" for call in cache.device.calls)
    assert not made["static"].malloc(4, 33 * MIB, 0)
