"""The order of values that sorting would bring them into, equal ones as they are."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

RUN = 16
"""Values that insertion sorts before runs are merged."""


@kernel
def stable_order(values: Floats) -> Int64s:
    """Places of the values, the smallest first, of equal ones the first, and NaN last.

    A merge sort. numba's own, `np.argsort(kind="mergesort")`, takes three seconds to compile.
    """
    n = len(values)
    order, merged = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        j = i
        while j % RUN > 0 and _before(values, i, order[j - 1]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    width = RUN
    while width < n:
        for first in range(0, n, 2 * width):
            middle, end = min(first + width, n), min(first + 2 * width, n)
            left, right = first, middle
            for at in range(first, end):
                if left == middle or (right < end and _before(values, order[right], order[left])):
                    merged[at] = order[right]
                    right += 1
                else:
                    merged[at] = order[left]
                    left += 1
        order, merged = merged, order
        width *= 2
    return order


@kernel
def _before(values: Floats, later: int, earlier: int) -> bool:
    """Whether the value of the later of two places comes first."""
    a, b = values[later], values[earlier]
    return a < b or (np.isnan(b) and not np.isnan(a))
