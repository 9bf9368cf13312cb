"""Whether the allocations of a trace live as allocations can: made once, freed once, in order."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import coded, integers

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]
_Found = tuple[str, _Mask, Callable[[int], str]]

MOST_LIVE_BYTES: Final = 2**62


def words_of(table: pa.Table, name: str, default: str) -> NDArray[Any]:
    """Return a column's words as str[rows], all of them `default` where the column is left out."""
    if name not in table.column_names:
        return np.full(table.num_rows, default)
    codes, words = coded(table.column(name))
    return np.array(words, dtype=np.str_)[codes]


def lifetime_faults(table: pa.Table) -> Iterator[_Found]:
    """Yield what no program can have done, as column, bad rows and the message of a row.

    Calls that failed changed nothing; of them only the handle is looked at, which no other row may
    name. Whether what is copied is alive is not asked: a program may do that wrongly.

    Args:
        table: of the schema `allocations`, its columns and values checked one by one.
    """
    op = words_of(table, "op", "")
    ok = words_of(table, "result", "ok") == "ok"
    handle, other, size = (
        integers(table.column(name)) for name in ("handle", "other_handle", "bytes")
    )
    rows = np.arange(len(op))
    makes = (op == "malloc") | (op == "realloc")
    empty = makes & ok & (size == 0)
    yield "bytes", empty, lambda row: f"is 0; a {op[row]} that succeeds has 1 or more"
    names, place = np.unique(np.concatenate([handle, other]), return_inverse=True)
    of, of_other = place[: len(op)], place[len(op) :]
    made = _first_rows(of[makes], rows[makes], len(names))
    again = makes & (made[of] != rows)
    yield (
        "handle",
        again,
        lambda row: (
            f"is {handle[row]}, as in row {made[of[row]]}; an allocation has a handle of its own"
        ),
    )
    replaces = (op == "realloc") & ok
    ends = ((op == "free") & ok) | replaces
    ended = np.where(replaces, of_other, of)
    gone = _first_rows(ended[ends], rows[ends], len(names))
    twice = ends & (gone[ended] != rows)
    yield (
        "handle",
        twice,
        lambda row: f"is freed here, as in row {gone[ended[row]]} already; a handle is freed once",
    )
    asks = (op == "free_request") & ok
    late = asks & (gone[of] >= 0) & (gone[of] < rows)
    yield "handle", late, lambda row: f"was freed in row {gone[of[row]]} already"
    for column, uses, used in (
        ("handle", ~makes, of), ("other_handle", other >= 0, of_other),
    ):  # fmt: skip
        early = uses & (made[used] > rows)
        yield (
            column,
            early,
            lambda row, used=used: (  # type: ignore[misc] # the default binds the loop's value
                f"comes before the malloc of its handle, in row {made[used[row]]}"
            ),
        )
        failed = uses & (made[used] >= 0) & (made[used] < rows) & ~ok[made[used]]
        yield (
            column,
            failed,
            lambda row, used=used: (  # type: ignore[misc] # as above
                f"names the allocation of row {made[used[row]]}, which failed"
            ),
        )
    frees = ((op == "free") | asks) & (size > 0) & (made[of] >= 0)
    differs = frees & (size != size[made[of]])
    yield (
        "bytes",
        differs,
        lambda row: f"is {size[row]}; the malloc in row {made[of[row]]} had {size[made[of[row]]]}",
    )
    total = np.cumsum(np.where(makes & ok, size, 0).astype(np.float64))
    yield (
        "bytes",
        total > MOST_LIVE_BYTES,
        lambda row: "brings all allocations above 4 EiB together; cut the trace",
    )


def _first_rows(places: _Ints, rows: _Ints, count: int) -> _Ints:
    """Return the first of `rows` (ascending) at each place: int64[count], -1 where none is."""
    first = np.full(count, -1, dtype=np.int64)
    first[places[::-1]] = rows[::-1]
    return first
