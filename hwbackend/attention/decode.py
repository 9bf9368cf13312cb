"""PagedDecode: attention of one new token a request over its pages, in one launch a layer."""

import ctypes
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsim.hwbackend.attention.layout import (
    DecodeBatch,
    PageLayout,
    UnsupportedAttentionError,
)
from vsim.hwbackend.attention.paged_kernel import PageArguments, PagedKernel
from vsim.hwbackend.attention.planner import ITEM_FIELDS, Plan, plan
from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.buffers import DeviceBuffer, fill
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import close_after
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Stream
from vsim.sim.timing.equal_shares import SLICE_TOKENS

SOURCE: Final = Path(__file__).parent / "decode.cu"
_INT_BYTES: Final = 4
_RESERVED_BYTES: Final = 1024  # shared memory that the system takes of each block
_WEIGHT_BYTES: Final = 64  # of a partial result: 8 maxima and 8 sums


class _Arguments(ctypes.Structure):
    _anonymous_ = ("pages",)
    _fields_ = (
        ("pages", PageArguments),
        ("block_items", ctypes.c_uint64),
        ("items", ctypes.c_uint64),
        ("indices", ctypes.c_uint64),
        ("partials", ctypes.c_uint64),
        ("weights", ctypes.c_uint64),
        ("arrivals", ctypes.c_uint64),
        ("kv_heads", ctypes.c_int32),
        ("scale", ctypes.c_float),
    )


@dataclass(frozen=True, slots=True)
class DecodeVariant:
    """How the kernel is built; results differ by rounding alone.

    Args:
        warps: of a block; they take an item's slices in turn.
        stages: slices that a warp holds in shared memory, at least 2.
        blocks: of one multiprocessor at once.
        early: whether a launch may begin while the one before it ends; what it reads before that
            is its plan alone.
        together: partial results that a thread reads at once when it merges.
    """

    warps: int = 4
    stages: int = 3
    blocks: int = 2
    early: bool = True
    together: int = 8

    def defines(self, group: int, layout: PageLayout) -> dict[str, int | str]:
        """Return what the source is compiled with."""
        return {
            "GROUP": group,
            "HEAD_DIM": layout.head_dim,
            "PAGE_SLICES": layout.page_tokens // SLICE_TOKENS,
            "WARPS": self.warps,
            "STAGES": self.stages,
            "BLOCKS": self.blocks,
            "EARLY": int(self.early),
            "TOGETHER": self.together,
            "ARGUMENT_BYTES": ctypes.sizeof(_Arguments),
            "SHARED_BYTES": self.shared_bytes(group, layout.head_dim),
        }

    def shared_bytes(self, group: int, head_dim: int) -> int:
        """Return the dynamic shared memory of a block, as decode.cu lays it out."""
        stages = self.warps * self.stages * 2 * SLICE_TOKENS * head_dim * 2
        warp_result = group * (head_dim + 4) + 16
        quads = group * head_dim // 4
        crews = max(1, self.warps * 32 // quads)
        results = max(self.warps * warp_result, crews * quads * 6)
        return stages + results * 4 + 16


def variant_for(group: int, layout: PageLayout, shared_bytes: int) -> DecodeVariant:
    """Choose a variant that fits a GPU whose blocks may take so much shared memory.

    The first ones are what was fastest on an H200; the others are for smaller ones.
    """
    narrow = layout.head_dim == 64
    best = DecodeVariant(warps=6, stages=4, together=16) if narrow else DecodeVariant(together=11)
    if group > 4 and not narrow:
        best = DecodeVariant(warps=8, blocks=1, together=9)
    for variant in (best, DecodeVariant(blocks=1), DecodeVariant(blocks=1, stages=2)):
        needed = variant.shared_bytes(group, layout.head_dim) + _RESERVED_BYTES
        if variant.blocks * needed <= shared_bytes + _RESERVED_BYTES:
            return variant
    raise UnsupportedAttentionError(
        f"a GPU whose blocks have {shared_bytes:,} bytes of shared memory: the decode kernel takes "
        f"{needed - _RESERVED_BYTES:,}"
    )


class PagedDecode(PagedKernel):
    """Decode attention for one shape of model. Holds memory of the GPU until `close`.

    Launches of one object must follow each other on one stream: they share room for partial
    results.

    Args:
        context: the GPU.
        layout: of a page.
        heads: query heads, 1 to 8 for each KV head.
        slot_bytes: from one slot to the next; a page's bytes where not given.
        variant: how the kernel is built; as measured best where not given.
    """

    def __init__(
        self,
        context: Context,
        layout: PageLayout,
        heads: int,
        *,
        slot_bytes: int | None = None,
        variant: DecodeVariant | None = None,
    ) -> None:
        super().__init__(layout, heads, slot_bytes, layout.token_stride)
        device = context.device
        if variant is None:
            variant = variant_for(self.group, layout, device.shared_bytes)
        if device.capability < (9, 0):
            variant = replace(variant, early=False)  # no such launches before Hopper
        self.variant = variant
        self.blocks = device.multiprocessors * variant.blocks
        self._shared_bytes = variant.shared_bytes(self.group, layout.head_dim)
        context.make_current()
        defines = variant.defines(self.group, layout)
        self._plan: Plan | None = None
        try:
            module = Module(compiled(SOURCE, architecture(device.capability), defines).code)
            self._held.append(module)
            self._kernel = module.kernel("paged_decode")
            self._kernel.allow_shared(self._shared_bytes)
            slots = 2 * self.blocks  # a share has at most two pieces of split requests: its ends
            self._partials = self._take(slots * self.group * layout.head_dim * 4)
            self._weights = self._take(slots * _WEIGHT_BYTES)
            self._arrivals = self._take(slots * _INT_BYTES)
            stream = Stream()
            self._held.append(stream)
            fill(self._arrivals.address, 0, self._arrivals.bytes, stream)
            stream.synchronize()
            stream.close()
        except BaseException as error:
            close_after(error, self.close)
            raise

    def plan(self, batch: DecodeBatch) -> Plan:
        """Share a batch out over the blocks that this GPU holds at once."""
        return plan(batch, self.layout, self.blocks)

    def reserve(self, requests: int, indices: int) -> None:
        """Take room, before the first plan, for all plans of at most so many requests and indices.

        Then captured launches stay right whatever is bound later; larger plans are refused.
        """
        items = requests * self.layout.kv_heads + self.blocks
        self._room.reserve("block_items", (self.blocks + 1) * _INT_BYTES)
        self._room.reserve("items", items * len(ITEM_FIELDS) * _INT_BYTES)
        self._room.reserve("indices", indices * _INT_BYTES)

    def bind(self, plan: Plan, stream: Stream) -> None:
        """Upload a plan for the launches that follow.

        Captured launches keep their addresses. Where nothing was reserved and a larger plan takes
        new room, which waits for the stream, graphs captured before must not be launched again.
        """
        if plan.blocks != self.blocks:
            raise ValueError(f"a plan for {plan.blocks} blocks, where launches have {self.blocks}")
        self._room.put("block_items", plan.block_items, stream)
        self._room.put("items", plan.items, stream)
        self._room.put("indices", plan.batch.indices, stream)
        self._plan = plan

    def launch(self, stream: Stream, q: int, out: int, base: int, layer: int = 0) -> None:
        """Attend, for one layer.

        Args:
            stream: where it goes.
            q: address of bf16 `[requests][heads][head_dim]`.
            out: address for the result, of the same shape.
            base: address of slot 0.
            layer: of the page's layers.
        """
        if self._plan is None:
            raise RuntimeError("launch before bind: there is no plan to carry out")
        pages = self.page_arguments(q, out, base, layer)
        if self._plan.batch.requests == 0:
            return
        self._kernel.launch(
            (self.blocks, 1, 1),
            (self.variant.warps * 32, 1, 1),
            stream,
            [self._arguments(pages)],
            self._shared_bytes,
            programmatic=self.variant.early,
        )

    def _arguments(self, pages: PageArguments) -> _Arguments:
        return _Arguments(
            pages=pages,
            block_items=self._room.address("block_items"),
            items=self._room.address("items"),
            indices=self._room.address("indices"),
            partials=self._partials.address,
            weights=self._weights.address,
            arrivals=self._arrivals.address,
            kv_heads=self.layout.kv_heads,
            scale=self.scale,
        )

    def _take(self, size_bytes: int) -> DeviceBuffer:
        buffer = DeviceBuffer(size_bytes)
        self._held.append(buffer)
        return buffer
