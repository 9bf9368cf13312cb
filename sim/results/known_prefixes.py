"""How much of each prompt an earlier one had: what a cache without limits would find."""

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel

Int64s = NDArray[np.int64]
Ids = NDArray[np.int64] | NDArray[np.int32]


@kernel
def known_ids(offsets: Int64s, codes: Ids, distinct: int) -> Int64s:
    """Count the ids of each request that some earlier request has too.

    An id stands for its whole prefix, so those of a request that are known come first in it.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        codes: int64[m] or int32[m], the ids, from 0.
        distinct: a number that all codes are below.
    """
    seen = np.zeros(distinct, np.bool_)
    known = np.zeros(len(offsets) - 1, np.int64)
    for row in range(len(known)):
        first, end = offsets[row], offsets[row + 1]
        low, high = first, end
        while low < high:
            middle = (low + high) // 2
            if seen[codes[middle]]:
                low = middle + 1
            else:
                high = middle
        known[row] = low - first
        for at in range(low, end):
            seen[codes[at]] = True
    return known


def compile_counting() -> None:
    """Compile it, or load it from the cache, so that no run's time holds that."""
    nothing = np.zeros(1, np.int64)
    known_ids(nothing, nothing[:0], 0)
    known_ids(nothing, np.zeros(0, np.int32), 0)
