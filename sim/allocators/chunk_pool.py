"""ChunkPool: physical chunks of any size in one place, those that nobody has kept for the next."""

from bisect import bisect_right, insort
from collections.abc import Iterable
from itertools import groupby

from vsim.sim.allocators.device import PAGE_BYTES, DeviceMemory

_WORTH_A_CALL = 32
"""A pooled chunk of less than this part of a block is left for others: every chunk costs a call."""


class ChunkPool:
    """Chunks of one place; state: the sizes of those that are free.

    Args:
        memory: where they are made.
        keep_bytes: what is kept free at most; None: everything.
        knows_room: whether the driver says how much of the memory is left before it is tried.
    """

    def __init__(
        self, memory: DeviceMemory, keep_bytes: int | None, *, knows_room: bool = False
    ) -> None:
        self.memory = memory
        self.keep_bytes = keep_bytes
        self.free_bytes = 0
        self._free: list[int] = []  # ascending
        self._knows_room = knows_room

    def take(self, size: int, *, at_all_costs: bool) -> list[int] | None:
        """Chunks of `size` bytes together, pooled ones first; None where memory is out.

        Args:
            size: a multiple of the granularity.
            at_all_costs: take however small ones, and new ones in pieces.
        """
        taken: list[int] = []
        lacking, least = size, 0 if at_all_costs else size // _WORTH_A_CALL
        while lacking > 0:
            at = bisect_right(self._free, lacking) - 1
            if at < 0 or self._free[at] < least:
                break
            taken.append(self._free.pop(at))
            self.free_bytes -= taken[-1]
            lacking -= taken[-1]
        if at_all_costs and self._knows_room and not self._has_room(lacking):
            self.give_back(taken)
            return None
        piece = lacking
        while lacking > 0:
            wanted = min(piece, lacking)
            if self.memory.create(wanted, 1):
                taken.append(wanted)
                lacking -= wanted
            elif at_all_costs and piece > PAGE_BYTES:
                piece = piece // 2 + -(piece // 2) % PAGE_BYTES
            else:
                self.give_back(taken)
                return None
        return taken

    def give_back(self, chunks: Iterable[int], kept_elsewhere: int = 0) -> None:
        """Pool chunks; what is then above the limit goes, the largest first.

        Args:
            chunks: their sizes.
            kept_elsewhere: bytes that are kept unused in another way and count too.
        """
        for chunk in chunks:
            insort(self._free, chunk)
            self.free_bytes += chunk
        if self.keep_bytes is not None:
            self.release_down_to(max(self.keep_bytes - kept_elsewhere, 0))

    def release_down_to(self, keep: int) -> None:
        """Give chunks back to the driver, the largest first."""
        while self.free_bytes > keep:
            chunk = self._free.pop()
            self.free_bytes -= chunk
            self.memory.release(chunk, 1)

    def map(self, chunks: Iterable[int]) -> None:
        """Put chunks under addresses side by side."""
        for chunk, same in groupby(chunks):
            self.memory.map(chunk, len(list(same)))

    def unmap(self, chunks: Iterable[int]) -> None:
        """Take chunks from their addresses."""
        for chunk, same in groupby(chunks):
            self.memory.unmap(chunk, len(list(same)))

    def _has_room(self, size: int) -> bool:
        most = self.memory.capacity_bytes
        return size == 0 or most is None or self.memory.used_bytes + size <= most
