"""Chunk and ChunkPool: physical allocations of one place and one size, kept for the next taker."""

from dataclasses import dataclass
from typing import Any, Self

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.places import Place


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One physical allocation. It is nowhere in the address space until a range maps it.

    Args:
        handle: the driver's.
        place: where it is.
        bytes: its size.
    """

    handle: Any
    place: Place
    bytes: int


class ChunkPool:
    """Chunks of one place and one size. Holds those that nobody has, until `drain` or `close`.

    Creating a chunk of host memory takes from 0.1 ms to 0.4 s, one of a GPU's 10 to 200 us.

    Args:
        place: where.
        chunk_bytes: of each, a multiple of the place's granularity.
    """

    def __init__(self, place: Place, chunk_bytes: int) -> None:
        self.place = place
        self.chunk_bytes = chunk_bytes
        self._free: list[Chunk] = []
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def free_bytes(self) -> int:
        """What nobody has."""
        return len(self._free) * self.chunk_bytes

    @property
    def taken_bytes(self) -> int:
        """What takers have."""
        return self._taken * self.chunk_bytes

    def __str__(self) -> str:
        size = self.chunk_bytes
        held = f"{self._taken} taken and {len(self._free)} free chunks of {size:,} bytes"
        return f"{self.place}: {held}"

    def take(self) -> Chunk:
        """Take a free chunk, or create one.

        Raises:
            OutOfMemory: there is no room for one more.
        """
        chunk = self._free.pop() if self._free else self._create()
        self._taken += 1
        return chunk

    def take_all(self, count: int) -> list[Chunk]:
        """Take several, or none at all if they can't all be had."""
        taken: list[Chunk] = []
        try:
            while len(taken) < count:
                taken.append(self.take())
        except BaseException:
            for chunk in taken:
                self.give(chunk)
            raise
        return taken

    def prepare(self, count: int) -> None:
        """Create chunks until so many are free."""
        while len(self._free) < count:
            self._free.append(self._create())

    def give(self, chunk: Chunk) -> None:
        """Take a chunk back; it must be mapped nowhere."""
        if chunk.place != self.place or chunk.bytes != self.chunk_bytes:
            raise ValueError(f"a chunk of {chunk.bytes:,} bytes of {chunk.place} is not of {self}")
        self._taken -= 1
        self._free.append(chunk)

    def drain(self) -> int:
        """Release what nobody has; returns its bytes."""
        drained = 0
        while self._free:
            chunk = self._free.pop()
            call("cuMemRelease", chunk.handle, detail=f"{chunk.bytes:,} bytes of {chunk.place}")
            drained += chunk.bytes
        return drained

    def close(self) -> None:
        """Release what nobody has. What was taken must have been given back."""
        self.drain()

    def _create(self) -> Chunk:
        size = self.chunk_bytes
        detail = f"{size:,} bytes of {self.place}"
        return Chunk(
            call("cuMemCreate", size, self.place.properties(), 0, detail=detail), self.place, size
        )
