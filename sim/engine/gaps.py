"""Gaps between output tokens, counted in buckets that are fine enough to read quantiles from.

A run has as many gaps as output tokens; they are not kept. A gap below 2^16 ns has a bucket of its
own; above, each octave is cut into 2^15 buckets of one width (a log-linear histogram, as G. Tene's
HdrHistogram). Of every bucket the largest gap that came is kept. A quantile read from these is
the largest gap of the bucket that holds the exact one: a gap that occurred, never below the exact
one, and above it by less than 1 part in 2^15. The sum, and so the mean, is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.sim.engine.exact_sums import add_product, joined
from vsim.sim.engine.layout import LAST_NS

Int64s = NDArray[np.int64]

SUB_BITS = 15
_EXACT = 2 << SUB_BITS
_BUCKETS = (62 - SUB_BITS) << SUB_BITS  # for gaps up to 2^60
_PAGE_BITS = 8  # buckets lie side by side 256 at a time: 4 KiB

BUCKET = np.dtype([("count", np.int64), ("largest", np.int64)])
SUM = np.dtype([("high", np.int64), ("low", np.int64)])


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """The gaps of a run.

    Args:
        largest_ns: int64[k], of each bucket in use the largest gap, rising.
        counts: int64[k], gaps in it.
        total_ns: the sum of all gaps.
    """

    largest_ns: Int64s
    counts: Int64s
    total_ns: int

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Gaps)
            and self.total_ns == other.total_ns
            and np.array_equal(self.largest_ns, other.largest_ns)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none


@kernel
def count_gaps(gaps: Any, weights: Any, place: Any, used: Any, buckets: Any, total: Any) -> None:
    """Count each gap as often as its weight says.

    Args:
        gaps: int64[n], 0 <= gap <= 2^60.
        weights: int64[n].
        place: int64[_BUCKETS >> _PAGE_BITS], of each page its place in `buckets`; -1: none yet.
        used: int64[1], pages that have a place.
        buckets: BUCKET[_BUCKETS], added to; what a page without a place holds is not looked at.
        total: SUM[1], added to.
    """
    high, low = total[0]["high"], total[0]["low"]
    shift = 0
    for i in range(len(gaps)):
        weight = weights[i]
        if weight == 0:
            continue
        gap = gaps[i]
        while gap >> shift >= _EXACT:
            shift += 1
        while shift > 0 and gap >> shift < _EXACT // 2:
            shift -= 1
        bucket = (shift << SUB_BITS) + (gap >> shift)
        page = bucket >> _PAGE_BITS
        if place[page] < 0:
            place[page] = used[0]
            used[0] += 1
            first = place[page] << _PAGE_BITS
            for at in range(first, first + (1 << _PAGE_BITS)):
                buckets[at]["count"] = 0
                buckets[at]["largest"] = 0
        own = buckets[(place[page] << _PAGE_BITS) + (bucket & ((1 << _PAGE_BITS) - 1))]
        own["count"] += weight
        own["largest"] = max(own["largest"], gap)
        high, low = add_product(high, low, weight, gap)
    total[0]["high"] = high
    total[0]["low"] = low


def compile_counting() -> None:
    """Compile the kernel, or load it from the cache."""
    GapCounter().add(np.empty(0, np.int64), np.empty(0, np.int64))


class GapCounter:
    """Takes gaps batch by batch. Stateful; of 24 MiB of buckets, memory is touched as they fill."""

    def __init__(self) -> None:
        self._place = np.full(_BUCKETS >> _PAGE_BITS, -1, np.int64)
        self._used = np.zeros(1, np.int64)
        self._buckets = np.empty(_BUCKETS, BUCKET)
        self._total = np.zeros(1, SUM)
        self._previous_end = -1

    def add(self, gaps_ns: Int64s, weights: Int64s) -> None:
        """Count gaps, each as often as its weight says.

        Raises:
            ValueError: a gap is below 0 or above 2^60 ns, and so of no run.
        """
        if gaps_ns.size and not 0 <= gaps_ns.min() <= gaps_ns.max() <= LAST_NS:
            raise ValueError(f"a gap between tokens of {gaps_ns.min()} or {gaps_ns.max()} ns")
        count_gaps(gaps_ns, weights, self._place, self._used, self._buckets, self._total)

    def add_steps(self, ends_ns: Int64s, common: Int64s) -> None:
        """Count the gaps of requests that decode in successive steps, from one end to the next.

        Args:
            ends_ns: int64[n], ends of the steps after those of the last call.
            common: int64[n], how many tokens came a step's time after the one before.
        """
        if ends_ns.size:
            before = ends_ns[0] if self._previous_end < 0 else self._previous_end
            self.add(np.diff(ends_ns, prepend=before), np.ascontiguousarray(common))
            self._previous_end = int(ends_ns[-1])

    def gaps(self) -> Gaps:
        """Return what was counted."""
        pages = self._place[self._place >= 0]
        buckets = self._buckets.reshape(-1, 1 << _PAGE_BITS)[pages].ravel()
        used = buckets[buckets["count"] > 0]
        return Gaps(
            largest_ns=np.ascontiguousarray(used["largest"]),
            counts=np.ascontiguousarray(used["count"]),
            total_ns=joined(self._total["high"][0], self._total["low"][0]),
        )
