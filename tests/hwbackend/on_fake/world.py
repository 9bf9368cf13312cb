"""World: memory in use on the fake driver, and a model of what is where and holds which bytes."""

from typing import TypeVar

import numpy as np
from tests.hwbackend.fake.control import Fake

from vsim.hwbackend.cuda.buffers import download, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import Held, do_all
from vsim.hwbackend.cuda.places import device_place, host_place
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.chunks import Chunk, ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.hwbackend.memory.slots import Slots, TierSlots

Holds = TypeVar("Holds", bound=Held)
CHUNK = 2 << 20
PLACES = (device_place(0), device_place(1), host_place(0))
ENDS = 64  # bytes looked at, at both ends of a page
TIERS = tuple(
    TierSlots(name, place, slots)
    for name, place, slots in zip(("hbm", "peer", "host"), PLACES, (3, 2, 2), strict=True)
)


class World(Held):
    """Three pages mapped, one free index between them, a written spare chunk, slots of 3 tiers.

    `pages` and `slot_bytes` say which byte each page holds (None: any); `taken` how many chunks of
    each place somebody has. Operations change them after they have been done, so that after one
    that failed `check` compares with what was before.
    """

    def __init__(self, fake: Fake, *, with_slots: bool = False) -> None:
        self.fake = fake
        self.held: list[Held] = []
        self.context = self.hold(Context(0))
        self.stream = self.hold(Stream())
        self.fence = self.hold(Event())
        self.pools = {place: self.hold(ChunkPool(place, CHUNK)) for place in PLACES}
        self.range = self.hold(AddressRange(8, CHUNK, [self.context.device]))
        self.pages: dict[int, int | None] = {}
        self.taken = dict.fromkeys(PLACES, 0)
        self.slots: Slots | None = None
        self.slot_bytes: dict[int, int | None] = {}
        self.fresh: list[Chunk] = []
        for at, place in zip((0, 1, 3), PLACES, strict=True):
            self.range.map(at, [self.take(place)])
            self.write(at, at + 1)
        self.spare = self.take(PLACES[1])
        self.range.map(7, [self.spare])
        self.write(7, 9)
        self.range.unmap(7, 1, None)
        del self.pages[7]
        if with_slots:
            self.slots = self.hold(Slots(CHUNK, TIERS, CHUNK, [self.context.device]))
            for slot, address in enumerate(self.slots.addresses(np.arange(7))):
                self._fill(int(address), slot + 20)
                self.slot_bytes[slot] = slot + 20
        self.fence.record(self.stream)

    def hold(self, made: Holds) -> Holds:
        """Close something at the end, in reverse order; each time that the world is closed."""
        self.held.append(made)
        return made

    def close(self) -> None:
        do_all([each.close for each in reversed(self.held)])

    def take(self, place: object) -> Chunk:
        chunk = self.pools[place].take()  # type: ignore[index]
        self.taken[chunk.place] += 1
        return chunk

    def write(self, at: int, byte: int) -> None:
        self._fill(self.range.address(at), byte)
        self.pages[at] = byte

    def check(self) -> None:
        """Compare everything with the model."""
        assert {at for at in range(8) if self.range.chunk(at) is not None} == set(self.pages)
        for at, byte in self.pages.items():
            self._must_hold(self.range.address(at), byte)
        for place, pool in self.pools.items():
            assert pool.taken_bytes == self.taken[place] * CHUNK, place
        if self.slots is not None:
            for slot, byte in self.slot_bytes.items():
                self._must_hold(int(self.slots.addresses(np.array([slot]))[0]), byte)
        live = self.fake.live()
        assert live["mapping"] == len(self.pages) + len(self.slot_bytes)
        held = sum(pool.taken_bytes + pool.free_bytes for pool in self.pools.values()) // CHUNK
        assert live["chunk"] - held == self.chunks_of_slots()

    def chunks_of_slots(self) -> int:
        if self.slots is None:
            return 0
        pools = self.slots._pools.values()
        return sum(pool.taken_bytes + pool.free_bytes for pool in pools) // CHUNK

    def _fill(self, address: int, byte: int) -> None:
        for at in (address, address + CHUNK - ENDS):
            fill(at, byte, ENDS, self.stream)
        self.stream.synchronize()

    def _must_hold(self, address: int, byte: int | None) -> None:
        if byte is None:  # nobody has written there yet
            return
        found = np.zeros(ENDS, np.uint8)
        for at in (address, address + CHUNK - ENDS):
            assert (download(found, at, self.stream) == byte).all()
