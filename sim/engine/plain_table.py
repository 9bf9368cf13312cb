"""What `pointers` compiles, as plain Python: for NUMBA_DISABLE_JIT=1, where kernels run uncompiled.

Slow, and careful: an access outside its array raises IndexError. Tests compare it with the compiled
engine.
"""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PlainRecord:
    """A record of an array, in place: its fields as attributes and as items."""

    __slots__ = ("_elements", "_index")

    def __init__(self, elements: "PlainElements", index: int) -> None:
        object.__setattr__(self, "_elements", elements)
        object.__setattr__(self, "_index", index)

    def __getattr__(self, name: str) -> Any:
        return self._elements.fields[name][self._index]

    def __setattr__(self, name: str, value: Any) -> None:
        self._elements.array[name][self._index] = value

    __getitem__ = __getattr__
    __setitem__ = __setattr__

    @property
    def void(self) -> np.void:
        """The record itself, to copy it from one array to another."""
        found: np.void = self._elements.array[self._index]
        return found


class _Fields(dict[str, Any]):
    """The columns of an array of records by name, each made when it is first asked for."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __missing__(self, name: str) -> Any:
        column: Any = self._array[name]
        self[name] = memoryview(column)
        return self[name]


class PlainElements:
    """An array of a table: a number or a record at an index that must lie within it.

    Numbers are read through memoryviews, which give Python's own in a part of numpy's time.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        whole: Any = array  # which is a buffer, if not to the type checker
        self.array = whole
        self.fields = _Fields(array)
        self._size = array.size
        self._numbers: Any = memoryview(whole) if array.dtype.names is None else None
        self._records: dict[int, PlainRecord] = {}

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self._size:
            raise self._outside(index)
        if self._numbers is not None:
            return self._numbers[index]
        found = self._records.get(index)
        if found is None:
            found = self._records[index] = PlainRecord(self, index)
        return found

    def __setitem__(self, index: int, value: Any) -> None:
        if not 0 <= index < self._size:
            raise self._outside(index)
        self.array[index] = value.void if self._numbers is None else value

    def _outside(self, index: int) -> IndexError:
        return IndexError(f"{index} is outside an array of {self._size}")


class PlainTable:
    """The table at an address, its arrays as attributes. They are found when first asked for.

    Args:
        dtypes: of each array, in the table's order.
        address: of the table: the arrays' addresses, then their lengths, all int64.
    """

    def __init__(self, dtypes: Mapping[str, "np.dtype[Any]"], address: int) -> None:
        self._dtypes = dtypes
        self._numbers = (ctypes.c_int64 * (2 * len(dtypes))).from_address(address)

    def __getattr__(self, name: str) -> PlainElements:
        place = list(self._dtypes).index(name)
        dtype, length = self._dtypes[name], self._numbers[len(self._dtypes) + place]
        memory = (ctypes.c_char * (length * dtype.itemsize)).from_address(self._numbers[place])
        elements = PlainElements(np.frombuffer(memoryview(memory), dtype))
        setattr(self, name, elements)
        return elements


def call_object(address: int, a: int, b: int, c: int, d: int) -> Any:
    """Call the Python function whose `id` is the address."""
    return ctypes.cast(int(address), ctypes.py_object).value(int(a), int(b), int(c), int(d))
