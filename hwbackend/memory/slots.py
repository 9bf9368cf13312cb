"""Slots: the page slots of several tiers in one address range, numbered through all tiers."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.device import Device
from vsim.hwbackend.cuda.held import Held, do_all
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Event
from vsim.hwbackend.memory.chunks import Chunk, ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.hwbackend.memory.recovery import retry_after_draining


@dataclass(frozen=True, slots=True)
class TierSlots:
    """Slots of one tier.

    Args:
        name: the tier's.
        place: where they are.
        slots: how many.
    """

    name: str
    place: Place
    slots: int


def bytes_needed(slot_bytes: int, tiers: Sequence[TierSlots], chunk_bytes: int) -> dict[Place, int]:
    """Physical memory that `Slots` takes of each place."""
    needed: dict[Place, int] = {}
    for tier in tiers:
        chunks = -(-tier.slots * slot_bytes // chunk_bytes)
        needed[tier.place] = needed.get(tier.place, 0) + chunks * chunk_bytes
    return needed


class Slots(Held):
    """Page slots in one range: where a page is follows from its slot's number. Holds the memory.

    A tier begins at a multiple of both the chunk and the slot, so that kernels reach every page by
    one base and a number of slots, its `unit`.

    Args:
        slot_bytes: of a page.
        tiers: in the order of their slots' numbers.
        chunk_bytes: of the chunks under them.
        readers: GPUs that read and write them.
    """

    def __init__(
        self,
        slot_bytes: int,
        tiers: Sequence[TierSlots],
        chunk_bytes: int,
        readers: Sequence[Device],
    ) -> None:
        self.slot_bytes = slot_bytes
        self.tiers = tuple(tiers)
        step = math.lcm(slot_bytes, chunk_bytes)
        begin_bytes, begin_slot = [0], [0]
        for tier in self.tiers:
            begin_bytes.append(begin_bytes[-1] + -(-tier.slots * slot_bytes // step) * step)
            begin_slot.append(begin_slot[-1] + tier.slots)
        self._first_slot = np.array(begin_slot, np.int64)
        self._first_unit = np.array(begin_bytes, np.int64) // slot_bytes
        self._chunk_bytes = chunk_bytes
        self._pools = {
            place: ChunkPool(place, chunk_bytes)
            for place in dict.fromkeys(tier.place for tier in self.tiers)
        }
        with ExitStack() as undo:
            self._range = AddressRange(
                max(begin_bytes[-1], chunk_bytes) // chunk_bytes, chunk_bytes, readers
            )
            undo.push(self)
            for tier, begin in zip(self.tiers, begin_bytes, strict=False):
                self._fill(tier, begin // chunk_bytes)
            undo.pop_all()
        self.base = self._range.base

    def __len__(self) -> int:
        return int(self._first_slot[-1])

    def first_slot(self, tier: str) -> int:
        """The number of a tier's first slot."""
        names = [each.name for each in self.tiers]
        return int(self._first_slot[names.index(tier)])

    def tier_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tier of each slot, by its number in `tiers`.

        Raises:
            IndexError: there is no such slot; no kernel would notice.
        """
        if slots.size and not (slots.min() >= 0 and slots.max() < len(self)):
            found = f"{int(slots.min())} to {int(slots.max())}"
            raise IndexError(f"slots {found} are not all among the {len(self)} there are")
        return np.searchsorted(self._first_slot, slots, side="right") - 1

    def units(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Distances from the base in slots: what a block table holds."""
        tier = self.tier_of(slots)
        return slots - self._first_slot[tier] + self._first_unit[tier]

    def addresses(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each slot begins."""
        return self.base + self.units(slots) * self.slot_bytes

    def take_chunk(self, place: Place) -> Chunk:
        """Take a chunk to fill and to put under a slot by `swap_chunk`; a page is one chunk."""
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = ChunkPool(place, self._chunk_bytes)
        return retry_after_draining(pool.take, self._pools.values())

    def give_chunk(self, chunk: Chunk) -> None:
        """Give a chunk back that is under no slot."""
        self._pools[chunk.place].give(chunk)

    def swap_chunk(self, slot: int, chunk: Chunk, after: Event | None) -> Chunk:
        """Put another chunk under a slot, whose address stays; returns the old one.

        Args:
            slot: which, where a slot is as large as a chunk.
            chunk: with the page's bytes.
            after: the end of everything that uses the old one.
        """
        if self.slot_bytes != self._chunk_bytes:
            sizes = f"{self.slot_bytes:,} bytes in chunks of {self._chunk_bytes:,}"
            raise ValueError(f"slots of {sizes} can't be mapped one by one")
        index = int(self.units(np.array([slot], np.int64))[0])
        return self._range.remap(index, chunk, after)

    def close(self) -> None:
        """Give everything back. Nothing may use it any more."""
        do_all([self._range.close, *(pool.close for pool in self._pools.values())])

    def _fill(self, tier: TierSlots, at: int) -> None:
        """Put chunks under a tier's slots."""
        pool = self._pools[tier.place]
        count = -(-tier.slots * self.slot_bytes // self._chunk_bytes)
        if count == 0:
            return
        chunks = retry_after_draining(lambda: pool.take_all(count), self._pools.values())
        self._range.map(at, chunks)
