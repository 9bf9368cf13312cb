"""Buddy allocation: blocks of powers of two, split in halves and merged with their other half.

    malloc(size):  k = the least power of two that holds it (512 bytes at least)
                   the smallest free block of 2^k or more, of equals the lowest; else a new arena
                   halve it down to 2^k; the upper halves are free
    free(block):   while the other half (address xor size) is free: merge
    trim:          arenas that are free go back; also where memory is out, before a call fails
    an arena is halved until memory holds it, down to what is asked for

Source: Knowlton, "A fast storage allocator", CACM 8(10), 1965; Knuth, TAOCP 1, section 2.5,
algorithms R and S.
"""

from bisect import bisect_left, insort
from typing import Final

from vsim.sim.allocators.allocator import CopiesOnGrowth
from vsim.sim.allocators.device import DeviceMemory

LEAST_ORDER: Final = 9  # 512 bytes
PAGE_ORDER: Final = 21  # 2 MiB, the least arena


class BuddyAllocator(CopiesOnGrowth):
    """The buddy system over arenas from cudaMalloc; state: free blocks by order, and arenas.

    An arena is numbered from a multiple of its own size, so that a block's other half differs from
    it in one bit of the address; the driver's address does not matter.

    Args:
        device: where arenas are taken from.
        arena_bytes: size of an arena, a power of two; a larger request gets one of its own size.
    """

    def __init__(self, device: DeviceMemory, arena_bytes: int = 1 << 30) -> None:
        self.device = device
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self._arena_order = arena_bytes.bit_length() - 1
        self._free: dict[int, list[int]] = {}  # by order, ascending
        self._blocks: dict[int, tuple[int, int]] = {}  # address and order, by handle
        self._arenas: dict[int, int] = {}  # order, by address
        self._top = 0

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`; streams make no difference."""
        order = max(LEAST_ORDER, (size - 1).bit_length())
        found = self._smallest(order)
        if found < 0:
            found = self._new_arena(max(order, PAGE_ORDER))
            if found < 0:
                return False
        address = self._free[found].pop(0)
        while found > order:
            found -= 1
            self._add(found, address + (1 << found))
        self._blocks[handle] = (address, order)
        self.allocated_bytes += 1 << order
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        address, order = self._blocks.pop(handle)
        self.allocated_bytes -= 1 << order
        while self._arenas.get(address) != order:
            other = address ^ (1 << order)
            free = self._free.get(order, [])
            place = bisect_left(free, other)
            if place == len(free) or free[place] != other:
                break
            del free[place]
            address = min(address, other)
            order += 1
        self._add(order, address)

    def trim(self) -> None:
        """Give back the arenas that nothing is in."""
        for address, order in list(self._arenas.items()):
            free = self._free.get(order, [])
            place = bisect_left(free, address)
            if place < len(free) and free[place] == address:
                del free[place], self._arenas[address]
                self.reserved_bytes -= 1 << order
                self.device.free(1 << order)

    def blocks(self) -> list[tuple[int, int]]:
        """Start and size of every block, for checks."""
        return sorted((address, 1 << order) for address, order in self._blocks.values())

    def free_blocks(self) -> list[tuple[int, int]]:
        """Start and size of every free block, for checks."""
        return sorted((at, 1 << order) for order, free in self._free.items() for at in free)

    def _smallest(self, order: int) -> int:
        """The least order from `order` up that has a free block; -1 where none has."""
        return min((k for k, free in self._free.items() if k >= order and free), default=-1)

    def _new_arena(self, least: int) -> int:
        """Take an arena, a smaller one where memory is short of it; its order, -1 where none is."""
        for _ in range(2):
            for order in range(max(least, self._arena_order), least - 1, -1):
                if self.device.malloc(1 << order) >= 0:
                    self._hold(order)
                    return order
            self.trim()
        return -1

    def _hold(self, order: int) -> None:
        address = -(-self._top >> order) << order
        self._top = address + (1 << order)
        self._arenas[address] = order
        self.reserved_bytes += 1 << order
        self._add(order, address)

    def _add(self, order: int, address: int) -> None:
        insort(self._free.setdefault(order, []), address)
