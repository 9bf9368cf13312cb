"""KV caches as allocators: a handle is a sequence, its bytes are the KV of its tokens so far.

static:  a sequence takes the KV of its longest possible length when it comes
         (Yu et al., Orca, OSDI 2022; FasterTransformer)
paged:   it takes as many blocks as its tokens need; blocks lie anywhere
         (Kwon et al., PagedAttention, SOSP 2023, section 4)
ranges:  it has a range of addresses for its longest possible length, and chunks are mapped
         under it as it grows; chunks of finished sequences are kept for the next
         (Prabhu et al., vAttention, ASPLOS 2025, section 5)
"""

from abc import ABC, abstractmethod

from vsim.sim.allocators.device import PAGE_BYTES, DeviceMemory


class KvCache(ABC):
    """What the three share; state: the units that each sequence holds, and those kept free.

    Args:
        device: where memory is taken from.
        unit_bytes: what a sequence's bytes are rounded up to.
        most_bytes: the longest sequence's bytes; a longer one fails.
        all_at_once: whether a sequence takes its longest length when it comes.
    """

    def __init__(
        self, device: DeviceMemory, unit_bytes: int, most_bytes: int | None, *, all_at_once: bool
    ) -> None:
        self.device = device
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self.unit_bytes = unit_bytes
        self._most = most_bytes
        self._all_at_once = all_at_once
        self._held: dict[int, int] = {}  # units, by handle
        self._spare = 0  # units

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`."""
        units = self._units(size)
        if units is None or not self._take(units):
            return False
        self._begin(units)
        self._held[handle] = units
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`; what was held is kept for the next sequence."""
        units = self._held.pop(handle)
        self._end(units)
        self._spare += units
        self.allocated_bytes -= units * self.unit_bytes

    def grow(self, old: int, new: int, old_size: int, size: int, stream: int) -> bool:
        """See `Allocator.grow`; nothing is ever copied."""
        units = self._units(size)
        if units is None:
            return False
        more = max(0, units - self._held[old])
        if not self._take(more):
            return False
        if more:
            self._begin(more)
        self._held[new] = self._held.pop(old) + more
        return True

    def trim(self) -> None:
        """Give back what no sequence holds."""
        self._give_back(self._spare)
        self.reserved_bytes -= self._spare * self.unit_bytes
        self._spare = 0

    def _units(self, size: int) -> int | None:
        if self._most is not None and size > self._most:
            return None
        if self._all_at_once:
            assert self._most is not None  # a static cache has a longest sequence
            size = self._most
        return -(-size // self.unit_bytes)

    def _take(self, units: int) -> bool:
        missing = max(0, units - self._spare)
        if missing and not self._make(missing):
            return False
        self._spare += missing - units
        self.reserved_bytes += missing * self.unit_bytes
        self.allocated_bytes += units * self.unit_bytes
        return True

    @abstractmethod
    def _make(self, units: int) -> bool:
        """Take units from the device; False where memory is out."""

    def _begin(self, units: int) -> None:  # noqa: B027 - most have nothing to do then
        """A sequence has come to hold units."""

    def _end(self, units: int) -> None:  # noqa: B027 - as above
        """A sequence no longer holds them."""

    @abstractmethod
    def _give_back(self, units: int) -> None:
        """Give units back to the device."""


class StaticKv(KvCache):
    """One run of memory a sequence, of the longest length; state: as its base.

    Args:
        device: where memory is taken from.
        most_bytes: KV of the longest sequence.
    """

    def __init__(self, device: DeviceMemory, most_bytes: int) -> None:
        super().__init__(device, most_bytes, most_bytes, all_at_once=True)

    def _make(self, units: int) -> bool:
        return all(self.device.malloc(self.unit_bytes) >= 0 for _ in range(units))

    def _give_back(self, units: int) -> None:
        for _ in range(units):
            self.device.free(self.unit_bytes)


class PagedKv(KvCache):
    """Blocks of a fixed number of tokens; state: as its base.

    Blocks are parts of one pool that an engine takes once, so no call of the driver is counted.
    What is reserved is the blocks that were ever used at once.

    Args:
        device: where memory is taken from.
        block_bytes: KV of a block.
    """

    def __init__(self, device: DeviceMemory, block_bytes: int) -> None:
        super().__init__(device, block_bytes, None, all_at_once=False)

    def _make(self, units: int) -> bool:
        return self.device.extend_to(self.reserved_bytes + units * self.unit_bytes)

    def _give_back(self, units: int) -> None:
        self.device.extend_to(self.reserved_bytes - units * self.unit_bytes)


class RangesKv(KvCache):
    """Chunks mapped under a range of addresses a sequence; state: as its base.

    Args:
        device: where memory is taken from.
        chunk_bytes: size of a chunk, a multiple of 2 MiB.
        ranges: ranges that a sequence's bytes are spread over evenly: keys and values of each layer
            have one, and grow by a chunk each.
    """

    def __init__(
        self, device: DeviceMemory, chunk_bytes: int = PAGE_BYTES, ranges: int = 1
    ) -> None:
        super().__init__(device, chunk_bytes * ranges, None, all_at_once=False)
        self._chunk_bytes = chunk_bytes
        self._ranges = ranges

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`."""
        for _ in range(self._ranges):
            self.device.count("reserve", size // self._ranges)
        return super().malloc(handle, size, stream)

    def _make(self, units: int) -> bool:
        return self.device.create(self._chunk_bytes, units * self._ranges)

    def _begin(self, units: int) -> None:
        for _ in range(self._ranges):  # a call of set_access a range
            self.device.map(self._chunk_bytes, units)

    def _end(self, units: int) -> None:
        self.device.unmap(self._chunk_bytes, units * self._ranges)

    def _give_back(self, units: int) -> None:
        if units:
            self.device.release(self._chunk_bytes, units * self._ranges)
