"""Closed-form floors under any policy's time: looser than the certificate, and done by hand.

Let a step read n pages beside w pages' worth of weights, and x of the pages from HBM. Under max()
it takes max((w + x)·f, (n − x)·s) at least, f and s being the time of a page on HBM and on the
channel. Without a limit on x that is least where both are equal, at (w + n)·f·s / (f + s), or w·f
if weights alone take longer. At most the k pages that HBM holds and the v that the step writes can
be read from it, so the channel serves n − k − v or more, which take (n − k − v)·s. A p-norm is no
less than max(). Nothing but whole numbers is subtracted, so that each float is within 8 units in
the last place of what it stands for; each sum is lowered by 2^−46 of itself, eight times as much.
"""

import math
from dataclasses import dataclass

import numpy as np

from vsim.sim.schedules.cost import births
from vsim.sim.schedules.step_time import ROUNDING
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads


@dataclass(frozen=True, slots=True)
class Floors:
    """Times that no policy is below, seconds, under max() (and so under any p-norm).

    Attributes:
        bandwidth_s: Σ max(w/B1, (w + n_t)/(B1 + B2)): all bytes at both bandwidths together.
        capacity_s: the same, with at most k + (pages written at t) hits a step.
    """

    bandwidth_s: float
    capacity_s: float


def floors(reads: PageReads, tiers: TwoTiers) -> Floors:
    """Compute both floors; they know neither which pages are read nor what moving them costs."""
    count = reads.reads_per_step
    weight = tiers.weight_bytes / reads.page_bytes
    fast = reads.page_bytes / tiers.hbm_bytes_per_s
    slow = reads.page_bytes / tiers.slow_bytes_per_s
    both = 1.0 / (1.0 / fast + 1.0 / slow)
    together = np.maximum(weight * fast, (weight + count) * both)
    missed = np.maximum(count - tiers.hbm_pages - births(reads), 0)
    capped = np.maximum(together, missed * slow)
    down = 1.0 - float(ROUNDING)
    return Floors(math.fsum(together) * down, math.fsum(capped) * down)
