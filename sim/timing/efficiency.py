"""Times of shapes that were not measured: the efficiency of the nearest that were.

A kernel of bound b (`roofline`) that took t has the efficiency (b + floor) / t, where floor is the
least time that was measured of it: a launch, whose share grows as kernels get small. So a time is

    t = (b + floor) / exp(Σ w_i · log e_i),    w_i ∝ 1 / distance_i^2

over the nearest measured shapes (three; of products four, of attention two), each one's efficiency
interpolated between the points of its axes, linearly in their logarithms; beyond the last points
the efficiency stays and the bound grows. A shape that was measured gets its own times back, to half
a step of their codes (0.54 %).

The scheme was chosen by leaving whole shapes out (`reports/kernels`). Of H200's products, in the
median: without the floor 4.1 % for 2.7 in bf16; planes fitted through eight neighbours instead of a
mean, no gain in bf16, and 2.0 % for 2.7 in fp8, which is not worth a second scheme.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.kernel_tables import Curves
from vsim.sim.timing.roofline import Floats

_Bounds = Callable[[NDArray[np.int64], Floats, Floats], Floats]
"""Bound in ns of a shape at each pair of points: (shape, first[A, 1], second[1, B]) -> [A, B]."""


@dataclass(frozen=True, slots=True)
class Surface:
    """The efficiency of one shape over the axes.

    Args:
        first: float64[A], points of the first axis.
        second: float64[B], points of the second axis; [0] where there is one axis.
        log_efficiency: float64[A, B].
        floor_ns: the least time measured of the kernel.
        variant: the curves' that it was made of.
    """

    first: Floats
    second: Floats
    log_efficiency: Floats
    floor_ns: float
    variant: str

    def time_ns(self, bound_ns: Floats, first: Floats, second: Floats | None = None) -> Floats:
        """Time of kernels of these bounds at points of the axes, nanoseconds.

        Args:
            bound_ns: float64[n], without the floor.
            first: float64[n], above zero.
            second: float64[n], above zero; None where there is one axis.
        """
        efficiency = _between(self, first, second)
        time: Floats = (bound_ns + self.floor_ns) * np.exp(-efficiency)
        return time


def surface(
    curves: Curves, places: Floats, wanted: Floats, bound_ns: _Bounds, nearest: int = 3
) -> Surface:
    """Weigh the nearest measured shapes' efficiencies.

    Args:
        curves: what was measured.
        places: float64[S, d], where each measured shape lies; distances are taken there.
        wanted: float64[d], where the wanted shape lies.
        bound_ns: the bound of a measured shape, without the floor.
        nearest: measured shapes that count.
    """
    squared = ((places - wanted) ** 2).sum(axis=1)
    chosen = np.argsort(squared, kind="stable")[:nearest]
    if squared[chosen[0]] == 0:
        chosen = chosen[:1]
        weights = np.ones(1)
    else:
        weights = 1 / squared[chosen]
        weights /= weights.sum()
    a, b = curves.first[:, None], curves.second[None, :]
    total = np.zeros((len(curves.first), len(curves.second)))
    for shape, weight in zip(chosen, weights, strict=True):
        bound = np.broadcast_to(bound_ns(curves.shapes[shape], a, b), total.shape)
        each = np.log(bound + curves.floor_ns) - curves.log_ns[shape]
        total += weight * each.ravel()[curves.stand_in[shape]].reshape(total.shape)
    return Surface(curves.first, curves.second, total, curves.floor_ns, curves.variant)


def _between(known: Surface, first: Floats, second: Floats | None) -> Floats:
    """Interpolate at pairs of points; beyond the ends, the end's value."""
    grid = known.log_efficiency
    low, high, share = _position(known.first, first)
    if second is None:
        along: Floats = (1 - share) * grid[low, 0] + share * grid[high, 0]
        return along
    left, right, part = _position(known.second, second)
    below = (1 - part) * grid[low, left] + part * grid[low, right]
    above = (1 - part) * grid[high, left] + part * grid[high, right]
    return (1 - share) * below + share * above


def _position(axis: Floats, at: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The points below and above, and how far between them on a log scale."""
    high = np.clip(np.searchsorted(axis, at, side="right"), 0, len(axis) - 1)
    low = np.maximum(high - 1, 0)
    floor = np.maximum(axis, np.finfo(np.float64).tiny)
    span = np.log(floor[high]) - np.log(floor[low])
    ahead = np.log(np.clip(at, floor[0], floor[-1])) - np.log(floor[low])
    share = np.where(span > 0, ahead / np.where(span > 0, span, 1.0), 0.0)
    return low, high, np.clip(share, 0.0, 1.0)
