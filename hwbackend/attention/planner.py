"""plan: the tokens of a batch in equal shares over the blocks of one launch.

How they are cut says `vsim.sim.timing.equal_shares`. A share's pieces are *items*: of one request,
one head, a range of tokens. An item that is a whole request writes its output; others write a
partial result to a slot, and the block that comes last of a request and head merges them in their
order.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.sim.timing.equal_shares import LEAST_SLICES, SLICE_TOKENS, equal_shares

ITEM_FIELDS: Final = (
    "request", "head", "pages_at", "first", "last", "slot", "first_slot", "slots"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Which block does what.

    Args:
        batch: whose plan it is.
        items: int32[n, 8], columns as `ITEM_FIELDS`: tokens `first` to `last` of a request, whose
            pages begin at `pages_at` of the indices; one of `slots` partial results, the first of
            which is `first_slot`; `slots` is 1 where the item is the whole.
        block_items: int32[blocks + 1], where each block's items begin.
        partials: slots for partial results in all.
    """

    batch: DecodeBatch
    items: NDArray[np.int32]
    block_items: NDArray[np.int32]
    partials: int

    @property
    def blocks(self) -> int:
        """Blocks of the launch; the last ones have no items where there is too little work."""
        return len(self.block_items) - 1

    def slices(self) -> NDArray[np.int64]:
        """Return how many slices each block reads."""
        each = -((self.items[:, 3].astype(np.int64) - self.items[:, 4]) // SLICE_TOKENS)
        ends = np.concatenate([[0], np.cumsum(each)])[self.block_items]
        return np.diff(ends)


def plan(
    batch: DecodeBatch,
    layout: PageLayout,
    blocks: int,
    least_slices: int = LEAST_SLICES,
) -> Plan:
    """Share a batch out over `blocks`; none is cut into less than `least_slices` of 16 tokens.

    It depends on these arguments alone. Raises ValueError for a batch that makes no sense.
    """
    if blocks < 1:
        raise ValueError(f"{blocks} blocks: a launch has at least one")
    tokens = batch.tokens(layout.page_tokens)
    if not len(tokens):
        nothing = np.zeros((0, len(ITEM_FIELDS)), np.int32)
        return Plan(batch, nothing, np.zeros(blocks + 1, np.int32), 0)
    heads = layout.kv_heads
    shares = equal_shares(tokens, heads, blocks, least_slices)
    starts, stops = shares.edges[:-1], shares.edges[1:]
    pair, begins = shares.pair, shares.begins

    pieces = np.bincount(pair, minlength=len(begins))
    split = pieces[pair] > 1
    slot = np.cumsum(split) - 1
    first_of_pair = np.searchsorted(pair, np.arange(len(begins)))
    items = np.zeros((len(starts), len(ITEM_FIELDS)), np.int32)
    request = pair // heads
    items[:, 0] = request
    items[:, 1] = pair % heads
    items[:, 2] = batch.indptr[request]
    items[:, 3] = (starts - begins[pair]) * SLICE_TOKENS
    items[:, 4] = np.minimum((stops - begins[pair]) * SLICE_TOKENS, tokens[request])
    items[:, 5] = np.where(split, slot, 0)
    items[:, 6] = np.where(split, slot[first_of_pair[pair]], 0)
    items[:, 7] = pieces[pair]
    counts = np.bincount(shares.block, minlength=blocks)
    block_items = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Plan(batch, items, block_items, int(split.sum()))
