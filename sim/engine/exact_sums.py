"""Sums that stay exact where 64 bits do not hold them.

Times are ns below 2^60 (`layout.LAST_NS`), counts below 2^42; a sum of the one times the other may
pass 2^63. One way is used everywhere: a number is cut into parts whose sums fit int64, and the
parts are put together as Python integers, which have no limit.
"""

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import borrowing_inline

Int64s = NDArray[np.int64]

LOW_BITS = 40
"""A running sum in kernels is `high << LOW_BITS | low`."""
_HALF_BITS = LOW_BITS // 2
_CHUNK = 1 << 20
_LIMB_BITS = 21


@borrowing_inline
def add_product(high: int, low: int, count: int, length: int) -> tuple[int, int]:
    """Add count * length to a sum in two parts; count below 2^42, length and all lengths 2^60."""
    mask = (1 << _HALF_BITS) - 1
    middle = count * ((length >> _HALF_BITS) & mask)
    low += count * (length & mask) + ((middle & mask) << _HALF_BITS)
    high += count * (length >> LOW_BITS) + (middle >> _HALF_BITS) + (low >> LOW_BITS)
    return high, low & ((1 << LOW_BITS) - 1)


def joined(high: int, low: int) -> int:
    """Return a sum that was kept in two parts."""
    return (int(high) << LOW_BITS) + int(low)


def exact_sum(values: NDArray[np.integer]) -> int:
    """Return the sum of integers, whatever its size."""
    total = 0
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK].astype(np.int64)
        total += (int((part >> 32).sum()) << 32) + int((part & 0xFFFFFFFF).sum())
    return total


def exact_dot(values: NDArray[np.integer], weights: NDArray[np.integer]) -> int:
    """Return the sum of values times weights, whatever its size."""
    total = 0
    for start in range(0, values.size, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        ours, theirs = _limbs(values[chunk]), _limbs(weights[chunk])
        for i, one in enumerate(ours):
            for j, other in enumerate(theirs):
                total += int((one * other).sum()) << (_LIMB_BITS * (i + j))
    return total


def _limbs(values: NDArray[np.integer]) -> tuple[Int64s, ...]:
    """Cut int64 into three parts of 21 bits, the last with the sign."""
    wide, mask = values.astype(np.int64), (1 << _LIMB_BITS) - 1
    return wide & mask, (wide >> _LIMB_BITS) & mask, wide >> (2 * _LIMB_BITS)
