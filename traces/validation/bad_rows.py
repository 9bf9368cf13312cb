"""Naming bad rows: of each kind of fault in a column the first row, and how many more there are.

Rows are counted from 0, as Arrow counts them.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import integers
from vsim.traces.faults import Fault

Mask = NDArray[np.bool_]


def bad_rows(file: str, column: str, bad: Mask, message: Callable[[int], str]) -> Iterator[Fault]:
    """Name the first bad row of a column, and how many more there are."""
    count = int(np.count_nonzero(bad))
    if count:
        row = int(np.argmax(bad))
        more = f" (and {count - 1} more rows)" if count > 1 else ""
        yield Fault(file, message(row) + more, place=f"row {row}, column {column}")


def row_of(offsets: NDArray[np.int64], bad: Mask) -> Mask:
    """Mark the rows that hold a bad element."""
    rows = np.zeros(len(offsets) - 1, dtype=np.bool_)
    elements = np.nonzero(bad)[0]
    rows[np.searchsorted(offsets, elements, side="right") - 1] = True
    return rows


def falls(numbers: NDArray[np.int64], *, strictly: bool) -> Mask:
    """Mark the rows whose value is below the row's before; with `strictly`, also equal to it."""
    bad = np.zeros(len(numbers), dtype=np.bool_)
    steps = np.diff(numbers)
    bad[1:] = steps <= 0 if strictly else steps < 0
    return bad


def order_faults(table: pa.Table, file: str, name: str) -> Iterator[Fault]:
    """Name the first row whose value is below the one before."""
    numbers = integers(table.column(name))
    yield from bad_rows(
        file,
        name,
        falls(numbers, strictly=False),
        lambda row: f"is {numbers[row]} after {numbers[row - 1]}; sort the rows by {name}",
    )
