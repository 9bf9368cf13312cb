"""Looking times up: the compiled twin of `vsim.sim.timing.curve`, over the same numbers flattened.

A curve lies at some place of `World.times` as its number of knots, the knots, the times; a grid as
its numbers of rows and columns, the rows, the columns, the times row by row.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.layout import World


@borrowing_kernel
def interval(w: World, first: int, count: int, x: float) -> int:
    """The last of `count` knots from `first` on that is at most x, but one before the last."""
    low = wide(0)
    high = count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if w.times[first + middle] <= x:
            low = middle
        else:
            high = middle
    return low


@borrowing_inline
def between(x: float, start: float, end: float, first: float, last: float) -> float:
    """On the line from `first` at `start` to `last` at `end`."""
    return first + (x - start) / (end - start) * (last - first)


@borrowing_kernel
def curve_at(w: World, place: int, x: float) -> float:
    """See `Curve.at`."""
    count = int(w.times[place])
    knots = place + 1
    x = max(x, w.times[knots])
    i = knots + interval(w, knots, count, x)
    return between(x, w.times[i], w.times[i + 1], w.times[i + count], w.times[i + count + 1])


@borrowing_kernel
def grid_at(w: World, place: int, row: float, column: float) -> float:
    """See `Grid.at`."""
    count = int(w.times[place])
    width = int(w.times[place + 1])
    rows = place + 2
    columns = rows + count
    row = max(row, w.times[rows])
    column = max(column, w.times[columns])
    i = interval(w, rows, count, row)
    j = interval(w, columns, width, column)
    start = w.times[columns + j]
    end = w.times[columns + j + 1]
    at = columns + width + i * width + j
    above = between(column, start, end, w.times[at], w.times[at + 1])
    below = between(column, start, end, w.times[at + width], w.times[at + width + 1])
    return between(row, w.times[rows + i], w.times[rows + i + 1], above, below)
