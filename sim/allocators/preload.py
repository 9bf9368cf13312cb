"""The preload library's allocator in manage mode: small blocks in slabs, large ones of any chunks.

    malloc(size), in a slab where it is at most half a granule of 2 MiB, or up to 16 MiB where whole
        granules would leave more than an eighth unused: best fit, 256 bytes
    malloc(size), else: a span that was freed with just as many bytes and is still mapped
    where neither is there: what was freed waits behind a fence; a new one is made and asked
    a new span, for a slab (a quarter of all slabs, to 32 MiB) or a block: pooled chunks, largest
        first, none below 1/32 of it, and one new chunk of what lacks
    when memory is out: all fences are waited for, then with chunks of any size and new ones in
        pieces; then unused spans are taken apart, and again; then the pool goes back, and again;
        then, where that is allowed, in a peer's memory or in the host's
    free(block): waits; from 32 blocks or 64 MiB on a fence is made, and all that passed come back:
        slabs merge, whole ones and spans stay mapped while the pool has room, the rest is taken
        apart and its chunks pooled
    grow(block): maps more behind it, or all of it under twice the addresses; slabs copy

The GPU is idle here when a fence is asked, so that it has passed. Source: blocks.c, spans.c,
chunks.c and homes.c of `hwbackend/preload/library`; the tests hold this to them, call by call.
"""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

from vsim.sim.allocators.chunk_pool import ChunkPool
from vsim.sim.allocators.device import MIB, PAGE_BYTES, DeviceMemory
from vsim.sim.allocators.free_blocks import FreeBlocks
from vsim.sim.allocators.slabs import Part, Slabs, Span

MOST_SLABBED_BYTES: Final = 16 * MIB
MOST_SLAB_BYTES: Final = 32 * MIB
FENCE_BLOCKS: Final = 32
FENCE_BYTES: Final = 64 * MIB
ENDLESS_BYTES: Final = 1 << 47
"""What stands for a device's memory where it never ends."""


class PreloadAllocator:
    """The allocator; state: its pools, and every block and span.

    Args:
        device: where it allocates; what is `beside` it takes blocks that it has no room for, in
            that order.
        pool_bytes: what it keeps unused at most; None: a quarter of the device's memory.
        asked_to_pass: how often a fence is asked until it says that it has passed.
    """

    def __init__(
        self, device: DeviceMemory, pool_bytes: int | None = None, *, asked_to_pass: int = 1
    ) -> None:
        self.device = device
        self.allocated_bytes = 0
        self._total_bytes = device.capacity_bytes or ENDLESS_BYTES
        limit = self._total_bytes // 4 if pool_bytes is None else pool_bytes
        self._own = ChunkPool(device, limit, knows_room=True)
        beside = [ChunkPool(memory, 0 if name == "peer" else None)
                  for name, memory in device.beside.items()]  # fmt: skip
        self._slabs = {pool: Slabs() for pool in (self._own, *beside)}
        self._beside = beside
        self._slab_bytes = 0
        self._kept = FreeBlocks()  # spans that are mapped and unused
        self._kept_spans: dict[int, Span] = {}  # by address
        self._kept_bytes = 0
        self._blocks: dict[int, Part] = {}  # by handle
        self._pending: list[Part] = []
        self._pending_bytes = 0
        self._waiting_bytes = 0  # pending, and behind fences
        self._fences: list[tuple[int, list[Part]]] = []  # how often asked
        self._asked_to_pass = asked_to_pass

    @property
    def reserved_bytes(self) -> int:
        """What it has taken, wherever."""
        return sum(pool.memory.used_bytes for pool in self._slabs)

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`; streams make no difference."""
        block = self._find(size)
        if block is None:
            return False
        self._blocks[handle] = block
        self.allocated_bytes += block.size
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        block = self._blocks.pop(handle)
        self.allocated_bytes -= block.size
        self._pending.append(block)
        self._pending_bytes += block.size
        self._waiting_bytes += block.size
        if len(self._pending) >= FENCE_BLOCKS or self._pending_bytes >= FENCE_BYTES:
            self._make_fence()
            self._pass_fences(wait=False)

    def grow(self, old: int, new: int, old_size: int, size: int, stream: int) -> bool:
        """See `Allocator.grow`."""
        block = self._blocks[old]
        if block.span.is_slab and size > block.size:
            if not self.malloc(new, size, stream):
                return False
            self.device.copy(min(old_size, size))
            self.free(old)
            return True
        if not block.span.is_slab:
            if not self._resize(block.span, _rounded(size)):
                return False
            self.allocated_bytes += block.span.size - block.size
            block.address, block.size = block.span.address, block.span.size
        self._blocks[new] = self._blocks.pop(old)
        return True

    def trim(self) -> None:
        """Give all that is unused back, as `vsim_pool_trim` does."""
        self._settle()
        self._take_kept_apart()
        for pool in self._slabs:
            pool.release_down_to(0)

    def blocks(self) -> list[tuple[int, int]]:
        """Address and size of every block, for checks."""
        return sorted((block.address, block.size) for block in self._blocks.values())

    def _find(self, size: int) -> Part | None:
        block = self._ready(size, self._own)
        if block is None:
            self._make_fence()
            if self._pass_fences(wait=False):
                block = self._ready(size, self._own)
            much_waits = self._waiting_bytes > self._total_bytes // 64
            if block is None and much_waits and self._pass_fences(wait=True):
                block = self._ready(size, self._own)
        if block is None:
            block = self._fresh(size, self._own, at_all_costs=False)
        return block or self._at_all_costs(size) or self._elsewhere(size)

    def _at_all_costs(self, size: int) -> Part | None:
        came_back = True
        while came_back:
            came_back = self._settle()
            block = self._ready(size, self._own) or self._fresh(size, self._own, at_all_costs=True)
            if block is None:
                self._take_kept_apart()
                block = self._fresh(size, self._own, at_all_costs=True)
            if block is None:
                self._own.release_down_to(0)
                block = self._fresh(size, self._own, at_all_costs=True)
            if block is not None:
                return block
        return None

    def _elsewhere(self, size: int) -> Part | None:
        for pool in self._beside:
            if (block := self._ready(size, pool)) is not None:
                return block
        for pool in self._beside:
            if (block := self._fresh(size, pool, at_all_costs=True)) is not None:
                return block
        return None

    def _ready(self, size: int, pool: ChunkPool) -> Part | None:
        """One that is there: in a slab, or of just this size, mapped and unused."""
        if is_slabbed(size):
            return self._slabs[pool].take(size)
        span = self._reuse(_rounded(size)) if pool is self._own else None
        return None if span is None else Part(span.address, span.size, span)

    def _fresh(self, size: int, pool: ChunkPool, *, at_all_costs: bool) -> Part | None:
        room, slabbed = _rounded(size), is_slabbed(size)
        if slabbed and not at_all_costs:
            room = max(room, min(_rounded(self._slab_bytes // 4), MOST_SLAB_BYTES))
        span = self._reuse(room) if slabbed and pool is self._own else None
        if span is None:
            span = _gathered(room, pool, at_all_costs=at_all_costs)
        if span is None:
            return None
        if not slabbed:
            return Part(span.address, span.size, span)
        self._slab_bytes += span.size
        self._slabs[pool].add(span)
        return self._slabs[pool].take(size)

    def _make_fence(self) -> None:
        if self._pending:
            self._fences.append((0, self._pending[::-1]))  # the last one freed comes back first
            self._pending, self._pending_bytes = [], 0

    def _pass_fences(self, *, wait: bool) -> bool:
        """Take back what is behind fences that have passed; whether any has."""
        passed = False
        while self._fences:
            asked, blocks = self._fences.pop(0)
            if not wait and asked + 1 < self._asked_to_pass:
                self._fences.insert(0, (asked + 1, blocks))
                break
            passed = True
            self._take_back(blocks)
        return passed

    def _settle(self) -> bool:
        self._make_fence()
        return self._pass_fences(wait=True)

    def _take_back(self, blocks: list[Part]) -> None:
        leaving = []
        for block in blocks:
            self._waiting_bytes -= block.size
            span: Span | None = block.span
            if block.span.is_slab:
                span = self._slabs[block.span.pool].give_back(block)
                self._slab_bytes -= span.size if span is not None else 0
            if span is not None and not self._keep(span):
                leaving.append(span)
        for span in reversed(leaving):
            self._take_apart(span)

    def _keep(self, span: Span) -> bool:
        """Leave it mapped for the next of its size, where the pool has room for it."""
        held = self._own.free_bytes + self._kept_bytes
        whole = span.pool is self._own and span.range_bytes == span.size
        if not whole or held + span.size > (self._own.keep_bytes or 0):
            return False
        self._kept.add(span.size, span.address)
        self._kept_spans[span.address] = span
        self._kept_bytes += span.size
        return True

    def _reuse(self, size: int) -> Span | None:
        at = self._kept.at_least(size)
        if at == len(self._kept) or self._kept.size(at) != size:
            return None
        span = self._kept_spans.pop(self._kept.address(at))
        self._kept.remove(span.size, span.address)
        self._kept_bytes -= span.size
        return span

    def _take_kept_apart(self) -> None:
        spans = [self._kept_spans[address] for address in self._kept.addresses()]
        self._kept, self._kept_spans, self._kept_bytes = FreeBlocks(), {}, 0
        for span in reversed(spans):
            self._take_apart(span)

    def _take_apart(self, span: Span) -> None:
        span.pool.unmap(span.chunks)
        self._give_back(span.chunks, span.pool)

    def _give_back(self, chunks: list[int], pool: ChunkPool) -> None:
        pool.give_back(chunks, self._kept_bytes if pool is self._own else 0)

    def _resize(self, span: Span, size: int) -> bool:
        pool, lacking = span.pool, size - span.size
        if lacking <= 0:
            keep = bisect_left(list(accumulate(span.chunks)), size) + 1
            gone = span.chunks[keep:]  # whole chunks at its end
            pool.unmap(gone)
            span.chunks, span.size = span.chunks[:keep], sum(span.chunks[:keep])
            self._give_back(gone, pool)
            return True
        more = pool.take(lacking, at_all_costs=False)
        if more is None:
            self._settle()
            self._take_kept_apart()
            self._own.release_down_to(0)
            more = pool.take(lacking, at_all_costs=True)
        if more is None:
            return False
        if size > span.range_bytes:  # under other addresses, twice as many as it takes
            pool.map(span.chunks)
            pool.unmap(span.chunks)
            span.range_bytes = 2 * size
            pool.memory.count("reserve", span.range_bytes)
            span.address = pool.memory.reserve(span.range_bytes)
        pool.map(more)
        span.chunks, span.size = [*span.chunks, *more], size
        return True


def is_slabbed(size: int) -> bool:
    """Whether a block of so many bytes shares a slab with others."""
    room = _rounded(size)
    return size <= PAGE_BYTES // 2 or (size <= MOST_SLABBED_BYTES and room - size > room // 8)


def _gathered(size: int, pool: ChunkPool, *, at_all_costs: bool) -> Span | None:
    chunks = pool.take(size, at_all_costs=at_all_costs)
    if chunks is None:
        return None
    pool.memory.count("reserve", size)
    pool.map(chunks)
    return Span(pool.memory.reserve(size), size, chunks, pool)


def _rounded(size: int) -> int:
    return size + -size % PAGE_BYTES
