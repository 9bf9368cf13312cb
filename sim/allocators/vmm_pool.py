"""VMM pool: physical chunks of a few sizes, gathered under ranges of addresses wherever they are.

    malloc(size), small (below half a chunk): best fit in slabs of one smallest chunk, 256 bytes
    malloc(size), large:
        a range that was freed with just as many bytes is used again as it is
        else chunks from the pool, the largest class that fits first, then smaller ones; where the
            pool has too few bytes, freed ranges are taken apart, the oldest size first; what is
            still missing is made. Sizes are rounded up to the smallest class
        reserve a range, map them side by side, allow their use with one call a run of equal chunks
        when memory is out: all freed ranges are taken apart, free chunks go back, and again
    free(block): the range stays mapped until its chunks are wanted
    grow(block): map what is missing behind it; nothing is copied (a range is reserved with room)

A chunk can't be split once it is made, so one of a large class is no help to a small block.
Source: NVIDIA, "Introducing Low-Level GPU Virtual Memory Management" (2020); Guo et al., GMLake
(ASPLOS 2024), whose stitching this is without its splitting.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from vsim.sim.allocators.contiguous import SegmentAllocator
from vsim.sim.allocators.device import PAGE_BYTES, DeviceMemory

SLAB_ALIGNMENT_BYTES: Final = 256

_Chunks = dict[int, int]
"""Numbers of chunks by their size."""


class VmmPoolAllocator:
    """The pool; state: free chunks, mapped ranges in use, and mapped ranges that were freed.

    Args:
        device: where chunks are made.
        chunk_bytes: the classes, each a multiple of the one before and of 2 MiB.
    """

    def __init__(self, device: DeviceMemory, chunk_bytes: Iterable[int] = (PAGE_BYTES,)) -> None:
        self.device = device
        self.reserved_bytes = 0
        self._classes = sorted(chunk_bytes, reverse=True)
        self._least = self._classes[-1]
        self._pool: _Chunks = dict.fromkeys(self._classes, 0)
        self._ranges: dict[int, _Chunks] = {}  # in use, by handle
        self._idle: dict[int, list[_Chunks]] = defaultdict(list)  # freed, by bytes, mapped
        self._small: set[int] = set()
        self._large_bytes = 0
        self._slabs = SegmentAllocator(
            device, "best", self._least, SLAB_ALIGNMENT_BYTES, source=_Slabs(self)
        )

    @property
    def allocated_bytes(self) -> int:
        """What is handed out, rounded to 256 bytes or to chunks."""
        return self._large_bytes + self._slabs.allocated_bytes

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`; streams make no difference."""
        if size <= self._least // 2:
            if not self._slabs.malloc(handle, size, stream):
                return False
            self._small.add(handle)
            return True
        size += -size % self._least
        if self._idle[size]:
            chunks = self._idle[size].pop()
        else:
            gathered = self._gather(size)
            if gathered is None:
                return False
            chunks = gathered
            self.device.count("reserve", size)
            self._map(chunks)
        self._ranges[handle] = chunks
        self._large_bytes += size
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        if handle in self._small:
            self._small.discard(handle)
            self._slabs.free(handle)
            return
        chunks = self._ranges.pop(handle)
        size = _bytes(chunks)
        self._large_bytes -= size
        self._idle[size].append(chunks)

    def grow(self, old: int, new: int, old_size: int, size: int, stream: int) -> bool:
        """See `Allocator.grow`: only what leaves the slabs, or shrinks, is copied."""
        chunks = self._ranges.get(old)
        held = _bytes(chunks) if chunks is not None else 0
        if chunks is None or size <= held - self._least:
            if not self.malloc(new, size, stream):
                return False
            self.device.copy(min(old_size, size))
            self.free(old)
            return True
        missing = size + -size % self._least - held
        if missing > 0:
            more = self._gather(missing)
            if more is None:
                return False
            self._map(more)
            for each, count in more.items():
                chunks[each] = chunks.get(each, 0) + count
            self._large_bytes += missing
        self._ranges[new] = self._ranges.pop(old)
        return True

    def trim(self) -> None:
        """Take freed ranges apart and give all free chunks back."""
        for ranges in self._idle.values():
            while ranges:
                self._take_apart(ranges.pop())
        for each, count in self._pool.items():
            if count:
                self.device.release(each, count)
                self.reserved_bytes -= each * count
                self._pool[each] = 0

    def chunks(self) -> _Chunks:
        """Every chunk by size, free or not, for checks."""
        total = dict(self._pool)
        idle = [chunks for ranges in self._idle.values() for chunks in ranges]
        for chunks in [*self._ranges.values(), *idle]:
            for each, count in chunks.items():
                total[each] += count
        return total

    def _gather(self, size: int) -> _Chunks | None:
        """Chunks of `size` bytes together: from the pool, then from freed ranges, then new ones."""
        while self._pooled() < size and (first := next(filter(None, self._idle.values()), None)):
            self._take_apart(first.pop(0))
        taken = self._from_pool(size)
        if not self._make(taken, size - _bytes(taken)):
            for each, count in taken.items():
                self._pool[each] += count
            self.trim()
            taken = {}
            if not self._make(taken, size):
                for each, count in taken.items():
                    self._pool[each] += count
                self.trim()
                return None
        return taken

    def _from_pool(self, size: int) -> _Chunks:
        taken: _Chunks = {}
        for each in self._classes:
            count = min(self._pool[each], size // each)
            if count:
                taken[each] = count
                self._pool[each] -= count
                size -= each * count
        return taken

    def _make(self, taken: _Chunks, size: int) -> bool:
        """Make chunks for what is missing and add them to `taken`; False where memory is out."""
        for each in self._classes:
            count = size // each
            if count == 0:
                continue
            if not self.device.create(each, count):
                return False
            self.reserved_bytes += each * count
            taken[each] = taken.get(each, 0) + count
            size -= each * count
        return True

    def _pooled(self) -> int:
        return _bytes(self._pool)

    def _map(self, chunks: _Chunks) -> None:
        for each, count in chunks.items():
            self.device.map(each, count)

    def _take_apart(self, chunks: _Chunks) -> None:
        """Unmap a freed range; its chunks are free."""
        for each, count in chunks.items():
            self.device.unmap(each, count)
            self._pool[each] += count


class _Slabs:
    """Slabs of one smallest chunk each, for small blocks; state: the next address."""

    def __init__(self, pool: VmmPoolAllocator) -> None:
        self._pool = pool
        self._next = 0

    def malloc(self, size: int) -> int:
        pool = self._pool
        chunks = pool._gather(size)
        if chunks is None:
            return -1
        pool.device.count("reserve", size)
        pool._map(chunks)
        self._next += size
        return self._next - size

    def free(self, size: int) -> None:
        pool = self._pool
        pool.device.unmap(size, 1)
        pool._pool[size] += 1


def _bytes(chunks: _Chunks) -> int:
    return sum(each * count for each, count in chunks.items())
