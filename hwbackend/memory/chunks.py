"""Chunk and ChunkPool: physical allocations of one place and one size, kept for the next taker."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import Held, do_all
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

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes of {self.place}"


class ChunkPool(Held):
    """Chunks of one place and one size; owns all that it made, until `drain` or `close`.

    Creating a chunk of host memory takes from 0.1 ms to 0.4 s, one of a GPU's 10 to 200 us.

    Args:
        place: where.
        chunk_bytes: of each, a multiple of the place's granularity.
    """

    def __init__(self, place: Place, chunk_bytes: int) -> None:
        self.place = place
        self.chunk_bytes = chunk_bytes
        self._properties: Any = place.properties()
        self._detail = f"{chunk_bytes:,} bytes of {place}"
        self._free: list[Chunk] = []
        self._taken: set[Chunk] = set()
        self._closed = False

    @property
    def free_bytes(self) -> int:
        """What nobody has."""
        return len(self._free) * self.chunk_bytes

    @property
    def taken_bytes(self) -> int:
        """What takers have."""
        return len(self._taken) * self.chunk_bytes

    def __str__(self) -> str:
        size = self.chunk_bytes
        held = f"{len(self._taken)} taken and {len(self._free)} free chunks of {size:,} bytes"
        return f"{self.place}: {held}"

    def take(self) -> Chunk:
        """Take a free chunk, or create one.

        Raises:
            OutOfMemory: there is no room for one more.
        """
        chunk = self._free.pop() if self._free else self._create()
        self._taken.add(chunk)
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
        """Create chunks until so many are free; those made before an error are free too."""
        while len(self._free) < count:
            self._free.append(self._create())

    def give(self, chunk: Chunk) -> None:
        """Take a chunk back; it must be mapped nowhere. One of a closed pool is gone already."""
        if self._closed:
            return
        if chunk not in self._taken:
            raise ValueError(f"a chunk of {chunk.place} was not taken here: {self}")
        self._taken.remove(chunk)
        self._free.append(chunk)

    def drain(self) -> int:
        """Release what nobody has; returns its bytes. What can't be released stays."""
        stay: list[Chunk] = []
        before = len(self._free)
        try:
            do_all([partial(self._release_free, stay)] * before)
        finally:
            self._free += stay
        return before * self.chunk_bytes

    def close(self) -> None:
        """Release everything. Of what takers still have mapped, the memory goes when they unmap."""
        self._closed = True
        taken = [partial(self._release_taken, chunk) for chunk in self._taken]
        do_all([self.drain, *taken])

    def _create(self) -> Chunk:
        if self._closed:
            raise ValueError(f"the pool of {self.place} is closed")
        made = call("cuMemCreate", self.chunk_bytes, self._properties, 0, detail=self._detail)
        return Chunk(made, self.place, self.chunk_bytes)

    def _release_free(self, stay: list[Chunk]) -> None:
        chunk = self._free.pop()
        try:
            _release(chunk)
        except CudaError:
            stay.append(chunk)
            raise

    def _release_taken(self, chunk: Chunk) -> None:
        _release(chunk)
        self._taken.remove(chunk)


def _release(chunk: Chunk) -> None:
    call("cuMemRelease", chunk.handle, detail=chunk)
