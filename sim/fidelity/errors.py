"""Errors: how far a prediction is from what was measured, request by request.

An error is signed and relative: (predicted - measured) / measured, so that -0.2 is a fifth too
fast. TTFT and E2E are from a request's arrival, TPOT is the mean gap between its tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

LATENCIES: Final = ("ttft", "tpot", "e2e")
PHASES: Final = ("queue", "prefill", "decode")
GAPS: Final = ("mean", "p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class Latency:
    """The errors of one latency over a run's requests, of all its repeats.

    Args:
        count: requests of which both values are known.
        measured_ms: mean, p50, p90 and p99.
        predicted_ms: the same.
        median: of the absolute relative errors.
        p90: of the same.
        mean: of the same.
        signed: relative error of the mean: what the run's sum is off by.
        signed_median: median of the signed relative errors.
        spread: median absolute difference of a request between two repeats, relative to their
            mean; None of a single repeat. An error below it says nothing.
    """

    count: int
    measured_ms: Mapping[str, float]
    predicted_ms: Mapping[str, float]
    median: float
    p90: float
    mean: float
    signed: float
    signed_median: float
    spread: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """Where the time of a mean request went, and how much of its E2E's error that is.

    Args:
        measured_ms: mean.
        predicted_ms: mean.
        share: (predicted - measured) over the measured mean E2E: the phases' shares add up to its
            signed error.
    """

    measured_ms: float
    predicted_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class Total:
    """A figure of the whole run, a value a repeat."""

    measured: tuple[float, ...]
    predicted: tuple[float, ...]

    @property
    def signed(self) -> float:
        """Relative error of the sum over repeats; of nothing measured, how many were predicted."""
        measured, predicted = sum(self.measured), sum(self.predicted)
        return (predicted - measured) / measured if measured else float(predicted)

    @property
    def spread(self) -> float | None:
        """How far two repeats differ, relative to their mean; None of a single repeat."""
        pairs = [abs(a - b) / ((a + b) / 2) for a, b in combinations(self.measured, 2) if a + b > 0]
        return max(pairs, default=None if len(self.measured) < 2 else 0.0)


@dataclass(frozen=True, slots=True)
class Errors:
    """How far the prediction of one run is off.

    Args:
        requests: requests in all repeats.
        unserved: requests that the prediction rejects, which the server served.
        latencies: by name: ttft, tpot and e2e, those that were measured.
        gaps: relative errors of the gaps between tokens: mean, p50, p90, p99, those known.
        phases: queue, prefill and decode; empty where it is not known when requests were scheduled.
        makespan_s: from the first arrival to the last token.
        output_tokens_per_s: over the makespan.
        preemptions: how many there were; None where they were not counted.
        steps: how many there were; None where they were not counted.
        hbm_hits: share of the prompt tokens that were found in HBM, in percent; None where unknown.
        lower_hits: the same of the tiers under it.
        uncounted_hits: requests left out of both, since the prediction preempts them: it adds up
            what every admission finds, and the server counted the first.
        step_parts_ms: where the time of the prediction's mean step went.
    """

    requests: int
    unserved: int
    latencies: Mapping[str, Latency]
    gaps: Mapping[str, float]
    phases: Mapping[str, Phase]
    makespan_s: Total
    output_tokens_per_s: Total
    preemptions: Total | None
    steps: Total | None
    hbm_hits: Total | None
    lower_hits: Total | None
    uncounted_hits: int
    step_parts_ms: Mapping[str, float]


def points(hits: Total) -> float:
    """Return by how many points a share of hits is off, signed, the mean of all repeats."""
    return float(np.mean(hits.predicted) - np.mean(hits.measured))
