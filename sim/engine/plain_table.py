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

    __slots__ = ("_void",)

    def __init__(self, void: np.void) -> None:
        object.__setattr__(self, "_void", void)

    def __getattr__(self, name: str) -> Any:
        return self._void[name].item()

    def __setattr__(self, name: str, value: Any) -> None:
        self._void[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._void[name].item()

    def __setitem__(self, name: str, value: Any) -> None:
        self._void[name] = value

    @property
    def void(self) -> np.void:
        """The record itself, to copy it from one array to another."""
        found: np.void = object.__getattribute__(self, "_void")
        return found


class PlainElements:
    """An array of a table: a number or a record at an index that must lie within it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._records = array.dtype.names is not None

    def __getitem__(self, index: int) -> Any:
        self._check(index)
        return PlainRecord(self._array[index]) if self._records else self._array[index].item()

    def __setitem__(self, index: int, value: Any) -> None:
        self._check(index)
        self._array[index] = value.void if self._records else value

    def _check(self, index: int) -> None:
        if not 0 <= index < self._array.size:
            raise IndexError(f"{index} is outside an array of {self._array.size}")


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
