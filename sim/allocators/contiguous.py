"""Contiguous allocation: every block is one run of addresses, by first fit or best fit.

Over one range, as a runtime that never moves and never maps has to do it:

    malloc(size):  the first hole from below that holds it (or the smallest); else at the top
    free(block):   merge with the holes beside it; a hole at the top lowers the top
    reserved:      up to the top, so the peak is the least memory that this placement needs

Over segments, as a pool above such a runtime does it: holes are within segments, a new segment is
taken where no hole is large enough, and one that is free again goes back.

Source: Knuth, The Art of Computer Programming 1, section 2.5 (first fit, best fit).
"""

from bisect import bisect_right, insort
from typing import Protocol

from vsim.sim.allocators.allocator import CopiesOnGrowth
from vsim.sim.allocators.device import PAGE_BYTES, DeviceMemory
from vsim.sim.allocators.holes import Fit, Holes


class HeapAllocator(CopiesOnGrowth):
    """Contiguous allocation over one range; state: its holes, blocks and top.

    Every call of the program is one of the runtime's: cudaMalloc or cudaFree.

    Args:
        device: whose memory is the range.
        fit: how a hole is chosen.
        alignment_bytes: what sizes are rounded up to.
    """

    def __init__(self, device: DeviceMemory, fit: Fit, alignment_bytes: int = 512) -> None:
        self.device = device
        self.allocated_bytes = 0
        self._holes = Holes(fit)
        self._blocks: dict[int, tuple[int, int]] = {}
        self._alignment = alignment_bytes
        self._top = 0

    @property
    def reserved_bytes(self) -> int:
        """Up to the top."""
        return self._top

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`; streams make no difference."""
        size += -size % self._alignment
        self.device.count("cudaMalloc", size)
        start = self._holes.take(size)
        if start < 0:
            if not self.device.extend_to(self._top + size):
                return False
            start = self._top
            self._top += size
        self._blocks[handle] = (start, size)
        self.allocated_bytes += size
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        start, size = self._blocks.pop(handle)
        self.allocated_bytes -= size
        self.device.count("cudaFree", size)
        start, size = self._holes.give(start, size)
        if start + size == self._top:
            self._holes.drop(start)
            self._top = start
            self.device.extend_to(start)

    def trim(self) -> None:
        """Nothing is cached."""

    def blocks(self) -> list[tuple[int, int]]:
        """Start and size of every block, for checks."""
        return sorted(self._blocks.values())


class SegmentSource(Protocol):
    """Where segments come from: the device, or a pool over it."""

    def malloc(self, size: int) -> int:
        """A segment's address; -1 where memory is out."""
        ...

    def free(self, size: int) -> None:
        """Take a segment back."""
        ...


class SegmentAllocator(CopiesOnGrowth):
    """Contiguous allocation within segments; state: segments, their holes and blocks.

    Args:
        device: whose peak is reported.
        fit: how a hole is chosen.
        segment_bytes: the least size of a segment, a multiple of 2 MiB.
        alignment_bytes: what sizes are rounded up to.
        source: where segments come from; None: the device.
    """

    def __init__(
        self,
        device: DeviceMemory,
        fit: Fit,
        segment_bytes: int = PAGE_BYTES,
        alignment_bytes: int = 512,
        source: SegmentSource | None = None,
    ) -> None:
        self.device = device
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self._source: SegmentSource = source or device
        self._holes = Holes(fit)
        self._blocks: dict[int, tuple[int, int]] = {}
        self._segments: list[int] = []  # addresses, ascending
        self._whole: dict[int, int] = {}  # their sizes
        self._least = segment_bytes
        self._alignment = alignment_bytes

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`; streams make no difference."""
        size += -size % self._alignment
        start = self._holes.take(size)
        if start < 0:
            whole = max(self._least, size + -size % PAGE_BYTES)
            start = self._source.malloc(whole)
            if start < 0:
                return False
            insort(self._segments, start)
            self._whole[start] = whole
            self.reserved_bytes += whole
            if whole > size:
                self._holes.give(start + size, whole - size, high=start + whole)
        self._blocks[handle] = (start, size)
        self.allocated_bytes += size
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        start, size = self._blocks.pop(handle)
        self.allocated_bytes -= size
        place = bisect_right(self._segments, start) - 1
        low = self._segments[place]
        whole = self._whole[low]
        start, size = self._holes.give(start, size, low, low + whole)
        if size == whole:
            self._holes.drop(start)
            del self._segments[place], self._whole[low]
            self.reserved_bytes -= whole
            self._source.free(whole)

    def trim(self) -> None:
        """Nothing that is free is kept."""

    def blocks(self) -> list[tuple[int, int]]:
        """Start and size of every block, for checks."""
        return sorted(self._blocks.values())
