"""`TwoTiers`: the memory that a placement is judged on, and where pages are at the start."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from vsim.traces.page_reads import PageReads

LEAST_BYTES_PER_S, MOST_BYTES_PER_S = 1e-30, 1e30
"""Beyond any memory, and far within what floats hold of the times that follow."""

Start = Literal["first-fill", "empty", "free"]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TwoTiers:
    """HBM with room for some pages, and a slower tier whose pages are attended in place.

    A step takes `norm(HBM time, slow tier time)`, where both read at once; the norm inf is max().

    Attributes:
        hbm_bytes_per_s: read bandwidth of HBM, B1.
        slow_bytes_per_s: bandwidth of the channel to the slow tier, each way, B2.
        hbm_pages: pages that HBM holds, k.
        weight_bytes: pinned traffic that every step reads from HBM beside pages, w.
        exclusive: False: the slow tier keeps a copy of every page, so an eviction is free and so
            is keeping a page that was just streamed in. True: a page is in one tier only, so every
            promotion and every demotion is paid as one page on the channel.
        duplex: True: demotions and writes to the slow tier have the channel's other direction to
            themselves. False: all share one direction.
        norm: p of (Σ tᵢᵖ)^(1/p), 1 or more; inf is max().
    """

    hbm_bytes_per_s: float
    slow_bytes_per_s: float
    hbm_pages: int
    weight_bytes: int = 0
    exclusive: bool = False
    duplex: bool = True
    norm: float = math.inf

    def __post_init__(self) -> None:
        for name in ("hbm_bytes_per_s", "slow_bytes_per_s"):
            value = getattr(self, name)
            if not LEAST_BYTES_PER_S <= value <= MOST_BYTES_PER_S:
                most = f"{LEAST_BYTES_PER_S:g} to {MOST_BYTES_PER_S:g}"
                raise ValueError(f"{name} must be from {most}, not {value}")
        if self.hbm_pages < 0 or self.weight_bytes < 0:
            raise ValueError("hbm_pages and weight_bytes must not be negative")
        if not self.norm >= 1:
            raise ValueError(f"norm must be 1 or more, not {self.norm}")

    def ratio(self) -> float:
        """B1 / B2: how many pages HBM reads in the time of one page on the channel."""
        return self.hbm_bytes_per_s / self.slow_bytes_per_s

    def by_layer(self, layers: int) -> "TwoTiers":
        """The same memory for reads whose steps were split into layers: weights are split too."""
        return replace(self, weight_bytes=self.weight_bytes // layers)


def first_fill_order(reads: PageReads) -> npt.NDArray[np.int64]:
    """Page numbers of the prompt in the order a prefill writes them: token by token, all layers."""
    prompt = np.flatnonzero(reads.born < 0)
    keys = (reads.kv_head, reads.layer, reads.request, reads.position)
    return prompt[np.lexsort(tuple(key[prompt] for key in keys))]


def may_start_resident(reads: PageReads, tiers: TwoTiers, start: Start) -> Bools:
    """bool[n_pages]: the pages that may be in HBM before the first step.

    first-fill: the first k pages of the prompt, and they are there. empty: none. free: a policy
    chooses any k pages of the prompt, so all of them may be.
    """
    mask = np.zeros(reads.n_pages, np.bool_)
    if start == "first-fill":
        mask[first_fill_order(reads)[: tiers.hbm_pages]] = True
    elif start == "free":
        mask[reads.born < 0] = True
    return mask
