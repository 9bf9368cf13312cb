"""KeptPrefixes: which blocks a prefix cache keeps from one use to the next.

Between two uses of a run of blocks a cache can keep its first few, all or none, and what it keeps
takes room in every slot between the two requests. Slot t is the time after request t and before
request t + 1. A policy that sees the whole trace decides this run by run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class KeptPrefixes:
    """A schedule of a prefix cache.

    Args:
        reuse: the trace's runs.
        kept: int64[runs], the leading blocks of each run that are kept to its next use.
    """

    reuse: PrefixReuse
    kept: _Ints

    def found(self) -> _Ints:
        """Leading blocks that each request finds: int64[requests].

        A run is found as far as it is kept, where all blocks before it are found.
        """
        reuse = self.reuse
        whole = self.kept == reuse.count
        starts = np.ones(len(whole), np.bool_)
        starts[1:] = reuse.request[1:] != reuse.request[:-1]
        # runs before the first that is kept in part only, counted within each request
        cut = np.cumsum(~whole) - ~whole
        first = np.maximum.accumulate(np.where(starts, np.arange(len(whole)), 0))
        reached = cut == cut[first] if len(whole) else whole
        hits = np.bincount(
            reuse.request, weights=np.where(reached, self.kept, 0), minlength=reuse.requests
        )
        return hits.astype(np.int64)

    def blocks_in_slots(self) -> _Ints:
        """Blocks held in each slot: int64[requests]."""
        change = np.zeros(self.reuse.requests + 1, np.int64)
        np.add.at(change, self.reuse.last_use, self.kept)
        np.add.at(change, self.reuse.request, -self.kept)
        return np.cumsum(change)[:-1]
