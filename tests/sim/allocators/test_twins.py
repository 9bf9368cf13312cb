"""Every allocator does what its plain twin does: the same blocks at the same addresses, always."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.allocators.buddy import BuddyAllocator
from vsim.sim.allocators.caching import CachingAllocator, CachingOptions
from vsim.sim.allocators.contiguous import HeapAllocator
from vsim.sim.allocators.device import DeviceMemory
from vsim.sim.allocators.expandable import ExpandableAllocator

from .plain import MIB, PlainBuddy, PlainCaching, PlainExpandable, PlainHeap

SIZES = st.one_of(
    st.integers(1, 3000),
    st.integers(1, 3 * MIB),
    st.integers(1, 60 * MIB),
    st.sampled_from([512, 513, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB, 20 * MIB]),
)
STEPS = st.lists(
    st.tuples(st.booleans(), SIZES, st.integers(0, 1), st.integers(0, 30)), max_size=60
)
_ = settings(max_examples=examples(40), deadline=None)


def drive(
    one: Any, two: Any, steps: list[tuple[bool, int, int, int]], check: Callable[[], None]
) -> None:
    """Do the same with both; answers agree, and so does what `check` looks at after every step."""
    live: list[int] = []
    for handle, (frees, size, stream, which) in enumerate(steps):
        if frees and live:
            gone = live.pop(which % len(live))
            one.free(gone)
            two.free(gone)
        elif frees and which == 7:
            one.trim()
            two.release_whole() if hasattr(two, "release_whole") else None
        else:
            made = one.malloc(handle, size, stream)
            assert made == two.malloc(handle, size, stream)
            if made:
                live.append(handle)
        assert one.reserved_bytes == two.reserved
        check()


def layout(allocator: CachingAllocator) -> list[tuple[int, int, str]]:
    blocks = [b for _, _, blocks in allocator.segments() for b in blocks if b.mapped]
    return sorted((b.address, b.size, "free" if b.free else "used") for b in blocks)


@pytest.mark.parametrize("max_split", [None, 32 * MIB])
@settings(_)
@given(STEPS, st.sampled_from([None, 64 * MIB, 150 * MIB]))
def test_the_caching_allocator(
    max_split: int | None, steps: list[tuple[bool, int, int, int]], capacity: int | None
) -> None:
    one = CachingAllocator(DeviceMemory(capacity), CachingOptions(max_split_bytes=max_split))
    two = PlainCaching(capacity, max_split, top=one.device.reserve(0))
    drive(one, two, steps, lambda: _equal(layout(one), two.layout()))


@settings(_)
@given(STEPS, st.sampled_from([None, 64 * MIB, 150 * MIB]))
# a second range is reserved, and nothing mapped in it: it stays when memory is given back
@example(
    [(False, 40 * MIB + 1, 1, 0), (True, 1, 0, 0), (False, 1, 0, 0), (False, MIB + 1, 0, 0)],
    64 * MIB,
)
def test_expandable_segments(steps: list[tuple[bool, int, int, int]], capacity: int | None) -> None:
    one = ExpandableAllocator(DeviceMemory(capacity))
    two = PlainExpandable(capacity, top=one.device.reserve(0))
    drive(one, two, steps, lambda: _equal(layout(one), two.layout()))


@pytest.mark.parametrize("fit", ["first", "best"])
@settings(_)
@given(STEPS, st.sampled_from([None, 64 * MIB]))
def test_a_contiguous_heap(
    fit: Any, steps: list[tuple[bool, int, int, int]], capacity: int | None
) -> None:
    one, two = HeapAllocator(DeviceMemory(capacity), fit), PlainHeap(fit, capacity)
    drive(one, two, steps, lambda: _equal(one.blocks(), two.layout()))


@settings(_)
@given(STEPS)
def test_the_buddy_system(steps: list[tuple[bool, int, int, int]]) -> None:
    one, two = BuddyAllocator(DeviceMemory(), 64 * MIB), PlainBuddy(64 * MIB)
    steps = [(frees, size, stream, which % 7) for frees, size, stream, which in steps]

    def same() -> None:
        _equal(one.blocks(), two.layout())
        _equal(one.free_blocks(), two.free_blocks())

    drive(one, two, steps, same)


def _equal(one: object, two: object) -> None:
    assert one == two
