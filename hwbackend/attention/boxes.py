"""Boxes: the tensor map by which the copy engine of a multiprocessor reads slices of a page."""

import ctypes
from dataclasses import dataclass
from typing import Final, Self

from vsim.hwbackend.attention.layout import SLICE_TOKENS, PageLayout
from vsim.hwbackend.cuda.calls import call

_ROW_ELEMENTS: Final = 64  # 128 bytes, the width of the swizzle
_ROWS: Final = 2**31 - 1  # a coordinate's most; the kernel reads only pages that are there


@dataclass(frozen=True, slots=True)
class Boxes:
    """A tensor map as a kernel's argument: 64 elements, tokens, halves of a token, heads.

    A box is 16 tokens of one head, swizzled by 128 bytes: `[half][token][64]`.
    """

    argument: "ctypes.Array[ctypes.c_uint64]"

    @classmethod
    def of(cls, keys: int, layout: PageLayout, l2_fetch: int) -> Self:
        """Make the map of all tokens from an address on, one `token_stride` behind another."""
        from cuda.bindings import driver

        halves = layout.head_dim // _ROW_ELEMENTS
        heads = 1 if layout.head_major else layout.kv_heads
        wide, narrow = driver.cuuint64_t, driver.cuuint32_t
        made = call(
            "cuTensorMapEncodeTiled",
            driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            4,
            keys,
            [wide(x) for x in (_ROW_ELEMENTS, _ROWS, halves, heads)],
            [wide(x) for x in (layout.token_stride, 2 * _ROW_ELEMENTS, layout.row_bytes)],
            [narrow(x) for x in (_ROW_ELEMENTS, SLICE_TOKENS, halves, 1)],
            [narrow(1)] * 4,
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            getattr(driver.CUtensorMapL2promotion, f"CU_TENSOR_MAP_L2_PROMOTION_L2_{l2_fetch}B"),
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            detail=f"pages at {keys:#x}",
        )
        return cls((ctypes.c_uint64 * 16)(*(int(word) for word in made.opaque)))
