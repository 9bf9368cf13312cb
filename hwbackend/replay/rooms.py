"""Where pages are on the devices, and what moving one means: paged or mapped."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.device import Device
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.memory.chunks import Chunk, ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange
from vsim.hwbackend.memory.slots import Slots, TierSlots
from vsim.sim.engine.backend import StepBatch

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


class PageRoom(Protocol):
    """Slots of all tiers, and how kernels reach them. Holds their memory until `close`."""

    base: int
    slot_bytes: int

    @property
    def mapped(self) -> int:
        """Pages that were put under an address since the start."""
        ...

    @property
    def mapped_ns(self) -> int:
        """How long that took."""
        ...

    def units(self, batch: StepBatch) -> Int32s:
        """Where each page of a batch is for its kernels: its distance from the base, in slots.

        No step is under way.
        """
        ...

    def addresses(self, slots: Int64s) -> Int64s:
        """Where each slot's page is for copies."""
        ...

    def extents(self) -> list[tuple[int, int]]:
        """Where all pages lie: addresses and bytes."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


class PagedRoom:
    """A page moves into a slot of another tier; block tables change. Holds memory.

    Args:
        page_bytes: of a page.
        tiers: slots by tier, numbered as the engine numbers them.
        chunk_bytes: of the chunks under them.
        readers: GPUs that use them.
    """

    def __init__(
        self,
        page_bytes: int,
        tiers: Sequence[TierSlots],
        chunk_bytes: int,
        readers: Sequence[Device],
    ) -> None:
        self._slots = Slots(page_bytes, tiers, chunk_bytes, readers)
        self.base, self.slot_bytes = self._slots.base, page_bytes
        self.mapped = self.mapped_ns = 0

    def units(self, batch: StepBatch) -> Int32s:
        """See PageRoom."""
        return self._slots.units(batch.indices.astype(np.int64)).astype(np.int32)

    def addresses(self, slots: Int64s) -> Int64s:
        """See PageRoom."""
        return self._slots.addresses(slots)

    def extents(self) -> list[tuple[int, int]]:
        """See PageRoom."""
        found = []
        for tier in self._slots.tiers:
            if tier.slots:
                first = self._slots.first_slot(tier.name)
                begin = int(self._slots.addresses(np.array([first], np.int64))[0])
                found.append((begin, tier.slots * self.slot_bytes))
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._slots.close()


class MappedRoom:
    """A page keeps its address when it moves: another chunk comes under it. Holds memory.

    Each slot is one chunk. All chunks lie in the order of the slots in one range, through which
    pages are copied. Kernels read a second range, in which each request of the batch has addresses
    for all of its pages, side by side. Before a step, each address gets the chunk in which its page
    is now, if that has changed: the page is new, was moved, or is shared with another request.

    Args:
        page_bytes: of a page, which is one chunk.
        tiers: slots by tier.
        readers: GPUs that use them.
        requests: in a batch at most.
        pages: of a request at most.
    """

    def __init__(
        self,
        page_bytes: int,
        tiers: Sequence[TierSlots],
        readers: Sequence[Device],
        *,
        requests: int,
        pages: int,
    ) -> None:
        self.slot_bytes = page_bytes
        self.mapped = self.mapped_ns = 0
        self._pages = pages
        self._pools: dict[Place, ChunkPool] = {}
        self._chunks: list[Chunk] = []
        self._ranges: list[AddressRange] = []
        self._area: dict[int, int] = {}  # of each request, those used last at the end
        self._free = list(range(requests))
        self._under = np.full(requests * pages, -1, np.int64)  # slot under each address
        with ExitStack() as undo:
            undo.callback(self.close)
            for tier in tiers:
                pool = self._pools.setdefault(tier.place, ChunkPool(tier.place, page_bytes))
                self._chunks += [pool.take() for _ in range(tier.slots)]
            self._ranges.append(AddressRange(max(len(self._chunks), 1), page_bytes, readers))
            if self._chunks:
                self._ranges[0].map(0, self._chunks)
            self._ranges.append(AddressRange(requests * pages, page_bytes, readers))
            undo.pop_all()
        self.base = self._ranges[1].base

    def units(self, batch: StepBatch) -> Int32s:
        """See PageRoom."""
        counts = np.diff(batch.indptr).astype(np.int64)
        first = np.array([self._area_of(row) for row in self._used_last(batch)]) * self._pages
        units = np.arange(len(batch.indices)) + np.repeat(first - batch.indptr[:-1], counts)
        slots = batch.indices.astype(np.int64)
        began = time.perf_counter_ns()
        changed = np.flatnonzero(self._under[units] != slots)
        for unit, slot in zip(units[changed].tolist(), slots[changed].tolist(), strict=True):
            if self._under[unit] >= 0:
                self._ranges[1].remap(unit, self._chunks[slot], None)
            else:
                self._ranges[1].map(unit, [self._chunks[slot]])
            self._under[unit] = slot
        if len(changed):
            self.mapped += len(changed)
            self.mapped_ns += time.perf_counter_ns() - began
        return units.astype(np.int32)

    def addresses(self, slots: Int64s) -> Int64s:
        """See PageRoom; the addresses through which pages are copied never change."""
        return self._ranges[0].base + slots * self.slot_bytes

    def extents(self) -> list[tuple[int, int]]:
        """See PageRoom."""
        size = len(self._chunks) * self.slot_bytes
        return [(self._ranges[0].base, size)] if size else []

    def close(self) -> None:
        """Give the memory back. A second time does nothing."""
        ranges, self._ranges = self._ranges, []
        for each in reversed(ranges):
            each.close()
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            self._pools[chunk.place].give(chunk)
        for pool in self._pools.values():
            pool.close()

    def _used_last(self, batch: StepBatch) -> list[int]:
        """The batch's requests; those that have addresses are put behind all others."""
        rows: list[int] = batch.rows.tolist()
        for row in rows:
            if row in self._area:
                self._area[row] = self._area.pop(row)
        return rows

    def _area_of(self, row: int) -> int:
        """Where a request's addresses are; it gets those of one that was not there for longest."""
        if row not in self._area:
            if not self._free:
                self._free.append(self._area.pop(next(iter(self._area))))
            self._area[row] = self._free.pop()
        return self._area[row]
