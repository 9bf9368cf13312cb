"""What blocks of a trace take of a model's KV, and which pieces of them a prefix needs."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.model import Model
from vsim.sim.schedules.cache_tiers import BlockNeeds
from vsim.sim.timing.kv_pages import KvPages
from vsim.traces.faults import refuse


@dataclass(frozen=True, slots=True)
class ModelBlocks:
    """Blocks of so many tokens of a model's KV.

    Args:
        model: whose.
        kv: its precision where none is written.
        block_tokens: of a block.
    """

    model: Model
    kv: Precision
    block_tokens: int

    @property
    def grouped(self) -> bool:
        """Whether there is anything but one group of full attention."""
        return self._pages(self.kv).grouped

    def part_bytes(self, kv: Precision | None = None, option: str = "--kv") -> Fraction:
        """Bytes of a part: of a block of equal ones, or what every group's piece is a multiple of.

        Args:
            kv: precision of the tier where they lie; None for `self.kv`.
            option: that a fault names.

        Raises:
            InputError: in that precision the groups' pieces are to each other as they are in no
                other, so that they are of no whole number of parts.
        """
        own, other = self._pages(self.kv), self._pages(kv or self.kv)
        ratios = {
            Fraction(each.bytes, mine.bytes)
            for mine, each in zip(own.groups, other.groups, strict=True)
        }
        if len(ratios) > 1:
            names = ", ".join(each.group.name for each in own.groups)
            refuse(
                option,
                f"{kv} shrinks the KV groups of {self.model.name} ({names}) by different shares;"
                f" write {self.kv}, or leave the precision out",
            )
        return ratios.pop() * own.unit_bytes

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of every group that keeps tokens."""
        return sum(each.bytes for each in self._pages(self.kv).groups if each.keeps_tokens)

    def least_bytes(self) -> int:
        """Bytes that a prefix of one block needs."""
        return sum(
            each.bytes
            for each in self._pages(self.kv).groups
            if first_needed(each.group, self.block_tokens, 1) < 1
        )

    def needs(self, longest: int) -> BlockNeeds:
        """What prefixes of up to so many blocks need, in parts."""
        pages = self._pages(self.kv)
        return BlockNeeds(
            np.array([each.bytes // pages.unit_bytes for each in pages.groups], np.int64),
            np.array(
                [
                    [first_needed(each.group, self.block_tokens, h) for h in range(longest + 1)]
                    for each in pages.groups
                ],
                np.int64,
            ),
            np.array([each.group.kind == "state" for each in pages.groups], np.bool_),
        )

    def _pages(self, kv: Precision) -> KvPages:
        return KvPages.of(self.model.kv_groups(kv), self.block_tokens)


def first_needed(group: KvGroup, block_tokens: int, blocks: int) -> int:
    """The first block of which a prefix of so many needs the group's piece; `blocks` for none.

    A window needs what the next token sees beside itself, a chunk what has come since it began, a
    state its copy at the end. What is fixed for a request is nobody else's.
    """
    tokens = blocks * block_tokens
    if group.kind == "full":
        return 0
    if group.kind == "window":
        return min(blocks, max(0, tokens - (group.tokens - 1)) // block_tokens)
    if group.kind == "chunk":
        return tokens // group.tokens * group.tokens // block_tokens
    return max(blocks - 1, 0) if group.kind == "state" else blocks
