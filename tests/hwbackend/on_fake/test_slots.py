"""Where the slots of several tiers are, and what happens to those that do not exist."""

import numpy as np
import pytest
from tests.hwbackend.fake.control import Fake
from tests.hwbackend.on_fake.world import CHUNK, PLACES

from vsim.hwbackend.cuda.buffers import download, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import OutOfMemory
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.recovery import retry_after_draining
from vsim.hwbackend.memory.slots import Slots, TierSlots, bytes_needed


def tiers(*slots: int) -> list[TierSlots]:
    names = ("hbm", "peer", "host")
    return [TierSlots(*each) for each in zip(names, PLACES, slots, strict=True)]


@pytest.mark.parametrize("slot_bytes", [CHUNK // 4, CHUNK, 3 * CHUNK, 3 * CHUNK // 2, 163_840])
def test_every_slot_has_bytes_of_its_own_in_its_tiers_place(
    fake: Fake, context: Context, stream: Stream, slot_bytes: int
) -> None:
    wanted = tiers(5, 0, 3)
    with Slots(slot_bytes, wanted, CHUNK, [context.device]) as slots:
        addresses = slots.addresses(np.arange(8))
        for slot, address in enumerate(addresses.tolist()):
            fill(address, slot + 1, slot_bytes, stream)
        found = np.zeros(slot_bytes, np.uint8)
        for slot, address in enumerate(addresses.tolist()):
            assert (download(found, address, stream) == slot + 1).all()
        assert slots.tier_of(np.arange(8)).tolist() == [0] * 5 + [2] * 3
        assert (addresses == slots.base + slots.units(np.arange(8)) * slot_bytes).all()
        assert [slots.first_slot(name) for name in ("hbm", "peer", "host")] == [0, 5, 5]
        for place, needed in bytes_needed(slot_bytes, wanted, CHUNK).items():
            assert fake.used(str(place)) == needed
    assert all(fake.used(str(place)) == 0 for place in PLACES)


def test_slots_that_do_not_exist_have_no_address(fake: Fake, context: Context) -> None:
    with Slots(CHUNK, tiers(2, 1, 1), CHUNK, [context.device]) as slots:
        for wrong in (-1, 4):
            with pytest.raises(IndexError, match="are not all among the 4 there are"):
                slots.addresses(np.array([0, wrong]))
        assert slots.units(np.array([], np.int64)).tolist() == []


def test_a_swapped_chunk_is_under_the_same_address(
    fake: Fake, context: Context, stream: Stream
) -> None:
    with Slots(CHUNK, tiers(2, 1, 1), CHUNK, [context.device]) as slots, Event() as fence:
        before = slots.addresses(np.arange(4))
        fill(int(before[1]), 1, CHUNK, stream)
        fence.record(stream)
        old = slots.swap_chunk(1, slots.take_chunk(PLACES[2]), fence)
        assert old.place == PLACES[0]
        slots.give_chunk(old)
        assert (slots.addresses(np.arange(4)) == before).all()
        assert fake.used("host:0") == 2 * CHUNK
        assert not download(np.ones(64, np.uint8), int(before[1]), stream).any()


def test_slots_smaller_than_a_chunk_are_not_mapped_one_by_one(fake: Fake, context: Context) -> None:
    with Slots(CHUNK // 2, tiers(2, 1, 1), CHUNK, [context.device]) as slots:
        chunk = slots.take_chunk(PLACES[0])
        with pytest.raises(ValueError, match="can't be mapped one by one"):
            slots.swap_chunk(0, chunk, None)


def test_a_chunk_is_taken_back_once_and_only_where_it_is_from(fake: Fake) -> None:
    with ChunkPool(PLACES[0], CHUNK) as pool, ChunkPool(PLACES[0], CHUNK) as other:
        chunk = pool.take()
        with pytest.raises(ValueError, match="was not taken here"):
            other.give(chunk)
        pool.give(chunk)
        with pytest.raises(ValueError, match="was not taken here"):
            pool.give(chunk)
        assert pool.take() is chunk


def test_a_closed_pool_has_released_what_takers_still_have(fake: Fake) -> None:
    pool = ChunkPool(PLACES[0], CHUNK)
    chunk = pool.take()
    pool.close()
    assert fake.live() == {}
    pool.give(chunk)
    with pytest.raises(ValueError, match="is closed"):
        pool.take()


def test_what_nobody_uses_is_given_back_to_the_one_who_runs_out(fake: Fake) -> None:
    fake.limit("device:0", 3 * CHUNK)
    finished = []
    with ChunkPool(PLACES[0], CHUNK) as small, ChunkPool(PLACES[0], 2 * CHUNK) as large:
        small.prepare(2)
        pools = (small, large)
        chunk = retry_after_draining(large.take, pools, lambda: finished.append(True))
        assert (small.free_bytes, large.taken_bytes) == (0, 2 * CHUNK)
        assert finished == [True]
        with pytest.raises(OutOfMemory, match=r"held: device:0: 0 taken .*; device:0: 1 "):
            retry_after_draining(large.take, pools)
        large.give(chunk)


def test_what_could_not_be_given_back_stays_in_its_pool(fake: Fake) -> None:
    fake.limit("device:0", 3 * CHUNK)
    with ChunkPool(PLACES[0], CHUNK) as small, ChunkPool(PLACES[0], 2 * CHUNK) as large:
        small.prepare(3)
        fake.fail("cuMemRelease", 2)
        retry_after_draining(large.take, (small, large))
        assert (small.free_bytes, large.taken_bytes) == (CHUNK, 2 * CHUNK)
