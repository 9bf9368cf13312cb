"""PyTorch's caching allocator: blocks cut from segments, which stay when their blocks are freed.

    malloc(size):
        size: up to a multiple of 512 bytes (or to a part of a power of two, `power2_divisions`)
        pool: small up to 1 MiB, else large; one of each kind a stream
        block: the smallest free one of the pool that holds it, of equals the lowest
            none if it is `max_split` or more and the request is not, or it is 20 MiB above it
        or, where there is none, a new segment: 2 MiB in the small pool; in the large one 20 MiB
            below 10 MiB, else a multiple of 2 MiB
            when memory is out: first oversize blocks, then all whole free segments go, and again
        split off what is left, if it is 512 bytes (small), or above 1 MiB (large, below max_split)
    free(block): merge with free neighbours of its segment, and keep
    collection, with a threshold and a limit: before a new segment, if what is reserved is above
        threshold · limit, give back whole large segments that were idle for longer than the mean

    private pool, of a captured graph or by use_mem_pool: pools of its own for each stream; while
        one is used nothing cached goes when memory is out, and its segments stay with it

Source: PyTorch, `c10/cuda/CUDACachingAllocator.cpp` (`DeviceCachingAllocator`), 2.1 to 2.11; its
note at the top. That a graph is gone is known by the first of its segments that goes back; without
events of segments a private pool stays to the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vsim.sim.allocators.allocator import CopiesOnGrowth
from vsim.sim.allocators.device import MIB, DeviceMemory
from vsim.sim.allocators.free_blocks import FreeBlocks
from vsim.sim.allocators.rounding import LEAST_BYTES, Divisions, rounded

SMALL_BYTES: Final = MIB
SMALL_SEGMENT_BYTES: Final = 2 * MIB
LARGE_SEGMENT_BYTES: Final = 20 * MIB
LEAST_LARGE_BYTES: Final = 10 * MIB
ROUND_LARGE_BYTES: Final = 2 * MIB


@dataclass(frozen=True, slots=True)
class CachingOptions:
    """The allocator's own settings, under PyTorch's names but in bytes.

    Args:
        max_split_bytes: `max_split_size_mb`; None: all blocks are split.
        rounding_bytes: `max_non_split_rounding_mb`: how much larger an oversize block may be.
        power2_divisions: `roundup_power2_divisions`, of all sizes or by size; 0 or 1: none.
        collection_threshold: `garbage_collection_threshold`; 0: no collection. Needs a limit.
        limit_bytes: what the process is allowed (`set_per_process_memory_fraction`); None: all.
    """

    max_split_bytes: int | None = None
    rounding_bytes: int = LARGE_SEGMENT_BYTES
    power2_divisions: Divisions = 0
    collection_threshold: float = 0.0
    limit_bytes: int | None = None


class Block:
    """A part of a segment; state: everything about it. Neighbours are of the same segment."""

    __slots__ = ("address", "before", "behind", "free", "idle_since", "mapped", "pool", "size")

    def __init__(self, address: int, size: int, pool: "Pool") -> None:
        self.address = address
        self.size = size
        self.pool = pool
        self.before: Block | None = None
        self.behind: Block | None = None
        self.free = False
        self.mapped = True
        self.idle_since = 0

    def put_behind(self, before: "Block") -> None:
        """Become the neighbour right behind a block."""
        self.before, self.behind = before, before.behind
        if before.behind is not None:
            before.behind.before = self
        before.behind = self


class Pool:
    """The blocks of one stream, small or large; state: those that are free."""

    __slots__ = ("blocks", "is_private", "is_small", "stream", "unmapped")

    def __init__(self, is_small: bool, stream: int, is_private: bool = False) -> None:
        self.is_small = is_small
        self.is_private = is_private
        self.stream = stream
        self.blocks = FreeBlocks()
        self.unmapped: list[int] = []  # addresses, ascending; of expandable segments only


def segment_bytes(size: int) -> int:
    """The size of the segment that is taken for a block of `size` bytes."""
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < LEAST_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


class CachingAllocator(CopiesOnGrowth):
    """The allocator with segments from cudaMalloc; state: its pools and all their blocks.

    Args:
        device: where segments are taken from.
        options: its settings.
        private: streams that are of private pools.
    """

    splits_all = False
    """Whether large blocks are split down to 512 bytes, as those of expandable segments are."""

    def __init__(
        self, device: DeviceMemory, options: CachingOptions | None = None,
        private: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self.device = device
        self.options = options or CachingOptions()
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self.retries = 0
        self._private = private
        self._released: set[int] = set()
        self._pools: dict[tuple[bool, int], Pool] = {}
        self._free: dict[int, Block] = {}  # by address
        self._handed_out: dict[int, Block] = {}  # by handle
        self._searches = 0  # of the large pools: the clock that idle blocks are judged by

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """See `Allocator.malloc`."""
        size = rounded(size, self.options.power2_divisions)
        pool = self._pools.get((size <= SMALL_BYTES, stream))
        if pool is None:
            pool = Pool(size <= SMALL_BYTES, stream, stream in self._private)
            self._pools[size <= SMALL_BYTES, stream] = pool
        if not pool.is_small and not pool.is_private:
            self._searches += 1
        block = self._best_fit(pool, size) or self._new(pool, size)
        if block is None:
            return False
        left = block.size - size
        if left and self._is_split(pool, size, left):
            rest = Block(block.address + size, left, pool)
            block.size = size
            rest.put_behind(block)
            self._keep(rest)
        self._handed_out[handle] = block
        self.allocated_bytes += block.size
        return True

    def free(self, handle: int) -> None:
        """See `Allocator.free`."""
        block = self._handed_out.pop(handle)
        self.allocated_bytes -= block.size
        self._merge(block)
        self._keep(block)

    def trim(self) -> None:
        """Give back every whole free segment, as `torch.cuda.empty_cache` does."""
        for block in self._cached():
            if block.before is None and block.behind is None:
                self._give_back(block)

    def release(self, stream: int) -> None:
        """The graphs of a private pool are gone; `stream` is one of those within it."""
        self._released.add(stream)

    def segments(self) -> Iterator[tuple[int, int, list[Block]]]:
        """Every segment's address, size and blocks: for checks, not for speed."""
        heads: dict[int, Block] = {}
        for block in [*self._free.values(), *self._handed_out.values()]:
            while block.before is not None:
                block = block.before
            heads[block.address] = block
        for address, head in sorted(heads.items()):
            blocks = [head]
            while blocks[-1].behind is not None:
                blocks.append(blocks[-1].behind)
            yield address, sum(block.size for block in blocks), blocks

    def _is_split(self, pool: Pool, size: int, left: int) -> bool:
        if pool.is_small or self.splits_all:
            return left >= LEAST_BYTES
        most = self.options.max_split_bytes
        return (most is None or size < most) and left > SMALL_BYTES

    def _best_fit(self, pool: Pool, size: int) -> Block | None:
        blocks = pool.blocks
        place = blocks.at_least(size)
        if place == len(blocks):
            return None
        place = self._preferred(blocks, place)
        most = self.options.max_split_bytes
        if most is not None:
            found = blocks.size(place)
            if size < most <= found:
                return None
            if size >= most and found >= size + self.options.rounding_bytes:
                return None
        block = self._free.pop(blocks.address(place))
        del blocks.keys[place]
        block.free = False
        return block

    def _preferred(self, blocks: FreeBlocks, place: int) -> int:
        """The block to take, beginning with the best fit; the best fit itself here."""
        return place

    def _new(self, pool: Pool, size: int) -> Block | None:
        """A block of memory that nobody had; what is cached goes before a call fails."""
        if self.options.collection_threshold > 0 and self.options.limit_bytes is not None:
            self._collect(self.options.collection_threshold, self.options.limit_bytes)
        block = self._take(pool, size)
        if block is None and self._release_oversize(pool, size):
            block = self._take(pool, size)
        if block is None and not pool.is_private:  # a graph that is captured forbids it
            self.trim()
            self.retries += 1
            block = self._take(pool, size)
        return block

    def _take(self, pool: Pool, size: int) -> Block | None:
        whole = segment_bytes(size)
        limit = self.options.limit_bytes
        if limit is not None and self.reserved_bytes + whole > limit:
            return None
        return self._take_memory(pool, size, whole)

    def _take_memory(self, pool: Pool, size: int, whole: int) -> Block | None:
        address = self.device.malloc(whole)
        if address < 0:
            return None
        self.reserved_bytes += whole
        return Block(address, whole, pool)

    def _release_oversize(self, pool: Pool, size: int) -> bool:
        """Give back one oversize block that would have held the request, or several of them."""
        most = self.options.max_split_bytes
        if most is None:
            return False
        wanted = max(size, most)
        blocks = pool.blocks
        place = blocks.at_least(wanted)
        if place < len(blocks):
            self._give_back(self._free[blocks.address(place)])
            return True
        released = 0
        while released < wanted and len(blocks) and blocks.size(-1) >= most:
            released += blocks.size(-1)
            self._give_back(self._free[blocks.address(-1)])
        return released >= wanted

    def _collect(self, threshold: float, limit: int) -> None:
        """Give back whole large segments, those first that were idle longer than the mean."""
        allowed = int(threshold * limit)
        if self.reserved_bytes <= allowed:
            return
        wanted = self.reserved_bytes - allowed
        whole = [
            block for block in self._cached()
            if not block.pool.is_small and block.before is None and block.behind is None
        ]  # fmt: skip
        released = 0
        while released < wanted and whole:
            ages = [self._searches - block.idle_since for block in whole]
            old = [age >= sum(ages) / len(ages) for age in ages]
            for block, goes in zip(whole, old, strict=True):
                if goes:
                    released += block.size
                    self._give_back(block)
            whole = [block for block, goes in zip(whole, old, strict=True) if not goes]

    def _cached(self) -> list[Block]:
        """All free blocks that may go back: large ones first, then by stream, size, address.

        Those of private pools are not among them while their graphs are there.
        """
        found = (
            pool for pool in self._pools.values()
            if not pool.is_private or pool.stream in self._released
        )  # fmt: skip
        order = sorted(found, key=lambda pool: (pool.is_small, pool.stream))
        return [self._free[at] for pool in order for at in pool.blocks.addresses()]

    def _keep(self, block: Block) -> None:
        block.free = True
        block.idle_since = self._searches
        self._free[block.address] = block
        block.pool.blocks.add(block.size, block.address)

    def _forget(self, block: Block) -> None:
        """Take a free block out of its pool."""
        del self._free[block.address]
        block.pool.blocks.remove(block.size, block.address)

    def _merge(self, block: Block) -> None:
        """Swallow the free neighbours of a block that is in no pool."""
        before, behind = block.before, block.behind
        if before is not None and before.free and before.mapped:
            self._forget(before)
            block.address = before.address
            block.size += before.size
            block.before = before.before
            if block.before is not None:
                block.before.behind = block
        if behind is not None and behind.free and behind.mapped:
            self._forget(behind)
            block.size += behind.size
            block.behind = behind.behind
            if block.behind is not None:
                block.behind.before = block

    def _give_back(self, block: Block) -> None:
        """Give a whole free segment back to the driver."""
        self._forget(block)
        self.reserved_bytes -= block.size
        self.device.free(block.size)
