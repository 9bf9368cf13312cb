"""DeviceMemory: what an allocator takes from the driver, and how often it called for it."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final, Literal

MIB: Final = 2**20
PAGE_BYTES: Final = 2 * MIB
"""The device's granularity: physical memory is given in multiples of it."""

Call = tuple[str, int, int]
"""A driver call: its name, the bytes of one piece, and the number of pieces side by side."""

Outside = Literal["peer", "host"]
"""Memory that a GPU reaches over a link."""


class DeviceMemory:
    """Physical memory of one GPU; state: what is taken, the peak of it, and the calls so far.

    Addresses never come again, so they only order what was taken. Where a recording says which ones
    the driver gave, those are given again, in turn, to segments of the same size.

    Args:
        capacity_bytes: what there is; None for no end.
        recorded: sizes and addresses of a recording's segments, in order.
        beside: other memories that blocks may be placed in, the nearest first.
    """

    def __init__(
        self,
        capacity_bytes: int | None = None,
        recorded: Iterable[tuple[int, int]] = (),
        beside: "Mapping[Outside, DeviceMemory] | None" = None,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.beside = dict(beside or {})
        self.used_bytes = 0
        self.peak_bytes = 0
        self.calls: Counter[Call] = Counter()
        self._recorded = deque(recorded)
        self._top = max((address + size for size, address in self._recorded), default=0)
        self._top += -self._top % PAGE_BYTES + PAGE_BYTES

    def malloc(self, size: int) -> int:
        """Take a segment as cudaMalloc does: its address, -1 where memory is out."""
        self.calls["cudaMalloc", size, 1] += 1
        if not self._take(size):
            return -1
        if self._recorded and self._recorded[0][0] == size:
            return self._recorded.popleft()[1]
        return self.reserve(size)

    def free(self, size: int) -> None:
        """Give a segment back."""
        self.calls["cudaFree", size, 1] += 1
        self.used_bytes -= size

    def reserve(self, size: int) -> int:
        """Take a range of addresses with nothing under it."""
        address = self._top
        self._top += size + (-size % PAGE_BYTES)
        return address

    def create(self, chunk_bytes: int, chunks: int) -> bool:
        """Make physical chunks, all or none; False where memory is out."""
        if self._fits(chunk_bytes * chunks):
            self._take(chunk_bytes * chunks)
            self.calls["create", chunk_bytes, chunks] += 1
            return True
        self.calls["create", chunk_bytes, 1] += 1  # the first that fails; the rest is not tried
        return False

    def map(self, chunk_bytes: int, chunks: int) -> None:
        """Put chunks under addresses side by side and allow their use, with one call for all."""
        self.calls["map", chunk_bytes, chunks] += 1
        self.calls["set_access", chunk_bytes, chunks] += 1

    def unmap(self, chunk_bytes: int, chunks: int) -> None:
        """Take chunks from their addresses; they stay physical memory."""
        self.calls["unmap", chunk_bytes, chunks] += 1

    def release(self, chunk_bytes: int, chunks: int) -> None:
        """Give physical chunks back."""
        self.calls["release", chunk_bytes, chunks] += 1
        self.used_bytes -= chunk_bytes * chunks

    def extend_to(self, size: int) -> bool:
        """Have one range from address 0 that is `size` bytes long; False where memory is out."""
        if self.capacity_bytes is not None and size > max(self.capacity_bytes, self.used_bytes):
            return False
        self.used_bytes = size
        self.peak_bytes = max(self.peak_bytes, size)
        return True

    def count(self, name: str, size: int) -> None:
        """Count a call that takes or gives no memory of its own."""
        self.calls[name, size, 1] += 1

    def copy(self, size: int) -> None:
        """Count a copy within the device: what growth costs where nothing can be mapped."""
        self.calls["copy", size, 1] += 1

    def _fits(self, size: int) -> bool:
        return self.capacity_bytes is None or self.used_bytes + size <= self.capacity_bytes

    def _take(self, size: int) -> bool:
        if not self._fits(size):
            return False
        self.used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return True
