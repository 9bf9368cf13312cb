"""Every operation on memory, failed at every call of the driver that it makes."""

import ctypes
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest
from tests.hwbackend.fake.control import INVALID_VALUE, OUT_OF_MEMORY, Fake
from tests.hwbackend.on_fake.world import CHUNK, PLACES, TIERS, World

from vsim.hwbackend.cuda.buffers import DeviceBuffer, PinnedBuffer, download, fill, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError, DeviceLost, OutOfMemory
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.hwbackend.memory.slots import Slots

OPERATING_SYSTEM = 304  # a failure that means nothing in particular
SIZED = {
    "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemRelease", "cuMemAlloc",
    "cuMemAddressReserve", "cuMemAddressFree", "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost",
    "cuMemcpyAsync", "cuMemsetD8Async", "cuModuleLoadData",
}  # fmt: skip


def take(world: World) -> None:
    world.take(PLACES[0])


def take_several(world: World) -> None:
    world.pools[PLACES[2]].take_all(3)
    world.taken[PLACES[2]] += 3


def prepare(world: World) -> None:
    world.pools[PLACES[1]].prepare(3)
    assert world.pools[PLACES[1]].free_bytes >= 3 * CHUNK


def drain(world: World) -> None:
    world.pools[PLACES[0]].drain()
    assert world.pools[PLACES[0]].free_bytes == 0


def map_several(world: World) -> None:
    world.range.map(4, world.fresh)
    world.pages.update(dict.fromkeys(range(4, 7)))


def grow(world: World) -> None:
    assert world.range.grow(world.fresh) == 4
    world.pages.update(dict.fromkeys(range(4, 7)))


def unmap(world: World) -> None:
    for chunk in world.range.unmap(0, 2, world.fence):
        world.pools[chunk.place].give(chunk)
        world.taken[chunk.place] -= 1
    del world.pages[0], world.pages[1]


def remap(world: World) -> None:
    old = world.range.remap(3, world.spare, world.fence)
    world.pools[old.place].give(old)
    world.taken[old.place] -= 1
    world.pages[3] = 9


def make_range(world: World) -> None:
    world.hold(AddressRange(4, CHUNK, [world.context.device]))


def make_slots(world: World) -> None:
    world.slots = world.hold(Slots(CHUNK, TIERS, CHUNK, [world.context.device]))
    world.slot_bytes = dict.fromkeys(range(7))


def swap_chunk(world: World) -> None:
    assert world.slots is not None
    fresh = world.slots.take_chunk(PLACES[1])
    try:
        old = world.slots.swap_chunk(0, fresh, world.fence)
    except BaseException:
        world.slots.give_chunk(fresh)
        raise
    world.slots.give_chunk(old)
    world.slot_bytes[0] = None


def close_slots(world: World) -> None:
    assert world.slots is not None
    world.slots.close()
    world.slots, world.slot_bytes = None, {}


def copy_up_and_down(world: World) -> None:
    buffer, pinned = world.hold(DeviceBuffer(4096)), world.hold(PinnedBuffer(4096))
    pinned.array(np.uint8)[:] = 5
    upload(buffer.address, pinned.array(np.uint8), world.stream)
    assert (download(np.zeros(4096, np.uint8), buffer.address, world.stream) == 5).all()
    buffer.close()
    pinned.close()


def graph(world: World) -> None:
    with capture(world.stream) as made:
        world.hold(made)
        fill(world.range.address(0), 1, 64, world.stream)
    made.launch(world.stream)
    world.stream.synchronize()
    made.close()


def launch(world: World) -> None:
    module = world.hold(Module(b"kernel work 8"))
    kernel = module.kernel("work")
    assert kernel.registers == 32
    kernel.allow_shared(100_000)
    assert kernel.blocks_at_once(128, 100_000) == 2
    arguments = [ctypes.c_uint64(world.range.base)]
    kernel.launch((1, 1, 1), (32, 1, 1), world.stream, arguments, 100_000)
    kernel.launch((1, 1, 1), (32, 1, 1), world.stream, arguments, programmatic=True)
    world.stream.synchronize()
    module.close()


def order_two_streams(world: World) -> None:
    other = world.hold(Stream())
    begin, end = world.hold(Event(timing=True)), world.hold(Event(timing=True))
    begin.record(world.stream)
    other.wait(begin)
    end.record(other)
    end.synchronize()
    assert begin.done()
    assert end.us_since(begin) >= 0
    for each in (other, begin, end):
        each.close()


def use_a_peer(world: World) -> None:
    other = world.hold(Context(1))
    assert other.free_bytes() > 0
    world.context.enable_peer(other)
    other.synchronize()
    other.close()
    assert world.context.free_bytes() > 0


@dataclass(frozen=True)
class Case:
    """An operation.

    Args:
        act: does it and changes the model.
        slots: whether it needs some.
        fresh: how many chunks it needs that nobody uses.
        free: how many free chunks each pool has.
        absorbed: calls whose failure is no error.
        makes: whether it makes something of several calls, which nobody has if one of them fails.
    """

    act: Callable[[World], None]
    slots: bool = False
    fresh: bool = False
    free: int = 0
    absorbed: frozenset[str] = frozenset()
    makes: bool = False


CASES = (
    Case(take),
    Case(take_several),
    Case(prepare),
    Case(drain, free=3),
    Case(map_several, fresh=True),
    Case(grow, fresh=True),
    Case(unmap),
    Case(remap),
    Case(make_range),
    Case(make_slots, makes=True),
    Case(swap_chunk, slots=True),
    Case(close_slots, slots=True),
    Case(copy_up_and_down),
    Case(graph),
    Case(launch),
    Case(order_two_streams),
    # What was current before a context is closed is asked for, and made so again, if it can be.
    Case(use_a_peer, absorbed=frozenset({"cuCtxGetCurrent", "cuCtxSetCurrent"}), makes=True),
)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.act.__name__)


def world_of(case: Case, fake: Fake) -> World:
    fake.reset()
    world = World(fake, with_slots=case.slots)
    if case.fresh:
        world.fresh = [world.take(place) for place in PLACES]
    for pool in world.pools.values():
        pool.prepare(case.free)
    world.check()
    return world


def calls_of(case: Case, fake: Fake) -> list[str]:
    """The calls it makes where nothing fails."""
    with world_of(case, fake) as world:
        begin = fake.call_count()
        case.act(world)
        calls = fake.calls(begin)
        world.check()
    assert fake.live() == {}
    assert calls
    return [name.removesuffix("WithFlags") for name in calls]  # cuGraphInstantiate has become that


def failure_of(case: Case, world: World) -> CudaError | None:
    """Do an operation; return how it failed."""
    try:
        case.act(world)
    except CudaError as error:
        return error
    return None


@each_case
@pytest.mark.parametrize("code", [OPERATING_SYSTEM, OUT_OF_MEMORY], ids=["error", "out_of_memory"])
def test_a_call_that_fails_changes_nothing_and_the_operation_works_again(
    fake: Fake, case: Case, code: int
) -> None:
    for at, name in enumerate(calls_of(case, fake)):
        with world_of(case, fake) as world:
            fake.fail("", at + 1, code)
            error = failure_of(case, world)
            assert fake.failures_left() == 0
            if error is None:
                retried = name == "cuMemCreate" and code == OUT_OF_MEMORY
                assert retried or name in case.absorbed, f"{name}, call {at}, went unnoticed"
            else:
                message = str(error)
                assert error.call == name
                assert isinstance(error, OutOfMemory) == (code == OUT_OF_MEMORY)
                assert name not in SIZED or re.search(r" of .*\b[\d,]+ bytes", message), message
                assert f"({code})" in message
                if case.act is not close_slots:  # which gave back what it could, and does the rest
                    world.check()
                case.act(world)
            world.check()
        assert fake.live() == {}, f"{name}, call {at}"
        assert fake.hazards() == 0


@each_case
def test_the_first_of_two_failures_is_raised_and_all_is_given_back(fake: Fake, case: Case) -> None:
    for at, name in enumerate(calls_of(case, fake)):
        world = world_of(case, fake)
        fake.fail("", at + 1, OPERATING_SYSTEM)
        fake.fail("", at + 2, INVALID_VALUE)
        error = failure_of(case, world)
        if name not in case.absorbed:
            assert error is not None
            assert (error.call, error.code) == (name, OPERATING_SYSTEM), f"{name}, call {at}"
        fake.heal()
        world.close()
        assert forgotten(fake, case) == {}, f"{name}, call {at}"
        fake.reset()


def forgotten(fake: Fake, case: Case) -> dict[str, int]:
    """What can't be given back, but for the one thing of an object that never came to be."""
    left = fake.live()
    return {} if case.makes and left in ({"range": 1}, {"context": 1}) else left


@each_case
def test_a_lost_device_is_said_and_closing_does_not_hide_it(fake: Fake, case: Case) -> None:
    for at, name in enumerate(calls_of(case, fake)):
        world = world_of(case, fake)
        fake.lose_device_at(at + 1)
        error = failure_of(case, world)
        if name not in case.absorbed:
            assert isinstance(error, DeviceLost)
            assert error.call == name
        with pytest.raises(DeviceLost) as caught, world:
            raise DeviceLost("cuWork", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")
        assert caught.value.call == "cuWork"
        assert "CUDA_ERROR_ILLEGAL_ADDRESS" in caught.value.__notes__[0]
        with pytest.raises(DeviceLost):
            world.context.synchronize()
        fake.heal()  # no device does that; here it shows that nothing was forgotten
        world.close()
        assert case.makes or fake.live() == {}, f"{name}, call {at}"
        fake.reset()


@pytest.mark.parametrize("slots", [False, True])
def test_closing_gives_back_all_but_what_the_call_that_fails_holds(fake: Fake, slots: bool) -> None:
    case = Case(take, slots=slots, free=2)
    world = world_of(case, fake)
    begin = fake.call_count()
    world.close()
    calls = fake.calls(begin)
    assert len(calls) > 15
    for at, name in enumerate(calls):
        world = world_of(case, fake)
        fake.fail("", at + 1, OPERATING_SYSTEM)
        if name in ("cuCtxGetCurrent", "cuCtxSetCurrent"):
            world.close()
        else:
            with pytest.raises(CudaError) as caught:
                world.close()
            assert caught.value.call == name
            assert not hasattr(caught.value, "__notes__"), "what can't work is not tried"
        left = fake.live()
        assert sum(left.values()) <= 3, (name, left)  # a mapping holds its chunk and its addresses
        fake.reset()


def test_running_out_says_what_is_held_where(fake: Fake) -> None:
    fake.limit("device:0", 5 * CHUNK)
    with ExitStack() as held:
        context = held.enter_context(Context(0))
        with pytest.raises(OutOfMemory) as caught:
            Slots(CHUNK, [*TIERS[1:], TIERS[0], TIERS[0]], CHUNK, [context.device])
    assert str(caught.value) == (
        "cuMemCreate of 2,097,152 bytes of device:0 (after 4,194,304 bytes were given back; held: "
        "device:1: 2 taken and 0 free chunks of 2,097,152 bytes; "
        "host:0: 2 taken and 0 free chunks of 2,097,152 bytes; "
        "device:0: 3 taken and 2 free chunks of 2,097,152 bytes) failed: "
        "CUDA_ERROR_OUT_OF_MEMORY (2)"
    )
