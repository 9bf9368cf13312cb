"""Which row of a trace has an id: without sorting, where ids rise from row to row as most do."""

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]


class IdRows:
    """Rows of ids int64[n], n of 1 or more; state: none after it is made.

    Where an id is there twice, the first row has it.
    """

    def __init__(self, ids: _Ints) -> None:
        self._ids = ids
        self._order: _Ints | None = None
        if (ids[1:] <= ids[:-1]).any():
            self._order = np.argsort(ids, kind="stable")
            self._ids = ids[self._order]
        self._dense = bool(self._order is None and ids[0] == 0 and ids[-1] == len(ids) - 1)

    def repeated(self) -> NDArray[np.bool_]:
        """Mark the rows whose id a row before them has."""
        again = np.zeros(len(self._ids), dtype=np.bool_)
        if self._order is not None:
            again[self._order[1:]] = self._ids[1:] == self._ids[:-1]
        return again

    def of(self, wanted: _Ints) -> _Ints:
        """Return the row of each id wanted, -1 where no row has it."""
        if self._dense:
            return np.where(wanted < len(self._ids), np.maximum(wanted, -1), -1)
        places = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        there = self._ids[places] == wanted
        rows = places if self._order is None else self._order[places]
        return np.where(there, rows, -1)
