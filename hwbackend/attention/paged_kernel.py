"""PagedKernel: what attention kernels over pages have in common, and hold until they are closed."""

import ctypes
import math

from vsim.hwbackend.attention.layout import (
    MOST_HEADS_A_KV_HEAD,
    PageLayout,
    UnsupportedAttentionError,
)
from vsim.hwbackend.attention.room import Room
from vsim.hwbackend.cuda.held import Held, do_all


class PageArguments(ctypes.Structure):
    """The first arguments of each kernel: queries, results and where a layer's pages lie."""

    _fields_ = (
        ("q", ctypes.c_uint64),
        ("out", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("slot_bytes", ctypes.c_int64),
        ("v_offset", ctypes.c_int64),
        ("token_stride", ctypes.c_int64),
        ("head_stride", ctypes.c_int64),
    )


class PagedKernel(Held):
    """A kernel for one shape of model. What it takes of the GPU it holds until `close`.

    Args:
        layout: of a page.
        heads: query heads, 1 to 8 for each KV head.
        slot_bytes: from one slot to the next; a page's bytes where not given.
        multiple: what slots are a multiple of, in bytes.
    """

    def __init__(
        self, layout: PageLayout, heads: int, slot_bytes: int | None, multiple: int
    ) -> None:
        self.layout = layout
        self.heads = heads
        self.group = group_of(heads, layout)
        self.slot_bytes = layout.page_bytes if slot_bytes is None else slot_bytes
        if self.slot_bytes < layout.page_bytes or self.slot_bytes % multiple:
            raise UnsupportedAttentionError(
                f"slots of {self.slot_bytes:,} bytes: they must hold a page of "
                f"{layout.page_bytes:,} and be a multiple of {multiple:,}"
            )
        self._room = Room()
        self._held: list[Held] = [self._room]

    def close(self) -> None:
        """Give everything back."""
        do_all([each.close for each in reversed(self._held)])

    @property
    def scale(self) -> float:
        """What products of queries and keys are multiplied by; kernels take powers of two."""
        return 1 / (math.log(2) * math.sqrt(self.layout.head_dim))

    def page_arguments(self, q: int, out: int, base: int, layer: int) -> PageArguments:
        """Return the first arguments of a launch.

        Args:
            q, out: addresses of the queries and of the results.
            base: address of slot 0.
            layer: of the page's layers. Raises IndexError where there is no such layer.
        """
        layout = self.layout
        if not 0 <= layer < layout.layers:
            raise IndexError(f"layer {layer} of pages with {layout.layers}")
        return PageArguments(
            q=q,
            out=out,
            keys=base + layer * layout.layer_stride,
            slot_bytes=self.slot_bytes,
            v_offset=layout.v_offset,
            token_stride=layout.token_stride,
            head_stride=layout.head_stride,
        )


def group_of(heads: int, layout: PageLayout) -> int:
    """Return the query heads of one KV head, refusing what the kernels can't do."""
    group, left = divmod(heads, layout.kv_heads)
    if left or not 1 <= group <= MOST_HEADS_A_KV_HEAD:
        raise UnsupportedAttentionError(
            f"{heads} query heads on {layout.kv_heads} KV heads: the kernels do 1 to "
            f"{MOST_HEADS_A_KV_HEAD} for each, the same for all"
        )
    return group
