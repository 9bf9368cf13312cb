"""Where worth rises with depth, so that of leading blocks at one price only the ends need a look.

What leading blocks save, less a price that is the same for each, is a convex function of their
number as long as none is worth less than the one before: it is highest at an end.
"""

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel

_Ints = NDArray[np.int64]


@kernel
def rising_ends(units: _Ints) -> _Ints:
    """Of each block, the one behind the last of those that follow it and none of which falls.

    Args:
        units: int64[n + 1], what the first 0, 1, 2, … blocks are worth together.

    Returns:
        int64[n].
    """
    blocks = len(units) - 1
    ends = np.empty(blocks, np.int64)
    for i in range(blocks - 1, -1, -1):
        ends[i] = i + 1
        if i + 1 < blocks and units[i + 2] - units[i + 1] >= units[i + 1] - units[i]:
            ends[i] = ends[i + 1]
    return ends
