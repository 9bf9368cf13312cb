"""FreeBlocks: free blocks of one pool in order of size, then of address, for best fit."""

from bisect import bisect_left, insort
from collections.abc import Iterator

_SHIFT = 64


class FreeBlocks:
    """Sizes and addresses of free blocks, each packed into one number; state: the sorted list.

    Finding is a binary search; adding and removing move the part of the list behind the place, 8
    bytes a block, which up to some ten thousand free blocks is the least of it.
    """

    __slots__ = ("keys",)

    def __init__(self) -> None:
        self.keys: list[int] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, size: int, address: int) -> None:
        """Add a block."""
        insort(self.keys, size << _SHIFT | address)

    def remove(self, size: int, address: int) -> None:
        """Remove a block that is there."""
        del self.keys[bisect_left(self.keys, size << _SHIFT | address)]

    def at_least(self, size: int) -> int:
        """The place of the smallest block of `size` bytes or more; of equals the lowest address."""
        return bisect_left(self.keys, size << _SHIFT)

    def address(self, place: int) -> int:
        """The address of the block at a place."""
        return self.keys[place] & (1 << _SHIFT) - 1

    def size(self, place: int) -> int:
        """The size of the block at a place."""
        return self.keys[place] >> _SHIFT

    def addresses(self) -> Iterator[int]:
        """All blocks' addresses, by size; the list may be changed meanwhile."""
        return (key & (1 << _SHIFT) - 1 for key in list(self.keys))
