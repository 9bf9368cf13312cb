"""Page copies on the fake driver: bytes that arrive, lists that launches are given."""

import ctypes

import numpy as np
import pytest
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.copies.pages import PAGES_A_LAUNCH, PageCopies, _Pages
from vsim.hwbackend.copies.trial import is_right
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.places import device_place, host_place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.memory.slots import Slots, TierSlots

CHUNK = 2 << 20


def play(name: str, grid: object, block: object, arguments: list[int]) -> None:
    """As pages.cu does it."""
    assert name == "copy_pages"
    given = _Pages.from_address(arguments[0])
    for at in range(given.pages):
        ctypes.memmove(given.target[at], given.source[at], given.words * 16)


def test_pages_arrive_by_engine_and_by_kernel(fake: Fake, context: Context, stream: Stream) -> None:
    fake.on_launch(play)
    tiers = [TierSlots("near", device_place(0), 90), TierSlots("far", host_place(0), 90)]
    with (
        Slots(65_536, tiers, CHUNK, [context.device]) as slots,
        PageCopies(context, 65_536) as copies,
    ):
        assert is_right(copies, slots, stream, 90)


def test_a_wrong_copy_is_noticed(fake: Fake, context: Context, stream: Stream) -> None:
    fake.on_launch(lambda *_: None)
    tiers = [TierSlots("near", device_place(0), 3), TierSlots("far", device_place(1), 3)]
    with (
        Slots(65_536, tiers, CHUNK, [context.device]) as slots,
        PageCopies(context, 65_536) as copies,
    ):
        assert not is_right(copies, slots, stream, 3)


def test_many_pages_take_several_launches_each_page_in_one(
    fake: Fake, context: Context, stream: Stream
) -> None:
    count = 2 * PAGES_A_LAUNCH + 7
    sources = np.arange(count, dtype=np.int64) * 32
    with PageCopies(context, 16) as copies:
        assert copies.by_kernel(stream, sources, sources[::-1] + 4096, blocks=5) == 3
        stream.synchronize()
    found: list[tuple[int, int]] = []
    for launch in fake.launches():
        assert launch.grid == (5, 1, 1)
        given = _Pages.from_buffer_copy(launch.arguments[0])
        assert given.words == 1
        found += [(given.source[at], given.target[at]) for at in range(given.pages)]
    assert found == list(zip(sources.tolist(), (sources[::-1] + 4096).tolist(), strict=True))


def test_neighbours_are_one_engine_copy(fake: Fake, context: Context, stream: Stream) -> None:
    tiers = [TierSlots("near", device_place(0), 8), TierSlots("far", device_place(1), 8)]
    with Slots(CHUNK, tiers, CHUNK, [context.device]) as slots, PageCopies(context, CHUNK) as made:
        begin = fake.call_count()
        order = np.array([0, 1, 2, 5, 6, 3], np.int64)
        assert made.by_engine(stream, slots.addresses(order), slots.addresses(8 + order)) == 3
        assert fake.calls_by_name(begin)["cuMemcpyAsync"] == 3
        stream.synchronize()


def test_pairs_that_do_not_fit_are_refused(fake: Fake, context: Context, stream: Stream) -> None:
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with PageCopies(context, 16) as copies:
        for move in (copies.by_engine, copies.by_kernel):
            with pytest.raises(ValueError, match="1 sources for 2 targets"):
                move(stream, one, two)
        with pytest.raises(ValueError, match="an address that is no multiple of 16"):
            copies.by_kernel(stream, one + 8, one)
        assert copies.by_kernel(stream, one[:0], one[:0]) == 0
    assert fake.launches() == []
