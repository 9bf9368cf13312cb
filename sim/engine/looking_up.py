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
def look_up(w: World) -> None:
    """Look up what follows from the step's tokens and samples alone, if the last had others.

    In lockstep a batch is padded to the largest of all servers'.
    """
    tokens = float(max(w.c[0].step_tokens, w.c[0].joint_tokens))
    if w.c[0].prefilling and w.c[0].times_chunk_products >= 0:
        look_up_prompts(w, tokens)
    elif tokens != w.x[0].at_tokens:
        w.x[0].at_tokens = tokens
        look_up_parts(
            w, tokens, w.c[0].times_products, w.c[0].times_arithmetic, w.c[0].times_small,
            w.c[0].times_communication, w.c[0].times_sustained, w.c[0].times_heats,
        )  # fmt: skip
        w.x[0].graph_launch_ns = curve_at(w, w.c[0].times_graph_launch, tokens)
    sampled = float(w.c[0].step_sampled)
    if sampled != w.x[0].at_sampled:
        w.x[0].at_sampled = sampled
        w.x[0].head_ns = curve_at(w, w.c[0].times_head, sampled)


@borrowing_kernel
def look_up_prompts(w: World, tokens: float) -> None:
    """The same for a step of prompts alone, where these are padded to sizes of their own."""
    w.x[0].at_tokens = -1.0
    look_up_parts(
        w, tokens, w.c[0].times_chunk_products, w.c[0].times_chunk_arithmetic,
        w.c[0].times_chunk_small, w.c[0].times_chunk_communication, w.c[0].times_chunk_sustained,
        w.c[0].times_chunk_heats,
    )  # fmt: skip


@borrowing_inline
def look_up_parts(
    w: World, tokens: float, products: int, arithmetic: int, small: int, communication: int,
    sustained: int, heats: int,
) -> None:  # fmt: skip
    """The parts of a step that follow from its tokens, from the curves at these places."""
    w.x[0].products_ns = curve_at(w, products, tokens)
    w.x[0].arithmetic_ns = curve_at(w, arithmetic, tokens)
    w.x[0].small_ns = curve_at(w, small, tokens)
    w.x[0].communication_ns = curve_at(w, communication, tokens)
    if w.c[0].times_sustained >= 0:
        w.x[0].sustained_ns = curve_at(w, sustained, tokens)
        w.x[0].heating_ns = curve_at(w, heats, tokens)


@borrowing_inline
def cell_at(
    w: World, rows: int, columns: int, width: int, i: int, j: int, row: float, column: float
) -> float:
    """In the cell of a grid whose first row is i and whose first column is j."""
    start = w.times[columns + j]
    end = w.times[columns + j + 1]
    at = columns + width + i * width + j
    above = between(column, start, end, w.times[at], w.times[at + 1])
    below = between(column, start, end, w.times[at + width], w.times[at + width + 1])
    return between(row, w.times[rows + i], w.times[rows + i + 1], above, below)


@borrowing_inline
def near_interval(w: World, first: int, count: int, x: float, guess: int) -> int:
    """As `interval`, where it is often the same as before."""
    if w.times[first + guess] <= x < w.times[first + guess + 1]:
        return guess
    return interval(w, first, count, x)


@borrowing_kernel
def decode_at(w: World, row: float, column: float) -> float:
    """As `grid_at` of the decodes, step after step: most have as many requests as the last."""
    place = w.c[0].times_decode
    count = int(w.times[place])
    width = int(w.times[place + 1])
    rows = place + 2
    columns = rows + count
    row = max(row, w.times[rows])
    column = max(column, w.times[columns])
    i = near_interval(w, rows, count, row, w.c[0].decode_row)
    j = near_interval(w, columns, width, column, w.c[0].decode_column)
    w.c[0].decode_row = i
    w.c[0].decode_column = j
    return cell_at(w, rows, columns, width, i, j, row, column)


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
    return cell_at(w, rows, columns, width, i, j, row, column)
