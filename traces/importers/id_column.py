"""IdColumn: the block ids of a file, row by row, whichever 64-bit integers they are."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
_WRAP = 2**64
RENUMBERED = "prefix ids are not all from 0 to 2^63 - 1: numbered anew from 0"


class IdColumn:
    """Ids of rows, one after the other; state: growing arrays.

    Unsigned ids from 2^63 on are kept as the negative numbers of the same bits, which is why a
    file may hold them or negative ones but not both.
    """

    def __init__(self) -> None:
        self.counts = array("q")
        self._ids = array("q")
        self._unsigned = False
        self._signed = False

    def add(self, ids: Sequence[int]) -> None:
        """Add one row's ids, integers of 64 bits. Raises ValueError where signs contradict."""
        before = len(self._ids)
        try:
            self._ids.extend(ids)
        except OverflowError:
            del self._ids[before:]
            self._unsigned = True
            self._ids.extend(i - _WRAP if i > 2**63 - 1 else i for i in ids)
        if ids and min(ids) < 0:
            self._signed = True
        if self._signed and self._unsigned:
            del self._ids[before:]
            raise ValueError(
                "holds ids below 0 or from 2^63 on where the file has the other; "
                "write either signed or unsigned numbers of 64 bits"
            )
        self.counts.append(len(ids))

    def offsets(self) -> _Ints:
        """Return where each row's ids start, int64[rows + 1]."""
        offsets = np.zeros(len(self.counts) + 1, dtype=np.int64)
        np.cumsum(self.counts, out=offsets[1:])
        return offsets

    def ids(self, notes: list[str]) -> _Ints:
        """Return all ids, none negative, numbered anew where they have to be."""
        return not_negative(
            np.frombuffer(self._ids, dtype=np.int64) if self._ids else np.zeros(0, np.int64), notes
        )


def not_negative(ids: _Ints, notes: list[str]) -> _Ints:
    """Return ids as they are, or numbered from 0 where one is negative; say so in `notes`."""
    if not len(ids) or ids.min() >= 0:
        return ids
    notes.append(RENUMBERED)
    codes: _Ints = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return codes
