"""PyTorch's caching allocator with expandable segments: one range of addresses that grows.

    As `caching`, but memory comes by mapping, and every block is split down to 512 bytes.
    new(size): the lowest place of the pool's range where free and unmapped blocks side by side hold
        it; map what is missing there, in chunks of 2 MiB (small) or 20 MiB (large)
    best fit: a free block that the range can still expand counts with what it can grow to
    trim: unmap every chunk that lies wholly in a free block

Source: as of `caching`; its note "Expandable Segments". A range has 9/8 of the GPU's memory.
"""

from bisect import bisect_left, insort

from vsim.sim.allocators.caching import (
    LARGE_SEGMENT_BYTES,
    SMALL_SEGMENT_BYTES,
    Block,
    CachingAllocator,
    CachingOptions,
    Pool,
)
from vsim.sim.allocators.device import DeviceMemory
from vsim.sim.allocators.free_blocks import FreeBlocks


class ExpandableAllocator(CachingAllocator):
    """The allocator with segments that are mapped; state: as its base, and what is unmapped.

    Args:
        device: where chunks are taken from.
        options: its settings.
        private: see `CachingAllocator`.
        device_bytes: the GPU's memory, which ranges of addresses are reserved by.
        chunk_bytes: of the large pool; `large_segment_size_mb`.
    """

    splits_all = True

    def __init__(
        self,
        device: DeviceMemory,
        options: CachingOptions | None = None,
        private: frozenset[int] = frozenset(),
        *,
        device_bytes: int = 1 << 41,
        chunk_bytes: int = LARGE_SEGMENT_BYTES,
    ) -> None:
        super().__init__(device, options, private)
        self._range_bytes = device_bytes + device_bytes // 8
        self._chunk_bytes = chunk_bytes
        self._unmapped: dict[int, Block] = {}  # by address

    def trim(self) -> None:
        """Unmap every chunk that nothing is in, as `torch.cuda.empty_cache` does."""
        for block in self._cached():
            self._unmap(block)

    def _chunk(self, pool: Pool) -> int:
        return SMALL_SEGMENT_BYTES if pool.is_small else self._chunk_bytes

    def _preferred(self, blocks: FreeBlocks, place: int) -> int:
        """Go on to larger blocks as long as they can expand to less than the one before."""
        here = self._expands_to(blocks.address(place))
        while place + 1 < len(blocks):
            following = self._expands_to(blocks.address(place + 1))
            if following >= here:
                break
            place, here = place + 1, following
        return place

    def _expands_to(self, address: int) -> int:
        block = self._free[address]
        behind = block.behind
        return block.size + (behind.size if behind is not None and not behind.mapped else 0)

    def _take_memory(self, pool: Pool, size: int, whole: int) -> Block | None:
        block = self._place(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            behind = block.behind
            assert behind is not None  # there is room for all of it
            if not self._map(behind, min(size - block.size, behind.size)):
                return None
            block = behind  # it has swallowed the one before
        self._forget(block)
        block.free = False
        return block

    def _place(self, pool: Pool, size: int) -> Block:
        """The lowest block where free and unmapped ones side by side hold `size` bytes."""
        for address in pool.unmapped:
            block = self._unmapped[address]
            if block.before is not None and block.before.free:
                block = block.before
            room, at = 0, block
            while at is not None and at.free and room < size:
                room += at.size
                at = at.behind  # type: ignore[assignment] # None ends the loop
            if room >= size:
                return block
        chunk = self._chunk(pool)
        whole = -(-self._range_bytes // chunk) * chunk
        # from a multiple of a chunk on, so that an address says which chunk it is in
        start = -(-self.device.reserve(whole + chunk) // chunk) * chunk
        block = Block(start, whole, pool)
        self._keep_unmapped(block)
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Map the start of an unmapped block, chunk by chunk; it merges with what is free there."""
        chunk = self._chunk(block.pool)
        chunks = -(-size // chunk)
        if not self.device.create(chunk, chunks):
            return False
        self.device.map(chunk, chunks)
        self._forget_unmapped(block)
        mapped = chunk * chunks
        if mapped < block.size:
            rest = Block(block.address + mapped, block.size - mapped, block.pool)
            block.size = mapped
            rest.put_behind(block)
            self._keep_unmapped(rest)
        block.mapped = True
        self._merge(block)
        self._keep(block)
        self.reserved_bytes += mapped
        return True

    def _unmap(self, block: Block) -> None:
        """Unmap the chunks that lie wholly in a free block."""
        chunk = self._chunk(block.pool)
        first = -(-block.address // chunk) * chunk
        end = (block.address + block.size) // chunk * chunk
        if end <= first:
            return
        self._forget(block)
        if first > block.address:  # the part before stays mapped, as the block that it was
            inner = Block(first, block.address + block.size - first, block.pool)
            inner.put_behind(block)
            block.size = first - block.address
            self._keep(block)
            block = inner
        if end < block.address + block.size:
            rest = Block(end, block.address + block.size - end, block.pool)
            rest.put_behind(block)
            block.size = end - block.address
            self._keep(rest)
        unmapped = block.size
        block.mapped = False
        self._merge_unmapped(block)
        self._keep_unmapped(block)
        self.reserved_bytes -= unmapped
        self.device.unmap(chunk, unmapped // chunk)
        self.device.release(chunk, unmapped // chunk)
        if block.before is None and block.behind is None:
            self._forget_unmapped(block)  # the range is empty and goes

    def _merge_unmapped(self, block: Block) -> None:
        for other in (block.before, block.behind):
            if other is None or other.mapped:
                continue
            self._forget_unmapped(other)
            if other is block.before:
                block.address = other.address
                block.before = other.before
                if block.before is not None:
                    block.before.behind = block
            else:
                block.behind = other.behind
                if block.behind is not None:
                    block.behind.before = block
            block.size += other.size

    def _keep_unmapped(self, block: Block) -> None:
        block.mapped = False
        block.free = True
        self._unmapped[block.address] = block
        insort(block.pool.unmapped, block.address)

    def _forget_unmapped(self, block: Block) -> None:
        del self._unmapped[block.address]
        del block.pool.unmapped[bisect_left(block.pool.unmapped, block.address)]
