"""The preload library's allocator: its rules by hand, and two programs on an H200 foretold.

`reports/preload` holds what they did there: `blocks.arrow` and `beyond.arrow` are recordings
without the library, which run out of memory, and `h200.json` says what they did under it.
`tests/hwbackend/preload/test_predicting.py` holds the model to the library itself.
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from vsim.sim.allocators.contiguous import SegmentAllocator
from vsim.sim.allocators.device import MIB, DeviceMemory
from vsim.sim.allocators.events import Events, events_of, gone_on
from vsim.sim.allocators.preload import PreloadAllocator, is_slabbed
from vsim.sim.allocators.replay import AllocatorRun, replay
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.vmm import vmm_cost_ns
from vsim.traces.allocations import read_allocations
from vsim.traces.faults import InputError

REPORT = Path(__file__).parents[3] / "reports/preload"
DEVICE_BYTES = 149_557_477_376
"""What cudaMemGetInfo calls free on that H200 when a program begins (`free_before`)."""
KIB, GIB = 2**10, 2**30


def measured(name: str, mode: str) -> dict[str, Any]:
    parts = json.loads((REPORT / "h200.json").read_text())["memory"]
    (found,) = (part for part in parts if (part["name"], part["mode"]) == (name, mode))
    return dict(found)


def recorded(name: str, *, again: int) -> Events:
    file = REPORT / f"{name}.arrow"
    return gone_on(events_of(read_allocations(file), str(file)), again, str(file))


def calls(run: AllocatorRun, name: str) -> int:
    return sum(number * call[2] for call, number in run.calls.items() if call[0] == name)


@pytest.mark.parametrize(
    ("size", "slabbed"),
    [
        (MIB, True),  # half a granule of 2 MiB
        (MIB + 1, True),  # 2 MiB less an eighth are 1.75
        (7 * MIB // 4, False),
        (7 * MIB // 4 - 1, True),
        (5 * MIB, True),  # 6 MiB less an eighth are 5.25
        (21 * MIB // 4, False),
        (16 * MIB + 1, False),  # above 16 none is
    ],
)
def test_blocks_share_slabs_where_granules_would_leave_an_eighth_unused(
    size: int, slabbed: bool
) -> None:
    assert is_slabbed(size) == slabbed


def test_slabs_are_a_quarter_of_all_slabs_from_2_to_32_mib() -> None:
    device = DeviceMemory()
    allocator = PreloadAllocator(device)
    for handle in range(400):
        assert allocator.malloc(handle, MIB, 0)
    # A new one whenever all are full, a quarter of them: up to 8 MiB in all it is of 2; of 10 MiB a
    # quarter is 2.5, which goes up to 4, of 14 it is 3.5, of 18 it is 4.5, which goes up to 6.
    sizes, total = [], 0
    while total < 400:
        sizes.append(max(2, min(32, -(-total // 8) * 2)))
        total += sizes[-1]
    made = {size: number * count for (name, size, count), number in device.calls.items()
            if name == "create"}  # fmt: skip
    assert sizes[:8] == [2, 2, 2, 2, 2, 4, 4, 6]
    assert made == {size * MIB: sizes.count(size) for size in set(sizes)}
    assert allocator.reserved_bytes == sum(sizes) * MIB


def test_large_blocks_take_pooled_chunks_largest_first_and_one_new_one() -> None:
    device = DeviceMemory()
    allocator = PreloadAllocator(device, 64 * MIB)
    for handle, size in enumerate((8, 8, 40)):
        allocator.malloc(handle, size * MIB, 0)
    for handle in (0, 1, 2):
        allocator.free(handle)
    allocator.trim()
    assert allocator.reserved_bytes == 0  # what is unused goes when asked
    for handle, size in enumerate((8, 8, 40)):
        allocator.malloc(handle, size * MIB, 0)
    for handle in (0, 1, 2):
        allocator.free(handle)  # 56 MiB wait behind no fence yet
    device.calls.clear()
    assert allocator.malloc(3, 60 * MIB, 0)
    # They come back as mapped spans of 8, 8 and 40, which no block of 60 can use: a new chunk.
    assert device.calls["create", 60 * MIB, 1] == 1
    assert allocator.reserved_bytes == 116 * MIB


def test_unused_spans_and_pooled_chunks_share_one_limit() -> None:
    allocator = PreloadAllocator(DeviceMemory(), 16 * MIB)
    for handle in range(10):
        allocator.malloc(handle, 8 * MIB, 0)
    for handle in range(10):
        allocator.free(handle)
    allocator.malloc(10, 2 * MIB, 0)  # all fences have been passed
    assert allocator.reserved_bytes == 16 * MIB + 2 * MIB


def test_what_is_short_of_memory_takes_unused_spans_apart_and_then_gives_chunks_back() -> None:
    device = DeviceMemory(100 * MIB)
    allocator = PreloadAllocator(device, 100 * MIB)
    allocator.malloc(0, 80 * MIB, 0)
    allocator.free(0)
    assert allocator.malloc(1, 90 * MIB, 0)  # the chunk of 80, and a new one of 10
    assert device.calls["create", 10 * MIB, 1] == 1
    assert device.calls["release", 80 * MIB, 1] == 0
    allocator.free(1)
    assert allocator.malloc(2, 40 * MIB, 0)  # 10 of the pool and 30 new ones: 80 has to go
    assert device.calls["release", 80 * MIB, 1] == 1
    assert allocator.malloc(3, 60 * MIB, 0)
    assert not allocator.malloc(4, 2 * MIB, 0)


def test_blocks_go_to_a_peer_and_then_to_the_host_and_slabs_with_them() -> None:
    peer, host = DeviceMemory(20 * MIB), DeviceMemory()
    device = DeviceMemory(10 * MIB, beside={"peer": peer, "host": host})
    allocator = PreloadAllocator(device)
    for handle, size in enumerate((10 * MIB, 16 * MIB, 8 * MIB, 100 * KIB)):
        assert allocator.malloc(handle, size, 0)
    assert (device.used_bytes, peer.used_bytes, host.used_bytes) == (
        10 * MIB, 18 * MIB, 8 * MIB,  # a slab of 2 beside the block of 16
    )  # fmt: skip
    assert allocator.reserved_bytes == 36 * MIB


def test_growth_maps_what_is_missing_and_moves_to_twice_the_addresses() -> None:
    device = DeviceMemory()
    allocator = PreloadAllocator(device)
    allocator.malloc(0, 4 * MIB, 0)
    assert allocator.grow(0, 1, 4 * MIB, 8 * MIB, 0)  # beyond its addresses: both are mapped anew
    assert device.calls["map", 4 * MIB, 1] == 3
    assert allocator.grow(1, 2, 8 * MIB, 16 * MIB, 0)  # there are 16 now
    assert device.calls["map", 8 * MIB, 1] == 1
    assert device.calls["unmap", 4 * MIB, 1] == 1
    assert not any(name == "copy" for name, _, _ in device.calls)
    assert allocator.grow(2, 3, 16 * MIB, 5 * MIB, 0)  # chunks of 4 and 4 hold 5; 8 goes
    assert allocator.allocated_bytes == 8 * MIB


def test_blocks_of_1_1_mib_run_out_at_half_the_device_without_the_library() -> None:
    events = recorded("blocks", again=2)
    run = replay(events, SegmentAllocator(DeviceMemory(DEVICE_BYTES), "best"), limited=True)
    # 149,557,477,376 bytes are 71,314 granules of 2 MiB; the first one holds the program's 8 bytes
    # beside a block, as the driver's does (64 blocks of a byte above 1 MiB take 63: `granules`).
    assert run.first_failure is not None
    found = measured("blocks of 1.1 MiB, 75 %", "record")["balance"]
    assert found["live_bytes"] == 82_254_838_850
    assert run.first_failure.live_bytes == found["live_bytes"] + 1_153_434  # a block too late
    assert run.first_failure.reserved_bytes == 71_314 * 2 * MIB


def test_the_library_holds_all_blocks_of_1_1_mib_in_as_many_slabs_as_foretold() -> None:
    under = measured("blocks of 1.1 MiB, 75 %", "manage")
    more = under["said"]["blocks"] - measured("blocks of 1.1 MiB, 75 %", "record")["said"]["blocks"]
    events = recorded("blocks", again=more)
    # Of the device's memory, and not of what is free of it, the pool may keep a quarter.
    allocator = PreloadAllocator(DeviceMemory(DEVICE_BYTES), under["said"]["total"] // 4)
    run = replay(events, allocator, limited=True)
    assert (run.failures, more) == (0, 26_294)
    assert int(run.live_bytes[-1]) == under["balance"]["peak_bytes"] == 112_583_232_446
    assert calls(run, "create") == under["did"]["create"] == 3378
    assert sum(n for call, n in run.calls.items() if call[0] == "reserve") == under["did"]["gather"]
    # 0.3 % more than the blocks, where granules of 2 MiB take 82 % more.
    assert run.peak_reserved_bytes == under["reserved"]["device"] == 112_967_286_784
    for handle in [*events.handle[1:].tolist(), 0]:  # at its end it frees them in their order
        allocator.free(handle)
    gone = sum(n for call, n in allocator.device.calls.items() if call[0] == "release")
    assert gone == under["did"]["trim"] == 2248


def test_8_gib_beyond_the_device_run_out_without_the_library_and_spill_with_it() -> None:
    under = measured("8 GiB beyond the device", "manage")
    plain = measured("8 GiB beyond the device", "record")
    more = under["said"]["blocks"] - plain["said"]["blocks"]
    events = recorded("beyond", again=more)
    run = replay(events, SegmentAllocator(DeviceMemory(DEVICE_BYTES), "best"), limited=True)
    assert run.first_failure is not None
    assert run.first_failure.live_bytes == plain["balance"]["live_bytes"] == 139 * GIB + 8
    assert run.failures == more == 9
    host = DeviceMemory()
    allocator = PreloadAllocator(DeviceMemory(DEVICE_BYTES, beside={"host": host}))
    run = replay(events, allocator, limited=True)
    assert run.failures == 0
    assert run.beside_bytes == {"host": under["balance"]["spilled_bytes"]} == {"host": 9 * GIB}
    assert run.peak_reserved_bytes == under["reserved"]["device"] == 139 * GIB + 2 * MIB
    assert under["did"]["spill"] == 9
    assert calls(run, "create") == under["did"]["create"] == 149


def test_a_recording_goes_on_only_where_its_last_call_failed() -> None:
    events = recorded("beyond", again=3)
    assert len(events) == 141 + 2
    assert events.row[-3:].tolist() == [140, 141, 142]
    assert len(set(events.handle[-3:].tolist())) == 3
    with pytest.raises(InputError, match="does not end with a call that ran out of memory"):
        gone_on(events, 2, "made.arrow")


def test_chunks_of_host_memory_are_made_in_the_time_of_the_machine_file() -> None:
    """Nine of 1 GiB, made again on another H200; the first ones take 1.5 times as long."""
    parts = json.loads((REPORT / "h200.json").read_text())["host"]
    runs = [part["said"]["us"] for part in parts if part["name"].endswith("of 1024 MiB")]
    again = [rounds[0] / 1e6 for run in runs for rounds in run[1:]]
    rows = load_machine("h200-measured").vmm
    predicted = 9 * vmm_cost_ns(rows, "host", "create", GIB) / 1e9
    assert predicted == pytest.approx(median(again), rel=0.05)
    assert 1.4 < runs[0][0][0] / 1e6 / median(again) < 1.6
