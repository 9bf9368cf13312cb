"""Holes: free ranges of addresses, found by first fit or by best fit, merged with neighbours."""

from bisect import bisect_left, insort
from typing import Final, Literal

from vsim.sim.allocators.free_blocks import FreeBlocks

Fit = Literal["first", "best"]

_FEW: Final = 48
"""Candidates up to which the lowest is found among them; of more, a low one comes up soon."""


class Holes:
    """Free ranges that neither touch nor overlap; state: the ranges, by address and by size.

    Args:
        fit: `first` takes the lowest hole that is large enough, `best` the smallest, of equals the
            lowest.
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._starts: list[int] = []
        self._size: dict[int, int] = {}  # by start
        self._start: dict[int, int] = {}  # by end
        self._by_size = FreeBlocks()

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, size: int) -> int:
        """Take the front of a hole: its address; -1 where none is large enough."""
        place = self._by_size.at_least(size)
        count = len(self._by_size) - place
        if count == 0:
            return -1
        if self._fit == "best":
            start = self._by_size.address(place)
        elif count <= _FEW:
            start = min(self._by_size.address(place + at) for at in range(count))
        else:
            start = next(start for start in self._starts if self._size[start] >= size)
        whole = self._size[start]
        self._remove(start)
        if whole > size:
            self._add(start + size, whole - size)
        return start

    def give(self, start: int, size: int, low: int = -1, high: int = -1) -> tuple[int, int]:
        """Add a free range; the hole that it is then part of, as start and size.

        It does not merge across `low` and `high`, where the segment that it lies in begins and
        ends.
        """
        before = self._start.get(start) if start != low else None
        if before is not None:
            size += self._size[before]
            self._remove(before)
            start = before
        end = start + size
        if end != high and end in self._size:
            size += self._size[end]
            self._remove(end)
        self._add(start, size)
        return start, size

    def drop(self, start: int) -> None:
        """Forget the hole that begins at an address: its memory is gone."""
        self._remove(start)

    def _add(self, start: int, size: int) -> None:
        insort(self._starts, start)
        self._size[start] = size
        self._start[start + size] = start
        self._by_size.add(size, start)

    def _remove(self, start: int) -> None:
        del self._starts[bisect_left(self._starts, start)]
        size = self._size.pop(start)
        del self._start[start + size]
        self._by_size.remove(size, start)
