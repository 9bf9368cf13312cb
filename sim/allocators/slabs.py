"""Slabs: spans of addresses that small blocks share, by best fit; and what such a span is."""

from typing import Final

from vsim.sim.allocators.chunk_pool import ChunkPool
from vsim.sim.allocators.free_blocks import FreeBlocks

ALIGNMENT_BYTES: Final = 256


class Span:
    """Addresses with chunks side by side under them; state: all of it."""

    __slots__ = ("address", "chunks", "is_slab", "pool", "range_bytes", "size")

    def __init__(self, address: int, size: int, chunks: list[int], pool: ChunkPool) -> None:
        self.address = address
        self.size = self.range_bytes = size
        self.chunks = chunks
        self.pool = pool
        self.is_slab = False


class Part:
    """A block of a span: all of it, or a part of a slab; state: all of it."""

    __slots__ = ("address", "after", "before", "is_free", "size", "span")

    def __init__(self, address: int, size: int, span: Span) -> None:
        self.address = address
        self.size = size
        self.span = span
        self.before: Part | None = None
        self.after: Part | None = None
        self.is_free = False

    @property
    def is_whole(self) -> bool:
        """Whether it has no neighbours in its span."""
        return self.before is None and self.after is None


class Slabs:
    """Free parts of the slabs of one place; state: the parts."""

    def __init__(self) -> None:
        self._free = FreeBlocks()
        self._parts: dict[int, Part] = {}  # by address

    def add(self, span: Span) -> None:
        """Let a span be a slab, free from end to end."""
        span.is_slab = True
        self._keep(Part(span.address, span.size, span))

    def take(self, size: int) -> Part | None:
        """The smallest free part that holds so many bytes, cut to them; of equals the lowest."""
        size += -size % ALIGNMENT_BYTES
        at = self._free.at_least(size)
        if at == len(self._free):
            return None
        part = self._taken(self._parts[self._free.address(at)])
        if part.size > size:
            rest = Part(part.address + size, part.size - size, part.span)
            rest.before, rest.after = part, part.after
            if part.after is not None:
                part.after.before = rest
            part.after, part.size = rest, size
            self._keep(rest)
        return part

    def give_back(self, part: Part) -> Span | None:
        """Join a part with its free neighbours; the span, no slab any more, where that is all."""
        if part.after is not None and part.after.is_free:
            _swallow_after(part, self._taken(part.after))
        if part.before is not None and part.before.is_free:
            before = self._taken(part.before)
            _swallow_after(before, part)
            part = before
        if not part.is_whole:
            self._keep(part)
            return None
        part.span.is_slab = False
        return part.span

    def _keep(self, part: Part) -> None:
        part.is_free = True
        self._parts[part.address] = part
        self._free.add(part.size, part.address)

    def _taken(self, part: Part) -> Part:
        part.is_free = False
        del self._parts[part.address]
        self._free.remove(part.size, part.address)
        return part


def _swallow_after(part: Part, after: Part) -> None:
    part.size += after.size
    part.after = after.after
    if part.after is not None:
        part.after.before = part
