"""`step_seconds`: how long steps take from what their tiers take, and how far floats are off it.

A step takes ‖x‖_p = (Σ xᵢᵖ)^(1/p) over the times xᵢ of its tiers; p = ∞ is max().

**No power overflows.** With h the largest time, ‖x‖_p = h · (Σ (xᵢ/h)ᵖ)^(1/p): all bases are in
[0, 1], one of them is 1, and a power that underflows is less than 2^−1074 of a sum that is 1 or
more. For p up to 10^6 and beyond, and for p = 1 + 2^−52, this is as exact as for p = 2.

**Rounding.** With u = 2^−53 and K ≤ 16 tiers: a time xᵢ is bytes over a bandwidth, off by 4u at
most; xᵢ/h by 9u; its power, by p·9u from its base and 8u from `power` (4 units in the last place,
which numpy holds its functions to); the sum by that and K·u; its root, by 1/p of that and 8u: p
cancels. With the product that is less than 64u in all, and `fsum` rounds a sum of steps once. So
a time computed here is within a share of 2^−46 of the true one: `ROUNDING`.
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

ROUNDING = Fraction(1, 2**46)
"""How far, relative, a time in floats may be from the true one."""


def step_seconds(times_s: Floats, norm: float) -> Floats:
    """float64[T]: the time of each step from float64[K, T], its tiers' times."""
    high: Floats = times_s.max(axis=0)
    if math.isinf(norm):
        return high
    shares = times_s / np.where(high > 0, high, 1.0)
    found: Floats = high * np.sum(shares**norm, axis=0) ** (1.0 / norm)
    return found


def seconds_of_pages(
    pages: Int64s, page_bytes: int, bytes_per_s: float, pinned_bytes: int = 0
) -> Floats:
    """float64[T]: the time of pages and pinned bytes at a bandwidth.

    In floats, since pages of 2^40 bytes leave 64 bits with the eight millionth.
    """
    return np.asarray((pinned_bytes + pages * float(page_bytes)) / bytes_per_s, np.float64)


def longest_seconds(time_s: float) -> Fraction:
    """No less than the true time of steps that took `time_s` in floats."""
    return Fraction(time_s) * (1 + ROUNDING)
