"""What finding a block of a prompt saves: a hit, or what computing it would have taken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vsim.sim.model.model import Model
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
    """

    name: str
    heading: str
    of_block: Callable[[int], int | float]
    whole: bool = False


HITS: Final = Value("hits", "hits, % of all blocks", lambda depth: 1, whole=True)
"""Each block found counts one."""


def prefill_flops(model: Model, block_tokens: int) -> Value:
    """FLOPs of a block's products, and of its tokens' attention to themselves and all before."""
    products = block_tokens * model.flops_per_token
    inside = block_tokens * (block_tokens + 1) // 2

    def of_block(depth: int) -> int:
        return products + model.flops_per_pair * (block_tokens * depth * block_tokens + inside)

    return Value("prefill_flops", "prefill FLOPs saved, % of all", of_block)


def prefill_seconds(cost: StepCost, block_tokens: int) -> Value:
    """Seconds that a block adds to full steps of 8,192 tokens, by the timing model."""
    curves, step = cost.curves, _FULL_STEP_TOKENS
    token_ns = (curves.products.at(step) + curves.small.at(step)) / step

    def of_block(depth: int) -> float:
        before = depth * block_tokens + block_tokens / 2
        return block_tokens * (token_ns + curves.prefill.at(step, before) / step) / 1e9

    return Value("prefill_seconds", "prefill seconds saved, % of all", of_block)
