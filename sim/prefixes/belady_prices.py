"""The best prices for the prefix bound where all blocks are worth the same, read off Belady's rule.

What Belady's rule keeps is best then, so that by duality there are prices with which the bound of
`vsim.sim.bounds.prefix_tree` is exactly what it finds. In units of a block's worth, with p_t the
sum of the prices of the slots before t, those are prices if and only if

    p_{t+1} ≥ p_t                 for each slot,
    p_{t+1} ≤ p_t                 for each slot with room left,
    p_request ≥ p_last_use + 1    for each run of which some is dropped,
    p_request ≤ p_last_use + 1    for each run of which some is kept.

The least such p are the longest paths from the first slot. A sweep forward and one back over the
slots follow all of them as far as they go one way (Yen, Quarterly of Applied Mathematics 27, 1970);
it takes a few sweeps to some hundred. Stopped before that, prices are valid and the bound higher.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel
from vsim.sim.prefixes.belady import belady
from vsim.sim.schedules.kept_prefixes import KeptPrefixes
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]

_WORK: Final = 20_000_000  # runs and slots passed by all sweeps: some tens of milliseconds
_LEAST_SWEEPS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class BeladyPrices:
    """Prices of a block's room.

    Args:
        room: int64[requests], in each slot, in a block's worth.
        best: whether the sweeps came to an end.
    """

    room: _Ints
    best: bool


def belady_prices(reuse: PrefixReuse, blocks: int) -> BeladyPrices:
    """Find them for a cache of so many blocks.

    How many sweeps there may be follows from the size of the case, so that the same one has the
    same prices.
    """
    kept = belady(reuse, blocks)
    full = kept.blocks_in_slots() >= blocks
    sweeps = max(_LEAST_SWEEPS, _WORK // (len(reuse.count) + reuse.requests + 1))
    starting = np.argsort(reuse.last_use, kind="stable")
    before, best = _swept(starting, kept.kept, full, *_columns(kept), sweeps)
    return BeladyPrices(np.diff(before), bool(best))


def _columns(kept: KeptPrefixes) -> tuple[_Ints, _Ints, _Ints]:
    reuse = kept.reuse
    return reuse.request, reuse.last_use, reuse.count


@kernel
def _swept(
    starting: _Ints, kept: _Ints, full: NDArray[np.bool_], request: _Ints, last_use: _Ints,
    count: _Ints, sweeps: int,
) -> tuple[_Ints, bool]:  # fmt: skip
    """int64[requests + 1], the prices of all slots before each, and whether they are the best."""
    slots = len(full)
    before = np.zeros(slots + 1, np.int64)
    for _ in range(sweeps):
        changed = False
        at = 0
        for t in range(slots):
            if before[t + 1] < before[t]:
                before[t + 1] = before[t]
                changed = True
            while at < len(starting) and last_use[starting[at]] == t:
                run = starting[at]
                at += 1
                if kept[run] < count[run] and before[request[run]] < before[t] + 1:
                    before[request[run]] = before[t] + 1
                    changed = True
        run = len(request) - 1
        for t in range(slots, 0, -1):
            if not full[t - 1] and before[t - 1] < before[t]:
                before[t - 1] = before[t]
                changed = True
            while run >= 0 and request[run] >= t:
                if request[run] == t and kept[run] > 0 and before[last_use[run]] < before[t] - 1:
                    before[last_use[run]] = before[t] - 1
                    changed = True
                run -= 1
        if not changed:
            return before, True
    for t in range(slots):
        before[t + 1] = max(before[t + 1], before[t])
    return before, False
