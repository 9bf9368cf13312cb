"""Closed-form floors under any policy's time: looser than the certificate, and done by hand."""

import math
from dataclasses import dataclass

import numpy as np

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
    count = reads.reads_per_step.astype(np.float64)
    weight = tiers.weight_bytes / reads.page_bytes
    fast = reads.page_bytes / tiers.hbm_bytes_per_s
    slow = reads.page_bytes / tiers.slow_bytes_per_s
    # The split of a step's reads that ends on both tiers at once.
    hits = np.clip((count * slow - weight * fast) / (fast + slow), 0.0, count)
    together = np.maximum((weight + hits) * fast, (count - hits) * slow)
    written = np.bincount(reads.born[reads.born >= 0], minlength=reads.steps)[: reads.steps]
    few = np.minimum(hits, tiers.hbm_pages + written)
    capped = np.maximum((weight + few) * fast, (count - few) * slow)
    return Floors(math.fsum(together), math.fsum(capped))
