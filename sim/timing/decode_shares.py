"""What a batch of unlike contexts takes beyond the table's batch of equal ones.

This project's decode kernel cuts the line of all (request, KV head) pairs into equal shares of
tokens, one a block (`equal_shares`). A share in which many short contexts lie has many pieces, each
of which costs a block time of its own to begin and end:

    block = pieces · piece + rounds · round

where a round is one slice of 16 tokens for each warp. With t the time by the table and L the
longest block's, a batch takes (t^q + L^q)^(1/q), over what that is for as many equal contexts,
which the table has. `piece`, `round` and q are fitted to ragged batches that a calibration
measured; tables without them, those of other stacks, take batches by their mean alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.timing.equal_shares import equal_shares
from vsim.sim.timing.head_shapes import HeadShape
from vsim.traces.faults import refuse

KEY: Final = "decode_shares"
"""Of a table's metadata."""

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DecodeShares:
    """How a head shape's batches are shared out, and what that costs.

    Args:
        heads, kv_heads, head_dim: the shape.
        blocks: of a launch.
        warps: of a block.
        piece_ns: of a block, for each piece of a request and KV head.
        round_ns: of a block, for each slice of every warp.
        exponent: q.
    """

    heads: int
    kv_heads: int
    head_dim: int
    blocks: int
    warps: int
    piece_ns: float
    round_ns: float
    exponent: float

    def longest_ns(self, contexts: Sequence[int]) -> float:
        """The longest block's time."""
        pieces, rounds = shared_out(tuple(contexts), self.kv_heads, self.blocks, self.warps)
        return float((pieces * self.piece_ns + rounds * self.round_ns).max())

    def factor(self, even_ns: float, contexts: Sequence[int]) -> float:
        """By how much a batch takes longer than as many equal contexts, which take `even_ns`."""
        if len(set(contexts)) < 2 or even_ns <= 0:
            return 1.0
        equal = [round(sum(contexts) / len(contexts))] * len(contexts)
        q = self.exponent
        mine, theirs = (self.longest_ns(each) / even_ns for each in (contexts, equal))
        # Of large powers only the larger matters; the ratio is taken by their logarithms.
        high, low = (np.logaddexp(0.0, q * np.log(each)) for each in (mine, theirs))
        return float(np.exp((high - low) / q))


@lru_cache(maxsize=1024)
def shared_out(
    contexts: tuple[int, ...], kv_heads: int, blocks: int, warps: int
) -> tuple[Int64s, Int64s]:
    """Pieces, and rounds of all of them, of each block that has any. Not to be written to.

    Kept, since a fit asks for the same few batches thousands of times.

    Args:
        contexts: tokens of each request, in the batch's order.
        kv_heads: of one layer.
        blocks: of the launch.
        warps: of a block; they take a piece's slices in turn.
    """
    shares = equal_shares(np.asarray(contexts, np.int64), kv_heads, blocks)
    rounds = -(-np.diff(shares.edges) // warps)
    return np.bincount(shares.block), np.bincount(shares.block, rounds).astype(np.int64)


def shares_text(found: Sequence[DecodeShares]) -> str:
    """As a table's metadata has them."""
    return json.dumps([asdict(each) for each in found], sort_keys=True)


def shares_of(tables: KernelTables, shape: HeadShape) -> DecodeShares | None:
    """A head shape's; None where the table has none of it.

    Raises:
        InputError: the table's metadata is damaged.
    """
    wanted = shape.heads, shape.kv_heads, shape.head_dim
    for each in _read(tables.file, tables.metadata.get(KEY, "[]")):
        if (each.heads, each.kv_heads, each.head_dim) == wanted and not shape.window:
            return each
    return None


@lru_cache(maxsize=64)
def _read(file: str, text: str) -> tuple[DecodeShares, ...]:
    try:
        found = tuple(DecodeShares(**each) for each in json.loads(text))
        good = all(
            isinstance(value, int | float) and 0 < value < 2**40
            for each in found
            for value in asdict(each).values()
        )
    except (ValueError, TypeError, RecursionError):
        good = False
    if not good:
        refuse(file, "is not what `vsim calibrate` wrote; calibrate again", place=f"vsim.{KEY}")
    return found
