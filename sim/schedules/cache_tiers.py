"""CacheTiers: the memories that a prefix cache spreads over, and BlockNeeds: what a prefix takes.

Room is counted in parts, of which each block takes a whole number: a block of equal blocks is one
part; of a model whose layers keep KV in several groups a part is the greatest size of which every
group's piece of a block is a multiple. A tier that keeps KV in fewer bits holds more parts in as
many bytes.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CacheTiers:
    """Memories from the GPU's own down.

    Args:
        names: of each.
        parts: how many parts each holds.
        load_s: seconds that a request waits for a part which it finds there: 0 of the first.
    """

    names: tuple[str, ...]
    parts: tuple[int, ...]
    load_s: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) == len(self.parts) == len(self.load_s):
            raise ValueError("tiers need a name, room and a load each")
        if min(self.parts) < 0 or min(self.load_s) < 0 or self.load_s[0] != 0:
            raise ValueError("room and loads must be 0 or more, and 0 the first tier's load")

    def without_loads(self) -> "CacheTiers":
        """The same, from all of which things come up at once."""
        return replace(self, load_s=tuple(Fraction(0) for _ in self.load_s))

    @property
    def all_parts(self) -> int:
        """What all of them hold together."""
        return sum(self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class BlockNeeds:
    """Which pieces of its blocks a prefix needs, to be found.

    Every group of layers has a piece of each block. Full attention needs those of all blocks, a
    window or a chunk those of the last few, a state that of the last one alone: the copy that was
    made there.

    Args:
        parts: int64[groups], what a piece of each group takes.
        first: int64[groups, longest + 1], the first block of which a prefix of so many needs it.
        made_at_end: bool[groups], whether requests make a copy at their prompts' ends alone, as of
            a state. No bound looks at that: it holds for copies at any block's end.
    """

    parts: _Ints
    first: _Ints
    made_at_end: NDArray[np.bool_]

    @classmethod
    def of_equal_blocks(cls, longest: int) -> "BlockNeeds":
        """A part a block, and all of a prefix's blocks needed."""
        return cls(
            np.ones(1, np.int64), np.zeros((1, longest + 1), np.int64), np.zeros(1, np.bool_)
        )

    @property
    def longest(self) -> int:
        """Blocks of the longest prefix that this says something about."""
        return int(self.first.shape[1]) - 1

    @property
    def most_parts(self) -> int:
        """What price of a part, times this, any prefix worth looking at costs at most.

        Where a group needs all blocks, a search stops at the first whose price is above all worth,
        so that one block's parts count; else all that a prefix needs.
        """
        longest = np.arange(self.longest + 1)
        if (self.first[self.parts > 0] == 0).all(axis=1).any():
            return int(self.parts.sum())
        return int((self.parts[:, None] * (longest - self.first)).sum(axis=0).max())
