"""IdRuns: where ids of prompts' blocks go up by one, so that there is less to look at than ids.

Ids are most often given out in order, so that those of a long prompt are a few runs of neighbours.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]

_AT_ONCE: Final = 1 << 16  # ids compared at once, which a processor's cache holds
_LEAST_MEAN: Final = 8  # ids of a run, below which runs are no shorter way
_FEW: Final = 64  # runs that are always few enough


@dataclass(frozen=True, slots=True, eq=False)
class IdRuns:
    """The runs of ids: each goes up by one from place to place, within a request.

    Args:
        before: int64[k], the id before each run, -1 where it begins its request.
        first: int64[k], its first id.
        last: int64[k], its last id.
    """

    before: _Ints
    first: _Ints
    last: _Ints

    @classmethod
    def of(cls, offsets: _Ints, ids: NDArray[Any]) -> "IdRuns | None":
        """Find them; None where there are none, or runs are so short that they help nobody.

        Args:
            offsets: int64[n + 1], where each request's ids start, from 0.
            ids: int64[m] or int32[m].
        """
        most = max(len(ids) // _LEAST_MEAN, _FEW)
        begins = offsets[:-1][np.diff(offsets) > 0]
        if not 0 < len(begins) <= most:
            return None
        found, count = [begins], len(begins)
        for start in range(1, len(ids), _AT_ONCE):
            end = min(start + _AT_ONCE, len(ids))
            jumps = np.flatnonzero(ids[start:end] - ids[start - 1 : end - 1] != 1) + start
            count += len(jumps)
            if count > most + len(begins):  # of which each may be a jump too
                return None
            found.append(jumps)
        starts = np.unique(np.concatenate(found))
        before = np.where(starts > 0, ids[starts - 1], -1).astype(np.int64)
        before[np.searchsorted(starts, begins)] = -1
        ends = np.append(starts[1:], len(ids)) - 1
        return cls(before, ids[starts].astype(np.int64), ids[ends].astype(np.int64))

    def are_chains(self) -> bool:
        """Whether each id has one predecessor wherever it stands, a request's first none."""
        order = np.lexsort((self.before, self.first))
        before, first, last = self.before[order], self.first[order], self.last[order]
        if ((first[1:] == first[:-1]) & (before[1:] != before[:-1])).any():
            return False
        # nor may one that begins a run go up from its own number less one elsewhere
        reach = np.maximum.accumulate(last)
        below = np.searchsorted(first, first)  # runs that begin with a lower id
        return not (reach[below[below > 0] - 1] >= first[below > 0]).any()

    def members(self, top: int) -> NDArray[np.bool_]:
        """bool[top], which numbers are ids; all are below `top`."""
        change = np.zeros(top + 1, np.int32)
        np.add.at(change, self.first, 1)
        np.subtract.at(change, self.last + 1, 1)
        return np.cumsum(change[:-1], dtype=np.int32) > 0
