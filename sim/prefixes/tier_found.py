"""TierFound: the leading blocks that requests find, and in which tier each lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_tiers import TierCase
from vsim.sim.compiled import kernel
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TierFound:
    """Stretches of leading blocks, in order of request and depth, without gaps.

    Args:
        request: int64[n], who finds them.
        tier: int64[n], where.
        count: int64[n], how many.
    """

    request: _Ints
    tier: _Ints
    count: _Ints

    @classmethod
    def of_kept(cls, reuse: PrefixReuse, kept: _Ints) -> "TierFound":
        """What is found where so many blocks of each run are kept: int64[runs, tiers].

        The first of a run lie in tier 0, those behind them in tier 1, and so on.
        """
        runs, tiers = kept.shape
        whole = kept.sum(axis=1) == reuse.count
        starts = np.ones(runs, np.bool_)
        starts[1:] = reuse.request[1:] != reuse.request[:-1]
        cut = np.cumsum(~whole) - ~whole
        first = np.maximum.accumulate(np.where(starts, np.arange(runs), 0))
        reached = cut == cut[first] if runs else whole
        count = np.where(reached[:, None], kept, 0).ravel()
        some = count > 0
        request = np.repeat(reuse.request, tiers)
        return cls(request[some], np.tile(np.arange(tiers), runs)[some], count[some])

    @classmethod
    def of_copies(cls, hits: Sequence[_Ints]) -> "TierFound":
        """What is found where tier j alone holds the first `hits[j]` blocks of each request.

        Each is found in the first tier that holds it.
        """
        most = np.maximum.accumulate(np.stack(hits), axis=0)
        added = np.diff(most, axis=0, prepend=0).T
        requests, tiers = added.shape
        count = added.ravel()
        some = count > 0
        rows = np.repeat(np.arange(requests), tiers)
        return cls(rows[some], np.tile(np.arange(tiers), requests)[some], count[some])

    def blocks_in(self, tiers: int) -> list[int]:
        """Blocks found in each tier, all requests together."""
        return [int(self.count[self.tier == tier].sum()) for tier in range(tiers)]

    def saved_units(self, case: TierCase) -> int:
        """What requests save, in units of `case.worth`, all blocks being equal.

        Each takes as much of what it finds as saves most: what would load slower than it computes
        is computed.
        """
        loads = case.load_units() * int(case.needs.parts.sum())
        full = np.full(case.reuse.requests, -1) if case.full_units is None else case.full_units
        saved = _saved(self.request, self.tier, self.count, case.worth.units, loads, full)
        return sum(saved.tolist())


@kernel
def _saved(
    request: _Ints, tier: _Ints, count: _Ints, units: _Ints, loads: _Ints, full: _Ints
) -> _Ints:
    """int64[requests that find something], the best prefix of each, in units.

    `full` is what all of a prompt would take where loads go on beside computing, or -1.
    """
    saved = np.zeros(len(request), np.int64)
    loaded = np.zeros(len(loads), np.int64)
    size = 0
    at = 0
    while at < len(request):
        row = request[at]
        depth, best = 0, 0
        loaded[:] = 0
        while at < len(request) and request[at] == row:
            for _ in range(count[at]):
                depth += 1
                loaded[tier[at]] += loads[tier[at]]
                net = units[depth] - loaded.sum()
                if full[row] >= 0:
                    net = min(units[depth], full[row] - loaded.max())
                best = max(best, net)
            at += 1
        saved[size] = best
        size += 1
    return saved[:size]
