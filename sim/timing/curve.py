"""Curve and Grid: times tabulated over whole numbers, with straight lines between the knots.

They are what a step's kernels become once model, machine and parallelism are known: the engine
looks times up in them. `Curve.at` and `Grid.at` are the reference; `vsim.sim.engine.looking_up`
reads the same numbers, flattened, in compiled code.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FAR = 2.0**40  # a line's second knot: there its slope does not drown in its offset


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Nanoseconds over one number.

    Args:
        knots: float64[k], ascending, k at least 2.
        ns: float64[k], the time at each knot; beyond the last, the last line goes on, and before
            the first its own time holds.
    """

    knots: Floats
    ns: Floats

    def at(self, x: float) -> float:
        """Return the time at x, in nanoseconds."""
        x = max(x, float(self.knots[0]))
        i = _interval(self.knots, x)
        return _between(x, self.knots[i : i + 2], self.ns[i], self.ns[i + 1])

    def at_each(self, x: Floats) -> Floats:
        """float64[n]: the time at each of them, as `at` has it."""
        x = np.maximum(x, self.knots[0])
        i = np.clip(np.searchsorted(self.knots, x, side="right") - 1, 0, self.knots.size - 2)
        first, last, begin, end = self.ns[i], self.ns[i + 1], self.knots[i], self.knots[i + 1]
        found: Floats = first + (x - begin) / (end - begin) * (last - first)
        return found

    def flat(self) -> Floats:
        """float64[1 + 2k]: k, the knots, the times."""
        return np.concatenate([[self.knots.size], self.knots, self.ns])


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Nanoseconds over two numbers: straight lines along each of them.

    Args:
        rows: float64[r], ascending, r at least 2.
        columns: float64[c], ascending, c at least 2.
        ns: float64[r, c], the time at each pair; beyond the last the last plane goes on, and before
            the first its own time holds.
    """

    rows: Floats
    columns: Floats
    ns: Floats

    def at(self, row: float, column: float) -> float:
        """Return the time at a pair, in nanoseconds."""
        row, column = max(row, float(self.rows[0])), max(column, float(self.columns[0]))
        i, j = _interval(self.rows, row), _interval(self.columns, column)
        ends = self.columns[j : j + 2]
        above = _between(column, ends, self.ns[i, j], self.ns[i, j + 1])
        below = _between(column, ends, self.ns[i + 1, j], self.ns[i + 1, j + 1])
        return _between(row, self.rows[i : i + 2], above, below)

    def at_each(self, row: float, columns: Floats) -> Floats:
        """float64[n]: the time at a row and each column, as `at` has it."""
        row, columns = max(row, float(self.rows[0])), np.maximum(columns, self.columns[0])
        i = _interval(self.rows, row)
        above = Curve(self.columns, self.ns[i]).at_each(columns)
        below = Curve(self.columns, self.ns[i + 1]).at_each(columns)
        first, last = self.rows[i], self.rows[i + 1]
        found: Floats = above + (row - first) / (last - first) * (below - above)
        return found

    def flat(self) -> Floats:
        """float64[2 + r + c + rc]: r, c, the rows, the columns, the times row by row."""
        sizes = [self.rows.size, self.columns.size]
        return np.concatenate([sizes, self.rows, self.columns, self.ns.ravel()])


def _interval(knots: Floats, x: float) -> int:
    return min(max(bisect_right(knots, x) - 1, 0), knots.size - 2)


def _between(x: float, ends: Floats, first: float, last: float) -> float:
    return float(first + (x - ends[0]) / (ends[1] - ends[0]) * (last - first))


def curve(function: Callable[[float], float], knots: Sequence[float]) -> Curve:
    """Tabulate a function of one number."""
    return Curve(np.array(knots, np.float64), np.array([function(x) for x in knots], np.float64))


def plus(one: Curve, other: Curve) -> Curve:
    """The sum of two curves, exactly."""
    knots = np.union1d(one.knots, other.knots)
    return Curve(knots, one.at_each(knots) + other.at_each(knots))


def line(slope: float, offset: float = 0.0) -> Curve:
    """The curve offset + slope · x."""
    return Curve(np.array([0.0, _FAR]), np.array([offset, offset + slope * _FAR]))


def product(unit: float) -> Grid:
    """The grid unit · row · column, exactly."""
    ends = np.array([0.0, 1.0])
    return Grid(ends, ends, np.array([[0.0, 0.0], [0.0, unit]]))


def padded(plain: Curve, sizes: Sequence[int]) -> Curve:
    """The curve of batches that are padded to the next of some sizes; larger ones are as they are.

    Args:
        plain: over the numbers that are computed.
        sizes: ascending.
    """
    if not sizes:
        return plain
    knots: list[float] = []
    padded_to: list[float] = []
    begins = 0
    for size in sizes:
        for end in dict.fromkeys((begins, size)):
            knots.append(float(end))
            padded_to.append(float(size))
        begins = size + 1
    beyond = sorted({float(begins), *(float(x) for x in plain.knots if x > begins), begins + 1.0})
    return Curve(np.array(knots + beyond), plain.at_each(np.array(padded_to + beyond)))
