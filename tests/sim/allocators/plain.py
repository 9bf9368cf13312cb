"""The allocators once more, in plain Python: lists that are searched from end to end.

Written from the rules, not from `vsim.sim.allocators`, which they are held against: a segment is a
list of [address, size, state], and every choice is a minimum over all candidates.
"""

from dataclasses import dataclass, field
from typing import Any

MIB = 2**20
FREE, USED, UNMAPPED = "free", "used", "unmapped"


def round_up(size: int, unit: int) -> int:
    return (size + unit - 1) // unit * unit


@dataclass
class Segment:
    stream: int
    small: bool
    blocks: list[list[Any]]  # [address, size, state], in order of address

    @property
    def size(self) -> int:
        return sum(b[1] for b in self.blocks)

    def merge(self) -> None:
        at = 0
        while at + 1 < len(self.blocks):
            one, two = self.blocks[at], self.blocks[at + 1]
            if one[2] == two[2] and one[2] != USED:
                one[1] += two[1]
                del self.blocks[at + 1]
            else:
                at += 1


@dataclass
class PlainCaching:
    """PyTorch's caching allocator with segments from cudaMalloc, without collection."""

    capacity: int | None = None
    max_split: int | None = None
    segments: list[Segment] = field(default_factory=list)
    handed: dict[int, tuple[Segment, list[Any]]] = field(default_factory=dict)
    top: int = 2 * MIB

    @property
    def reserved(self) -> int:
        return sum(s.size for s in self.segments)

    def free_blocks(self, stream: int, small: bool) -> list[tuple[int, int, Segment, list[Any]]]:
        return sorted(
            (b[1], b[0], s, b)
            for s in self.segments
            if (s.stream, s.small) == (stream, small)
            for b in s.blocks
            if b[2] == FREE
        )

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        size = max(512, round_up(size, 512))
        small = size <= MIB
        found = self.fit(size, stream, small) or self.segment(size, stream, small)
        if (
            found is None
            and self.max_split is not None
            and self.release_oversize(size, stream, small)
        ):
            found = self.segment(size, stream, small)
        if found is None:
            self.release_whole()
            found = self.segment(size, stream, small)
        if found is None:
            return False
        segment, block = found
        left = block[1] - size
        splits = left >= 512 if small else left > MIB and (self.max_split or 2**62) > size
        if splits:
            segment.blocks.insert(segment.blocks.index(block) + 1, [block[0] + size, left, FREE])
            block[1] = size
        block[2] = USED
        self.handed[handle] = segment, block
        return True

    def fit(self, size: int, stream: int, small: bool) -> tuple[Segment, list[Any]] | None:
        fitting = [c for c in self.free_blocks(stream, small) if c[0] >= size]
        if not fitting:
            return None
        whole, _, segment, block = fitting[0]
        most = self.max_split or 2**62
        if (size < most <= whole) or (size >= most and whole >= size + 20 * MIB):
            return None
        return segment, block

    def segment(self, size: int, stream: int, small: bool) -> tuple[Segment, list[Any]] | None:
        whole = 2 * MIB if small else 20 * MIB if size < 10 * MIB else round_up(size, 2 * MIB)
        if self.capacity is not None and self.reserved + whole > self.capacity:
            return None
        block = [self.top, whole, FREE]
        self.top += whole
        self.segments.append(Segment(stream, small, [block]))
        return self.segments[-1], block

    def release_oversize(self, size: int, stream: int, small: bool) -> bool:
        assert self.max_split is not None
        wanted = max(size, self.max_split)
        blocks = self.free_blocks(stream, small)
        fitting = [c for c in blocks if c[0] >= wanted]
        if fitting:
            self.segments.remove(fitting[0][2])
            return True
        released = 0
        for whole, _, segment, _ in reversed(blocks):
            if released >= wanted or whole < self.max_split:
                break
            released += whole
            self.segments.remove(segment)
        return released >= wanted

    def release_whole(self) -> None:
        self.segments = [
            s for s in self.segments if not (len(s.blocks) == 1 and s.blocks[0][2] == FREE)
        ]

    def free(self, handle: int) -> None:
        segment, block = self.handed.pop(handle)
        block[2] = FREE
        segment.merge()

    def layout(self) -> list[tuple[int, int, str]]:
        return sorted(
            (b[0], b[1], b[2]) for s in self.segments for b in s.blocks if b[2] != UNMAPPED
        )


@dataclass
class PlainExpandable(PlainCaching):
    """The same with one range of addresses a pool, whose chunks are mapped."""

    range_bytes: int = 2**41 + 2**38

    @property
    def reserved(self) -> int:
        return sum(b[1] for s in self.segments for b in s.blocks if b[2] != UNMAPPED)

    def fit(self, size: int, stream: int, small: bool) -> tuple[Segment, list[Any]] | None:
        fitting = [c for c in self.free_blocks(stream, small) if c[0] >= size]
        if not fitting:
            return None

        def can_be(candidate: tuple[int, int, Segment, list[Any]]) -> int:
            whole, _, segment, block = candidate
            behind = segment.blocks[segment.blocks.index(block) + 1 :][:1]
            return whole + sum(b[1] for b in behind if b[2] == UNMAPPED)

        at = 0
        while at + 1 < len(fitting) and can_be(fitting[at + 1]) < can_be(fitting[at]):
            at += 1
        return fitting[at][2], fitting[at][3]

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        size = max(512, round_up(size, 512))
        small = size <= MIB
        found = self.fit(size, stream, small) or self.expand(size, stream, small)
        if found is None:
            self.release_whole()
            found = self.expand(size, stream, small)
        if found is None:
            return False
        segment, block = found
        if block[1] - size >= 512:
            rest = [block[0] + size, block[1] - size, FREE]
            segment.blocks.insert(segment.blocks.index(block) + 1, rest)
            block[1] = size
        block[2] = USED
        self.handed[handle] = segment, block
        return True

    def expand(self, size: int, stream: int, small: bool) -> tuple[Segment, list[Any]] | None:
        chunk = 2 * MIB if small else 20 * MIB
        for segment in self.segments:
            if (segment.stream, segment.small) != (stream, small):
                continue
            for start in self.places(segment, size):
                return self.fill(segment, start, size, chunk)
        whole = round_up(self.range_bytes, chunk)
        start = round_up(self.top, chunk)
        self.segments.append(Segment(stream, small, [[start, whole, UNMAPPED]]))
        self.top += round_up(whole + chunk, 2 * MIB)
        return self.fill(self.segments[-1], self.segments[-1].blocks[0][0], size, chunk)

    @staticmethod
    def places(segment: Segment, size: int) -> list[int]:
        """Where runs of blocks without a used one, with an unmapped one in them, hold the size."""
        found = []
        for at, block in enumerate(segment.blocks):
            if block[2] != UNMAPPED:
                continue
            first = at - 1 if at and segment.blocks[at - 1][2] == FREE else at
            room = 0
            for other in segment.blocks[first:]:
                if other[2] == USED:
                    break
                room += other[1]
            if room >= size:
                found.append(segment.blocks[first][0])
        return found

    def fill(
        self, segment: Segment, start: int, size: int, chunk: int
    ) -> tuple[Segment, list[Any]] | None:
        """Map what is unmapped in [start, start + size), block by block."""
        while True:
            at = next(i for i, b in enumerate(segment.blocks) if b[0] == start)
            block = segment.blocks[at]
            if block[2] == FREE and block[1] >= size:
                return segment, block
            if block[2] == FREE:
                behind, missing = segment.blocks[at + 1], size - block[1]
            else:
                behind, missing = block, size
            mapped = round_up(min(missing, behind[1]), chunk)
            if self.capacity is not None and self.reserved + mapped > self.capacity:
                return None
            if mapped < behind[1]:
                rest = [behind[0] + mapped, behind[1] - mapped, UNMAPPED]
                segment.blocks.insert(segment.blocks.index(behind) + 1, rest)
                behind[1] = mapped
            behind[2] = FREE
            segment.merge()

    def release_whole(self) -> None:
        held = [s for s in self.segments if any(b[2] != UNMAPPED for b in s.blocks)]
        for segment in self.segments:
            chunk = 2 * MIB if segment.small else 20 * MIB
            parts: list[list[Any]] = []
            for start, size, state in segment.blocks:
                base = segment.blocks[0][0]
                low = base + round_up(start - base, chunk)
                high = base + (start + size - base) // chunk * chunk
                if state != FREE or high <= low:
                    parts.append([start, size, state])
                    continue
                parts.append([start, low - start, FREE])
                parts.append([low, high - low, UNMAPPED])
                parts.append([high, start + size - high, FREE])
            segment.blocks = [p for p in parts if p[1]]
            segment.merge()
            used = {id(b) for s, b in self.handed.values() if s is segment}
            for handle, (owner, block) in list(self.handed.items()):
                if owner is segment and id(block) in used:
                    same = next(p for p in segment.blocks if p[0] == block[0])
                    self.handed[handle] = segment, same
        # a range that nothing was ever mapped in stays reserved
        self.segments = [
            s for s in self.segments if any(b[2] != UNMAPPED for b in s.blocks) or s not in held
        ]


@dataclass
class PlainHeap:
    """Contiguous allocation over one range: every hole is computed anew from the blocks."""

    fit: str
    capacity: int | None = None
    blocks: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        return max((start + size for start, size in self.blocks.values()), default=0)

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        size = round_up(size, 512)
        at, holes = 0, []
        for start, length in sorted(self.blocks.values()):
            if start > at:
                holes.append((start - at, at))
            at = start + length
        fitting = [hole for hole in holes if hole[0] >= size]
        if fitting:
            start = min(h[1] for h in fitting) if self.fit == "first" else min(fitting)[1]
        elif self.capacity is not None and at + size > self.capacity:
            return False
        else:
            start = at
        self.blocks[handle] = start, size
        return True

    def free(self, handle: int) -> None:
        del self.blocks[handle]

    def layout(self) -> list[tuple[int, int]]:
        return sorted(self.blocks.values())


@dataclass
class PlainBuddy:
    """The buddy system by its definition: a block's place is free if no block overlaps it."""

    arena: int
    blocks: dict[int, tuple[int, int]] = field(default_factory=dict)
    arenas: list[tuple[int, int]] = field(default_factory=list)
    top: int = 0

    @property
    def reserved(self) -> int:
        return sum(size for _, size in self.arenas)

    def free_blocks(self) -> list[tuple[int, int]]:
        """The largest aligned free blocks: halves that nothing overlaps and whose parent is not."""

        def walk(start: int, size: int) -> list[tuple[int, int]]:
            inside = [
                b for b in self.blocks.values() if start < b[0] + b[1] and b[0] < start + size
            ]
            if not inside:
                return [(start, size)]
            if inside == [(start, size)] or any(b[1] >= size for b in inside):
                return []
            return walk(start, size // 2) + walk(start + size // 2, size // 2)

        return sorted(block for arena in self.arenas for block in walk(*arena))

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        power = 512
        while power < size:
            power *= 2
        fitting = sorted((length, start) for start, length in self.free_blocks() if length >= power)
        if not fitting:
            whole = max(self.arena, power)
            start = round_up(self.top, whole)
            self.top = start + whole
            self.arenas.append((start, whole))
            fitting = [(whole, start)]
        self.blocks[handle] = fitting[0][1], power
        return True

    def free(self, handle: int) -> None:
        del self.blocks[handle]

    def layout(self) -> list[tuple[int, int]]:
        return sorted(self.blocks.values())
