"""Arrow columns as numpy arrays. Values pass through Any, for pyarrow's stubs know few of them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
_Compute: Any = pc


def _whole(column: Any) -> Any:
    """Return one array of a column, whatever its chunks."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def null_mask(column: Any) -> NDArray[np.bool_]:
    """Return bool[rows], true where a value is null."""
    mask: NDArray[np.bool_] = _Compute.is_null(_whole(column)).to_numpy(zero_copy_only=False)
    return mask


def flags(column: Any) -> NDArray[np.bool_]:
    """Return a flag column as bool[rows], null as false."""
    filled = _Compute.fill_null(_whole(column), False)
    mask: NDArray[np.bool_] = filled.to_numpy(zero_copy_only=False)
    return mask


def integers(column: Any, null: int = -1) -> _Ints:
    """Return an integer or flag column as int64[rows], its nulls as `null`."""
    whole = _whole(column)
    if whole.type != pa.int64():
        whole = whole.cast(pa.int64())
    filled = _Compute.fill_null(whole, null).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(filled, dtype=np.int64)


def lists(column: Any) -> tuple[_Ints, Any]:
    """Return a list column as offsets int64[rows + 1] from 0, and its elements as an array."""
    whole = _whole(column)
    offsets = np.zeros(len(whole) + 1, dtype=np.int64)
    np.cumsum(integers(_Compute.list_value_length(whole), 0), out=offsets[1:])
    return offsets, whole.flatten()


def elements(flat: Any) -> NDArray[Any]:
    """Return a list column's elements, none of them null, in their own type."""
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values


def coded(column: Any) -> tuple[_Ints, list[str | None]]:
    """Return words as codes int64[rows], null as -1, and the words in order of their codes.

    A dictionary column keeps its dictionary; other words are coded in order of first sight.
    """
    if pa.types.is_dictionary(column.type):
        encoded = _whole(column.unify_dictionaries())
    else:
        encoded = _whole(column.cast(pa.string())).dictionary_encode()
    return integers(encoded.indices), encoded.dictionary.to_pylist()


def listed(offsets: _Ints, values: NDArray[Any]) -> Any:
    """Make a column of lists of int64 from offsets int64[rows + 1] and their elements."""
    array: Any = pa.LargeListArray
    return array.from_arrays(pa.array(offsets), pa.array(values)).cast(pa.list_(pa.int64()))
