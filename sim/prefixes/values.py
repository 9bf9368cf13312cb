"""What finding a block of a prompt saves: a hit, or what computing it would have taken."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.model.model import Model
from vsim.sim.timing.near_terms import near_terms
from vsim.sim.timing.step_cost import StepCost

_FULL_STEP_TOKENS: Final = 8192


@dataclass(frozen=True, slots=True)
class Value:
    """A way to count what blocks save.

    Args:
        name: what is counted, as results name it.
        heading: what tables write.
        of_block: of the block at a depth, counted from 0.
        whole: whether it is a whole number of any sum of blocks.
        loads: whether what loads take counts against it.
        of_first: of the first so many blocks at once, the same numbers; where that is quicker.
    """

    name: str
    heading: str
    of_block: Callable[[int], int | float | Fraction]
    whole: bool = False
    loads: bool = False
    of_first: Callable[[int], list[float]] | None = None

    def known_to(self, depth: int) -> "Value":
        """The same for blocks above a depth, each worked out once."""
        if self.of_first is not None:
            return replace(self, of_block=self.of_first(depth).__getitem__)
        return replace(self, of_block=[self.of_block(at) for at in range(depth)].__getitem__)


HITS: Final = Value("hits", "hits, % of all blocks", lambda depth: 1, whole=True)
"""Each block found counts one."""


def prefill_flops(model: Model, block_tokens: int) -> Value:
    """FLOPs of a block's products, and of its tokens' attention to themselves and all before.

    Layers that see a part of the context only (`near_terms`) attend to no more than they see.
    """
    products, a_pair = block_tokens * model.flops_per_token, model.flops_per_pair
    near = near_terms(model, "bf16", 1)
    share = Fraction(near.layers_share).limit_denominator(1 << 20)

    def pairs(last: int) -> int:
        """Keys that the tokens before `last` attend to, themselves included."""
        return last * (last + 1) // 2

    def near_pairs(last: int) -> int:
        return pairs(last) - pairs(max(last - near.reach, 0))

    def of_block(depth: int) -> Fraction:
        first, last = depth * block_tokens, (depth + 1) * block_tokens
        seen = (1 - share) * (pairs(last) - pairs(first))
        seen += share * (near_pairs(last) - near_pairs(first))
        return products + a_pair * seen

    return Value("prefill_flops", "prefill FLOPs saved, % of all", of_block)


def prefill_seconds(cost: StepCost, block_tokens: int) -> Value:
    """Seconds that a block adds to full steps of 8,192 tokens, by the timing model."""
    curves, step = cost.curves, _FULL_STEP_TOKENS
    token_ns = (curves.products.at(step) + curves.small.at(step)) / step

    def of_each(depths: NDArray[np.float64]) -> list[float]:
        before = depths * block_tokens + block_tokens / 2
        attention_ns = curves.prefill.at_each(step, before)
        if curves.near_prefill is not None:
            near = np.minimum(before, cost.window_tokens)
            attention_ns = attention_ns + curves.near_prefill.at_each(step, near)
        seconds: list[float] = (block_tokens * (token_ns + attention_ns / step) / 1e9).tolist()
        return seconds

    def of_block(depth: int) -> float:
        return of_each(np.array([depth], np.float64))[0]

    def of_first(blocks: int) -> list[float]:
        return of_each(np.arange(blocks, dtype=np.float64))

    heading = "prefill seconds saved, % of all"
    return Value("prefill_seconds", heading, of_block, loads=True, of_first=of_first)
