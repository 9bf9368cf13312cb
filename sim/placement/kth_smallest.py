"""The k-th smallest of some values: what is kept of many is decided by it."""

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Floats = npt.NDArray[np.float64]


@kernel
def kth_smallest(values: Floats, k: int) -> float:
    """The value that `k` others come before, by Hoare's FIND (CACM 4(7), 1961); reorders `values`.

    `np.partition` finds the same and takes six seconds to compile.
    """
    low, high = 0, len(values) - 1
    while low < high:
        middle = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < middle:
                i += 1
            while middle < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return float(values[k])
