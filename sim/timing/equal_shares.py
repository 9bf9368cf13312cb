"""The tokens of a decode batch in equal shares over the blocks of one launch.

Requests × KV heads lie one behind the other as a line of slices. The line is cut into as many equal
shares as the GPU holds blocks at once, so that one long request fills the GPU as well as many short
ones, and all end together. This project's decode kernel is given these shares
(`vsim.hwbackend.attention.planner`), and what a batch of unlike contexts takes follows from them
(`decode_shares`). It stands on numpy alone, since what measures imports it too.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SLICE_TOKENS: Final = 16
"""Kernels read whole slices, which lie within one page."""
LEAST_SLICES: Final = 4
"""A request and head is not cut into shares below this."""
SNAP_SLICES: Final = 4
"""No piece shorter than this is cut off at either end of a request."""

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EqualShares:
    """The line and where it is cut, in slices.

    Args:
        begins, ends: int64[pairs], of each request and head; heads of a request side by side.
        edges: int64[pieces + 1], of the pieces, each of which is of one pair and one share.
        block: int64[pieces], the share in which each lies.
    """

    begins: Int64s
    ends: Int64s
    edges: Int64s
    block: Int64s

    @property
    def pair(self) -> Int64s:
        """int64[pieces], the request and head of each."""
        return np.searchsorted(self.ends, self.edges[:-1], side="right")


def equal_shares(
    tokens: NDArray[np.integer], kv_heads: int, blocks: int, least_slices: int = LEAST_SLICES
) -> EqualShares:
    """Share a batch out.

    Args:
        tokens: int[n], n > 0, of each request's context, in the batch's order.
        kv_heads: of one layer.
        blocks: of the launch; where there is too little work the last ones have no share.
        least_slices: no pair is cut into shares below this.
    """
    of_pair = np.repeat(-(-tokens.astype(np.int64) // SLICE_TOKENS), kv_heads)
    ends = np.cumsum(of_pair)
    begins, total = ends - of_pair, int(ends[-1])
    used = min(blocks, max(len(of_pair), total // max(least_slices, 1)))
    cuts = _snapped(np.arange(1, used) * total // used, begins, ends)
    edges = np.unique(np.concatenate([begins, cuts, ends[-1:]]))
    return EqualShares(begins, ends, edges, np.searchsorted(cuts, edges[:-1], side="right"))


def _snapped(cuts: Int64s, begins: Int64s, ends: Int64s) -> Int64s:
    """Move cuts that lie just behind a pair's begin, or just before its end, onto it."""
    if not len(cuts):
        return cuts
    pair = np.searchsorted(ends, cuts, side="right")
    after, before = cuts - begins[pair], ends[pair] - cuts
    near_begin = (after < SNAP_SLICES) & (after <= before)
    return np.where(near_begin, begins[pair], np.where(before < SNAP_SLICES, ends[pair], cuts))
