"""`fit_numbers`: the rate and the waits of an attend's form, for many exponents at once.

Each problem is one place's mixes under one exponent from one start. All go through the same steps
of Levenberg and Marquardt side by side, so that numpy is called as often as for one of them.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Column = tuple[Floats, Floats, Floats]
"""Of one place's mixes: what HBM's part takes alone, microseconds; bytes of the slow part; what the
whole took, microseconds."""
_STARTS: Final = ((1.0, 0.02), (1.15, 0.2))  # of the largest rate that was seen, and of both waits
_STEPS: Final = 200
_LEAST_GAIN: Final = 1e-12
_MOST_DAMPING: Final = 1e8


def fit_numbers(
    places: Sequence[Column], exponents: Sequence[float], *, waits: bool
) -> tuple[Floats, Floats]:
    """Least squares of the logarithm of the error, from two starts, of which the better is taken.

    Args:
        places: mixes of each.
        exponents: to try with each place; infinite for the slowest alone.
        waits: whether parts wait for each other; else both waits are 0.

    Returns:
        float64[place, exponent], half the sum of squares; and float64[place, exponent, 3]: GB/s of
        the slow part, what HBM's part waits for it, and what it waits for HBM's.
    """
    shape = len(places), len(exponents), len(_STARTS)
    rates = np.array([np.max(slow / taken) * 1e-3 for _, slow, taken in places])
    rate, exponent, start = (
        each.ravel()
        for each in np.broadcast_arrays(
            rates[:, None, None],
            np.array(exponents)[None, :, None],
            np.arange(len(_STARTS))[None, None, :],
        )
    )
    place = np.repeat(np.arange(len(places)), shape[1] * shape[2])
    hbm_us, slow_bytes, taken_us = (_padded(column)[place] for column in zip(*places, strict=True))
    mixes = _Problems(hbm_us, slow_bytes, taken_us, exponent)
    begins = np.array(_STARTS)[start]
    wait = begins[:, 1] * waits
    x = np.stack([rate * begins[:, 0], wait, wait], axis=1)
    most = np.full(len(rate), float(waits))
    none = np.zeros(len(rate))
    low, high = (
        np.stack(each, axis=1) for each in ((0.3 * rate, none, none), (3 * rate, most, most))
    )
    cost, x = _least_squares(mixes, x, low, high)
    cost, x = cost.reshape(shape), x.reshape(*shape, 3)
    better = cost[..., 1] < cost[..., 0] - 1e-12
    return np.where(better, cost[..., 1], cost[..., 0]), np.where(
        better[..., None], x[..., 1, :], x[..., 0, :]
    )


def _padded(columns: Sequence[Floats]) -> Floats:
    """Columns of any length as rows; what is missing is 0."""
    made = np.zeros((len(columns), max(map(len, columns))))
    for row, column in zip(made, columns, strict=True):
        row[: len(column)] = column
    return made


class _Problems:
    """Mixes and an exponent for each problem; a mix whose whole took 0 is none."""

    def __init__(self, hbm_us: Floats, slow_bytes: Floats, taken_us: Floats, p: Floats) -> None:
        self.there = taken_us > 0
        self.hbm = np.where(self.there, hbm_us, 1.0)
        self.slow = slow_bytes * 1e-3
        self.taken = np.where(self.there, taken_us, 1.0)
        self.alone = np.isinf(p)[:, None]  # the slowest alone counts
        self.p = np.where(self.alone, 1.0, p[:, None])

    def off(self, x: Floats) -> tuple[Floats, Floats]:
        """float64[problem, mix], logarithm of predicted over measured, and its slopes along x."""
        rate, a, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]
        slow = self.slow / rate
        has_hbm, has_slow = self.hbm > 0, slow > 0
        one = np.where(has_hbm, self.hbm + a * slow, 0.0)
        other = np.where(has_slow, slow + b * self.hbm, 0.0)
        high = np.maximum(one, other)
        powers = (one / high) ** self.p, (other / high) ** self.p
        total = powers[0] + powers[1]
        us = np.where(self.alone, high, high * total ** (1 / self.p))
        # The logarithm's slope along a part: its share of the sum of powers, over the part.
        shares = (
            np.where(self.alone, one >= other, powers[0] / total),
            np.where(self.alone, one < other, powers[1] / total),
        )
        along_one = shares[0] * self.there / np.where(has_hbm, one, np.inf)
        along_other = shares[1] * self.there / np.where(has_slow, other, np.inf)
        slopes = np.stack(
            [
                -(along_one * a + along_other) * slow / rate,
                along_one * slow,
                along_other * self.hbm,
            ],
            axis=2,
        )
        return np.log(us / self.taken) * self.there, slopes


def _least_squares(mixes: _Problems, x: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Half the least sum of squares of each problem, and where it is, between bounds.

    A number at a bound that it would leave stays there; a step is cut off at the bounds, and taken
    if it makes the sum less. A problem ends where steps gain nothing any more, whatever the others
    still do.
    """
    off, slopes = mixes.off(x)
    cost = (off**2).sum(axis=1) / 2
    damping = np.full(len(x), 1e-3)
    ended = np.zeros(len(x), dtype=bool)
    own = np.eye(x.shape[1], dtype=bool)
    for _ in range(_STEPS):
        along = np.einsum("kni,kn->ki", slopes, off)
        stays = ((x <= low) & (along >= 0)) | ((x >= high) & (along <= 0))
        square = np.einsum("kni,knj->kij", slopes, slopes)
        square[stays[:, :, None] | stays[:, None, :]] = 0.0
        diagonal = square[:, own]
        square[:, own] = diagonal * (1 + damping[:, None]) + stays + 1e-300
        step = np.linalg.solve(square, np.where(stays, 0.0, -along)[:, :, None])[:, :, 0]
        tried = np.clip(x + step, low, high)
        new_off, new_slopes = mixes.off(tried)
        new_cost = (new_off**2).sum(axis=1) / 2
        gain = cost - new_cost
        taken = (gain > 0) & ~ended
        ended |= (np.abs(gain) <= _LEAST_GAIN * cost) | (damping >= _MOST_DAMPING)
        damping = np.where(taken, damping / 10, damping * 8)
        x = np.where(taken[:, None], tried, x)
        off = np.where(taken[:, None], new_off, off)
        slopes = np.where(taken[:, None, None], new_slopes, slopes)
        cost = np.where(taken, new_cost, cost)
        if ended.all():
            break
    return cost, x
