"""What is measured of one kernel, one row each."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One kernel under one load.

    Args:
        probe: which part: attention, small, product, sampling, clock, graph, pool, trace.
        kernel: what ran.
        variant: how: compiled or custom; cold (operands in device memory) or warm (in the cache).
        us: time of one call, microseconds, at the median, the least and the most of `n` samples.
        n: how many samples.
        tokens: rows of the activations.
        decodes: sequences that add one token.
        context: tokens that each of those attends to, its own included.
        prefill: new tokens of each chunk.
        chunks: how many chunks.
        prefix: tokens that a chunk finds in the cache.
        heads: query heads.
        kv_heads: key and value heads.
        outputs: features that a product makes.
        inputs: features that it takes.
        std: standard deviation of the activations.
        at_s: seconds since the load began.
        duty: share of the time under load.
        sm_mhz: the multiprocessors' clock meanwhile.
        watts: the board's power meanwhile.
        bytes_moved: what the kernel must read and write at least.
        calls: how often it ran, where a count is what was measured.
    """

    probe: str
    kernel: str
    variant: str
    us: tuple[float, float, float]
    n: int
    tokens: int | None = None
    decodes: int | None = None
    context: int | None = None
    prefill: int | None = None
    chunks: int | None = None
    prefix: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    outputs: int | None = None
    inputs: int | None = None
    std: float | None = None
    at_s: float | None = None
    duty: float | None = None
    sm_mhz: float | None = None
    watts: float | None = None
    bytes_moved: int | None = None
    calls: int | None = None


def of_samples(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return median, least and most."""
    return statistics.median(samples), min(samples), max(samples)
