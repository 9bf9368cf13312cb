"""Chunks: a program's own chunks of virtual memory, which live while held or mapped."""

from collections import Counter


class Chunks:
    """Follows a program's chunks by the driver's handles; state: handles held, and what is mapped.

    A chunk is given back by its last release or by the last unmap after it, whichever comes later.
    NCCL takes a second handle of a chunk to give both back, and many programs release the handle
    of a chunk as soon as it is mapped.
    """

    def __init__(self) -> None:
        self._held: Counter[int] = Counter()
        self._mapped: dict[int, tuple[int, int]] = {}  # by start: end and handle
        self._maps: Counter[int] = Counter()

    def created(self, handle: int) -> None:
        """A chunk is there, with one handle."""
        self._held[handle] = 1

    def retained(self, handle: int) -> None:
        """The program took another handle of a chunk; nothing of one that it did not make."""
        if self._held[handle] or self._maps[handle]:
            self._held[handle] += 1

    def released(self, handle: int) -> bool | None:
        """A handle was given back: whether the chunk is gone; None where it is not known."""
        if not self._held[handle]:
            return None
        self._held[handle] -= 1
        return not self._held[handle] and not self._maps[handle]

    def mapped(self, start: int, size: int, handle: int) -> None:
        """A chunk was mapped; one that the program did not make is not followed."""
        if self._held[handle] or self._maps[handle]:
            self._mapped[start] = start + size, handle
            self._maps[handle] += 1

    def unmapped(self, start: int, size: int) -> list[int]:
        """A range was unmapped: the handles of chunks that are gone with it."""
        whole = self._mapped.get(start, (0, 0))[0] == start + size  # mostly: no need to search
        lows = [start] if whole else [at for at in self._mapped if start <= at < start + size]
        gone = []
        for low in lows:
            _, handle = self._mapped.pop(low)
            self._maps[handle] -= 1
            if not self._held[handle] and not self._maps[handle]:
                gone.append(handle)
        return gone
