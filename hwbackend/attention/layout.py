"""PageLayout: where keys and values lie in a page. DecodeBatch: who attends to which pages."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.timing.equal_shares import SLICE_TOKENS
from vsim.traces.faults import Fault, InputError

BF16_BYTES: Final = 2
HEAD_DIMS: Final = (64, 128)
MOST_HEADS_A_KV_HEAD: Final = 8


class UnsupportedAttentionError(InputError):
    """These kernels can't do what was asked for; the message names it and what they can do."""

    def __init__(self, found: str) -> None:
        super().__init__([Fault("attention", found)])


@dataclass(frozen=True, slots=True)
class PageLayout:
    """A page in bf16: `[layer][k, v][kv_head][token][head_dim]`, or token before head.

    Args:
        page_tokens: tokens of a page, a multiple of 16.
        kv_heads: heads of keys and values.
        head_dim: 64 or 128.
        layers: layers whose keys and values one page holds.
        head_major: whether one head's tokens lie side by side; else vLLM's order within a page.
    """

    page_tokens: int
    kv_heads: int
    head_dim: int
    layers: int = 1
    head_major: bool = True

    def __post_init__(self) -> None:
        if self.page_tokens < SLICE_TOKENS or self.page_tokens % SLICE_TOKENS:
            raise UnsupportedAttentionError(
                f"pages of {self.page_tokens} tokens: the kernels read pages of a multiple of "
                f"{SLICE_TOKENS} tokens"
            )
        if self.head_dim not in HEAD_DIMS:
            raise UnsupportedAttentionError(
                f"heads of {self.head_dim}: the kernels read heads of 64 and 128 (no MLA)"
            )
        if self.kv_heads < 1 or self.layers < 1:
            raise UnsupportedAttentionError(
                f"{self.kv_heads} KV heads in {self.layers} layers: both must be 1 or more"
            )

    @property
    def row_bytes(self) -> int:
        """One token's keys of one head."""
        return self.head_dim * BF16_BYTES

    @property
    def token_stride(self) -> int:
        """Bytes from one token to the next, of the same head."""
        return self.row_bytes * (1 if self.head_major else self.kv_heads)

    @property
    def head_stride(self) -> int:
        """Bytes from one head to the next, of the same token."""
        return self.row_bytes * (self.page_tokens if self.head_major else 1)

    @property
    def v_offset(self) -> int:
        """Bytes from a layer's keys to its values."""
        return self.kv_heads * self.page_tokens * self.row_bytes

    @property
    def layer_stride(self) -> int:
        """Bytes of a layer in a page."""
        return 2 * self.v_offset

    @property
    def page_bytes(self) -> int:
        """Bytes of a page, all layers."""
        return self.layers * self.layer_stride


@dataclass(frozen=True, slots=True)
class DecodeBatch:
    """Requests and their pages, in FlashInfer's convention.

    Args:
        indptr: int32[n + 1], where each request's pages begin in `indices`.
        indices: int32, slots. Requests may share pages, and a request may list any subset.
        last_page_len: int32[n], tokens in the last page that is listed, 1 to page_tokens; all pages
            before it are full.
    """

    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    last_page_len: NDArray[np.int32]

    @classmethod
    def of(cls, indptr: ArrayLike, indices: ArrayLike, last_page_len: ArrayLike) -> Self:
        """Make a batch of anything that numpy takes."""
        arrays = (np.ascontiguousarray(x, np.int32) for x in (indptr, indices, last_page_len))
        return cls(*arrays)

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.last_page_len)

    def tokens(self, page_tokens: int) -> NDArray[np.int64]:
        """Return the tokens that each request attends to.

        Raises ValueError naming the first request whose pages make no sense.
        """
        if len(self.indptr) != self.requests + 1 or self.indptr[0] != 0:
            raise ValueError(
                f"indptr has {len(self.indptr)} entries for {self.requests} requests: it must "
                f"have {self.requests + 1} and begin with 0"
            )
        if int(self.indptr[-1]) != len(self.indices):
            raise ValueError(f"indptr ends at {self.indptr[-1]} of {len(self.indices)} indices")
        starts = self.indptr.astype(np.int64)
        pages = starts[1:] - starts[:-1]
        _refuse(pages < 1, "attends to no page; leave it out of the batch")
        last = self.last_page_len.astype(np.int64)
        _refuse((last < 1) | (last > page_tokens), f"has a last page not of 1 to {page_tokens}")
        if len(self.indices) and int(self.indices.min()) < 0:
            raise ValueError(f"slot {int(self.indices.min())} among the indices")
        found: NDArray[np.int64] = (pages - 1) * page_tokens + last
        return found


def _refuse(wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        raise ValueError(f"request {int(wrong.argmax())} {why}")
