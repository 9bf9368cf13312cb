"""The models of allocators by name, each with its settings, and how one is made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.allocators.allocator import Allocator
from vsim.sim.allocators.buddy import BuddyAllocator
from vsim.sim.allocators.caching import LARGE_SEGMENT_BYTES, CachingAllocator, CachingOptions
from vsim.sim.allocators.contiguous import HeapAllocator, SegmentAllocator
from vsim.sim.allocators.device import MIB, PAGE_BYTES, DeviceMemory, Outside
from vsim.sim.allocators.expandable import ExpandableAllocator
from vsim.sim.allocators.kv_caches import PagedKv, RangesKv, StaticKv
from vsim.sim.allocators.preload import PreloadAllocator
from vsim.sim.allocators.rounding import Divisions, read_divisions
from vsim.sim.allocators.vmm_pool import VmmPoolAllocator
from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bytes

_MOST_ADDRESSES_BYTES = 1 << 41


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model works with.

    Args:
        capacity_bytes: the GPU's memory; None for no end.
        recorded: sizes and addresses of the segments that a recording's driver gave.
        private: streams that are of private pools (`Events.private`).
    """

    capacity_bytes: int | None = None
    recorded: Iterable[tuple[int, int]] = ()
    private: frozenset[int] = frozenset()

    def device(self) -> DeviceMemory:
        """Memory that nothing is taken from yet."""
        return DeviceMemory(self.capacity_bytes, self.recorded)


class _Settings(BaseModel):
    """Settings of a model: no unknown keys, no changes after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def limit_bytes(self) -> int | None:
        """What the model itself allows, where it does."""
        return None

    @property
    def holds_sequences(self) -> bool:
        """Whether it is a KV cache, for allocations that grow."""
        return False


class Heap(_Settings):
    """Contiguous allocation over one range of addresses."""

    model: Literal["first-fit", "best-fit"]
    """How a hole is chosen."""

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return HeapAllocator(place.device(), "first" if self.model == "first-fit" else "best")


class Segments(_Settings):
    """Contiguous allocation within segments that go back when they are empty."""

    model: Literal["segments"]
    fit: Literal["first", "best"] = "best"
    """How a hole is chosen."""
    segment: Bytes = PAGE_BYTES
    """The least size of a segment, a multiple of 2 MiB."""

    @model_validator(mode="after")
    def _whole_pages(self) -> Self:
        _multiple("segment", self.segment, PAGE_BYTES)
        return self

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return SegmentAllocator(place.device(), self.fit, self.segment)


class Caching(_Settings):
    """PyTorch's caching allocator; settings as in PYTORCH_CUDA_ALLOC_CONF, sizes with a unit."""

    model: Literal["caching", "expandable"]
    """With segments from cudaMalloc, or with expandable_segments:True."""
    max_split_size: Bytes | None = None
    """Blocks of this size and more are not split; left out: all are."""
    max_non_split_rounding: Bytes = LARGE_SEGMENT_BYTES
    """How much larger than a request such a block may be. Only with max_split_size."""
    roundup_power2_divisions: Literal[0, 2, 4, 8, 16, 32, 64] | Text = 0
    """Parts that the interval between two powers of two is cut into, for rounding; 0: none. Or by
    size as PyTorch writes it: [64:8,256:4,>:1] in quotes."""
    garbage_collection_threshold: float = Field(default=0.0, ge=0, lt=1)
    """Share of memory_limit from which idle segments go. Only with memory_limit."""
    memory_limit: Bytes | None = None
    """What the process is allowed (set_per_process_memory_fraction); left out: all there is."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        given, faults = self.model_fields_set, list[tuple[Place, str]]()
        try:
            _divisions(self.roundup_power2_divisions)
        except ValueError as error:
            faults.append((("roundup_power2_divisions",), str(error)))
        if "max_non_split_rounding" in given and self.max_split_size is None:
            said = "does nothing without max_split_size; leave it out"
            faults.append((("max_non_split_rounding",), said))
        if self.garbage_collection_threshold and self.memory_limit is None:
            said = "does nothing without memory_limit; leave it out, or write both"
            faults.append((("garbage_collection_threshold",), said))
        if self.max_split_size is not None and self.max_split_size < LARGE_SEGMENT_BYTES:
            said = "is below 20 MiB, which PyTorch refuses; write 20MiB or more"
            faults.append((("max_split_size",), said))
        if faults:
            raise FieldsError(faults)
        return self

    @property
    def limit_bytes(self) -> int | None:
        """See `_Settings.limit_bytes`."""
        return self.memory_limit

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        options = CachingOptions(
            max_split_bytes=self.max_split_size,
            rounding_bytes=self.max_non_split_rounding,
            power2_divisions=_divisions(self.roundup_power2_divisions),
            collection_threshold=self.garbage_collection_threshold,
            limit_bytes=self.memory_limit,
        )
        if self.model == "caching":
            return CachingAllocator(place.device(), options, place.private)
        whole = place.capacity_bytes or _MOST_ADDRESSES_BYTES
        return ExpandableAllocator(place.device(), options, place.private, device_bytes=whole)


class Buddy(_Settings):
    """The buddy system."""

    model: Literal["buddy"]
    arena: Bytes = 1 << 30
    """What is taken from the driver at once, a power of two of 2 MiB or more."""

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.arena & (self.arena - 1) or self.arena < PAGE_BYTES:
            raise FieldsError([(("arena",), "is no power of two from 2MiB up; write it like 1GiB")])
        return self

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return BuddyAllocator(place.device(), self.arena)


class VmmPool(_Settings):
    """Chunks of physical memory, gathered under ranges of addresses."""

    model: Literal["vmm-pool"]
    chunks: tuple[Bytes, ...] = Field(default=(PAGE_BYTES,), min_length=1, max_length=8)
    """Classes of chunks, ascending, each a multiple of the one before and of 2 MiB."""

    @model_validator(mode="after")
    def _classes(self) -> Self:
        before = PAGE_BYTES
        for index, size in enumerate(self.chunks):
            if size % before or (index and size == before):
                shown = f"{before // MIB}MiB" if before % MIB == 0 else f"{before}B"
                said = f"is no multiple of {shown}, the size before; write them ascending"
                raise FieldsError([(("chunks", index), said)])
            before = size
        return self

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return VmmPoolAllocator(place.device(), self.chunks)


class Preload(_Settings):
    """What the preload library does under a program in manage mode."""

    model: Literal["preload"]
    pool: Bytes | None = None
    """What it keeps unused at most (--pool); left out: a quarter of the memory."""
    peer: Bytes | None = None
    """A peer's memory for blocks that find no room (--spill peer); left out: none goes there."""
    host: Bytes | None = None
    """The host's memory for them, after a peer's (--spill host); left out: none goes there."""

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        named: tuple[tuple[Outside, int | None], ...] = (("peer", self.peer), ("host", self.host))
        beside = {name: DeviceMemory(size) for name, size in named if size is not None}
        return PreloadAllocator(DeviceMemory(place.capacity_bytes, beside=beside), self.pool)


class KvModel(_Settings):
    """A KV cache; handles are sequences, and their bytes grow."""

    @property
    def holds_sequences(self) -> bool:
        """See `_Settings.holds_sequences`."""
        return True


class KvStatic(KvModel):
    """Room for the longest sequence, taken when one comes."""

    model: Literal["kv-static"]
    longest: Bytes
    """KV of the longest sequence."""

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return StaticKv(place.device(), self.longest)


class KvPaged(KvModel):
    """Blocks that lie anywhere."""

    model: Literal["kv-paged"]
    block: Bytes = 2 * MIB
    """KV of a block of tokens: 16 tokens of Llama 3.1 8B in bf16 are 2 MiB."""

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return PagedKv(place.device(), self.block)


class KvRanges(KvModel):
    """Ranges of addresses that chunks are mapped under."""

    model: Literal["kv-ranges"]
    chunk: Bytes = PAGE_BYTES
    """Size of a chunk, a multiple of 2 MiB."""
    ranges: int = Field(default=1, ge=1, le=1 << 16)
    """Ranges that a sequence's bytes are spread over evenly: 2 for each layer in vAttention."""

    @model_validator(mode="after")
    def _whole_pages(self) -> Self:
        _multiple("chunk", self.chunk, PAGE_BYTES)
        return self

    def make(self, place: Memory) -> Allocator:
        """Make the model, empty."""
        return RangesKv(place.device(), self.chunk, self.ranges)


Settings = Annotated[
    Heap | Segments | Caching | Buddy | VmmPool | Preload | KvStatic | KvPaged | KvRanges,
    Field(discriminator="model"),
]

GENERAL = ("first-fit", "best-fit", "segments", "caching", "expandable", "buddy", "vmm-pool")
NAMED = (*GENERAL, "preload")
SEQUENCES = ("kv-static", "kv-paged", "kv-ranges")


def _divisions(written: int | str) -> Divisions:
    return read_divisions(written) if isinstance(written, str) else written


def _multiple(name: str, size: int, unit: int) -> None:
    if size % unit:
        raise FieldsError([((name,), f"is no multiple of {unit // MIB} MiB; write it like 2MiB")])
