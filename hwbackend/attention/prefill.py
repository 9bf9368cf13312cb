"""PagedPrefill: causal attention of chunks of new tokens at the ends of their contexts."""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import (
    DecodeBatch,
    PageLayout,
)
from vsim.hwbackend.attention.paged_kernel import PageArguments, PagedKernel, group_of
from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import close_after
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Stream
from vsim.sim.timing.equal_shares import SLICE_TOKENS

SOURCE: Final = Path(__file__).parent / "prefill.cu"
_WARPS: Final = 8
ROWS: Final = 16 * _WARPS  # of a block: tokens times the query heads of a KV head
_TILE_TOKENS: Final = 64
_STAGES: Final = 3
_LOAD_BYTES: Final = 16  # of a load; pages begin at a multiple


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """Which block does what.

    Args:
        batch: the pages; every context ends with its new tokens, whose keys and values are there.
        new_tokens: int32[n], of each request, at least 1.
        items: int32[blocks, 8]: first query of the request, head, first of its pages, context, new
            tokens, tile of 128 rows, two unused. Those with the longest contexts come first.
    """

    batch: DecodeBatch
    new_tokens: NDArray[np.int32]
    items: NDArray[np.int32]


def plan_prefill(
    batch: DecodeBatch, new_tokens: NDArray[np.int32], layout: PageLayout, heads: int
) -> PrefillPlan:
    """Cut the new tokens of a batch into tiles. It depends on these arguments alone.

    Raises ValueError for a batch that makes no sense.
    """
    group = group_of(heads, layout)
    context = batch.tokens(layout.page_tokens)
    new = np.ascontiguousarray(new_tokens, np.int64)
    if len(new) != batch.requests:
        raise ValueError(f"{len(new)} counts of new tokens for {batch.requests} requests")
    wrong = (new < 1) | (new > context)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"request {at} has {new[at]} new tokens in a context of {context[at]}")
    tiles = -(-new * group // ROWS)
    request = np.repeat(np.arange(len(new)), tiles)
    tile = np.arange(int(tiles.sum())) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    reads = context[request] - new[request]
    reads += np.minimum(new[request], -(-(tile + 1) * ROWS // group))
    order = np.argsort(-reads, kind="stable")
    items = np.zeros((len(order), layout.kv_heads, 8), np.int32)
    items[:, :, 0] = (np.cumsum(new) - new)[request][order][:, None]
    items[:, :, 1] = np.arange(layout.kv_heads)
    items[:, :, 2] = batch.indptr[request][order][:, None]
    items[:, :, 3] = context[request][order][:, None]
    items[:, :, 4] = new[request][order][:, None]
    items[:, :, 5] = tile[order][:, None]
    return PrefillPlan(batch, new.astype(np.int32), items.reshape(-1, 8))


def prefill_defines(group: int, layout: PageLayout) -> dict[str, int | str]:
    """Return what the source is compiled with."""
    page_slices = layout.page_tokens // SLICE_TOKENS
    return {
        "GROUP": group,
        "HEAD_DIM": layout.head_dim,
        "PAGE_SLICES": page_slices,
        "WARPS": _WARPS,
        "ARGUMENT_BYTES": ctypes.sizeof(_Arguments),
        "SHARED_BYTES": shared_bytes(layout),
    }


def shared_bytes(layout: PageLayout) -> int:
    """Return the shared memory of a block: tiles of keys and values."""
    return _STAGES * 2 * _TILE_TOKENS * layout.row_bytes


class _Arguments(ctypes.Structure):
    _anonymous_ = ("pages",)
    _fields_ = (
        ("pages", PageArguments),
        ("items", ctypes.c_uint64),
        ("indices", ctypes.c_uint64),
        ("kv_heads", ctypes.c_int32),
        ("scale", ctypes.c_float),
    )


class PagedPrefill(PagedKernel):
    """Prefill attention for one shape of model. Holds memory of the GPU until `close`.

    A block walks a whole context: a short chunk on a long context leaves multiprocessors idle.

    Args:
        context: the GPU.
        layout: of a page.
        heads: query heads, 1 to 8 for each KV head.
        slot_bytes: from one slot to the next; a page's bytes where not given.
    """

    def __init__(
        self, context: Context, layout: PageLayout, heads: int, *, slot_bytes: int | None = None
    ) -> None:
        super().__init__(layout, heads, slot_bytes, _LOAD_BYTES)
        self._shared_bytes = shared_bytes(layout)
        self._plan: PrefillPlan | None = None
        context.make_current()
        defines = prefill_defines(self.group, layout)
        code = compiled(SOURCE, architecture(context.device.capability), defines).code
        try:
            module = Module(code)
            self._held.append(module)
            self._kernel = module.kernel("paged_prefill")
            self._kernel.allow_shared(self._shared_bytes)
        except BaseException as error:
            close_after(error, self.close)
            raise

    def plan(self, batch: DecodeBatch, new_tokens: NDArray[np.int32]) -> PrefillPlan:
        """Cut the new tokens of a batch into tiles."""
        return plan_prefill(batch, new_tokens, self.layout, self.heads)

    def bind(self, plan: PrefillPlan, stream: Stream) -> None:
        """Upload a plan for the launches that follow; graphs captured before keep the old grid."""
        self._room.put("items", plan.items, stream)
        self._room.put("indices", plan.batch.indices, stream)
        self._plan = plan

    def launch(self, stream: Stream, q: int, out: int, base: int, layer: int = 0) -> None:
        """Attend, for one layer.

        Args:
            stream: where it goes.
            q: address of bf16 `[new tokens of all requests][heads][head_dim]`.
            out: address for the result, of the same shape.
            base: address of slot 0.
            layer: of the page's layers.
        """
        if self._plan is None:
            raise RuntimeError("launch before bind: there is no plan to carry out")
        pages = self.page_arguments(q, out, base, layer)
        if not len(self._plan.items):
            return
        arguments = _Arguments(
            pages=pages,
            items=self._room.address("items"),
            indices=self._room.address("indices"),
            kv_heads=self.layout.kv_heads,
            scale=self.scale,
        )
        grid = (len(self._plan.items), 1, 1)
        self._kernel.launch(grid, (32 * _WARPS, 1, 1), stream, [arguments], self._shared_bytes)
