"""A certified bound on what any prefix cache of some capacity saves on a trace.

Requests come one after another, in order of admission. Each is a path from the root of a tree of
blocks of equal size. Its leading blocks that are in the cache when it comes are found, up to the
first that is not, and each saves what it is worth (`Worth`). Then all of its blocks are there to be
kept, and none has to be. The cache holds k blocks in each slot, slot t being the time between the
requests t and t + 1. k counts all tiers together, and a server's running requests too: whatever
they take, a cache has no more than k.

**Bound.** For any prices μ_t ≥ 0 of a block's room in slot t, no policy saves more than

    U(μ) = k·Σ_t μ_t + Σ_r max_h Σ_{i≤h} (v_i − M_i),

where h runs from 0 to the leading blocks of request r that were used before, v_i is what the i-th
block is worth and M_i the sum of the prices of the slots since the request that used it last.

**Proof.** Take any policy and let it find the first h_r blocks of request r. Whatever is found was
in the cache in every slot since its last use: blocks come in by being used only. So block i of
request r took room in all slots of M_i. Two such stays of the same block do not overlap, for each
ends at a use and begins at the use before; so in slot t there are n_t ≤ k stays, and

    saved = Σ_r Σ_{i≤h_r} v_i ≤ Σ_r Σ_{i≤h_r} v_i + Σ_t μ_t (k − n_t)
          = k·Σ_t μ_t + Σ_r Σ_{i≤h_r} (v_i − M_i) ≤ U(μ).                                       ∎

The maximum over h is one pass over the blocks, since a hit needs all blocks before it: precedence
within a request is a chain. Blocks before their first use save nothing, and a request can't find
what lies behind one. This is the Lagrangian dual of the linear program in `prefix_prices`, whose
inner problem has whole solutions, so that the best prices give the program's own value. That is
what such a bound can reach; Belady's rule with bypass (IBM Systems Journal 5(2), 1966) is known to
be optimal for equal blocks of equal worth, and no bound of another kind is claimed here.

A request that is admitted again after a preemption counts as a request. What is evaluated is exact:
worth and prices are whole numbers of one unit, worth rounded up to it.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.rising_worth import rising_ends
from vsim.sim.compiled import kernel
from vsim.sim.schedules.prefix_worth import LARGEST, Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
_MOST_PRICES: Final = 1 << 60
_HOPELESS: Final = LARGEST << 2
"""What no worth makes up for: blocks that cost more save nothing, nor does what lies behind."""


@dataclass(frozen=True, slots=True, eq=False)
class PrefixCertificate:
    """What no cache of `blocks` blocks saves more than.

    Args:
        blocks: the capacity k.
        worth: what was counted.
        units: the bound, in `worth.unit`.
        prices: int64[requests], μ_t in the same unit.
    """

    blocks: int
    worth: Worth
    units: int
    prices: _Ints

    @property
    def most(self) -> Fraction:
        """The bound, in what is counted; rounded down where that is whole."""
        exact = self.units * self.worth.unit
        return Fraction(exact.numerator // exact.denominator) if self.worth.whole else exact


def certify_prefixes(
    reuse: PrefixReuse, worth: Worth, blocks: int, prices: NDArray[np.float64]
) -> PrefixCertificate:
    """Evaluate the bound for prices.

    Args:
        reuse: the trace's runs.
        worth: what is counted.
        blocks: the capacity, 0 or more.
        prices: float64[requests], of a block's room in each slot, in what is counted. What is
            negative or no number counts as 0; any others give a valid bound, good ones a low one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num(prices, nan=0.0, posinf=0.0) / float(worth.unit)
    # no price above all that could be saved is of use, and their sum must fit
    each = min(LARGEST, _MOST_PRICES // max(len(prices), 1))
    whole = np.clip(np.nan_to_num(scaled), 0.0, float(each)).astype(np.int64)
    inner = int(_saved_net_of_prices(whole, worth.units, *_columns(reuse)))
    units = blocks * int(whole.sum()) + inner
    free = int(_saved_net_of_prices(np.zeros_like(whole), worth.units, *_columns(reuse)))
    if free < units:  # as if every block had room
        whole, units = np.zeros_like(whole), free
    return PrefixCertificate(blocks, worth, units, whole)


def _columns(reuse: PrefixReuse) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    return reuse.request, reuse.last_use, reuse.depth, reuse.count


@kernel
def _saved_net_of_prices(
    prices: _Ints, units: _Ints, request: _Ints, last_use: _Ints, depth: _Ints, count: _Ints
) -> int:
    """Σ_r max_h Σ_{i≤h} (v_i − M_i), in units."""
    ends = rising_ends(units)
    before = np.zeros(len(prices) + 1, np.int64)
    for t in range(len(prices)):
        before[t + 1] = before[t] + prices[t]
    total = 0
    run = 0
    while run < len(request):
        row = request[run]
        net = 0
        best = 0
        while run < len(request) and request[run] == row:
            price = before[row] - before[last_use[run]]
            at = depth[run]
            end = at + count[run]
            while at < end and net > -_HOPELESS:
                # all of them, or as many as it takes to be hopeless
                some = min(min(end, ends[at]) - at, _HOPELESS // max(price, 1) + 1)
                net += units[at + some] - units[at] - some * price
                best = max(best, net)
                at += some
            run += 1
        total += best
    return total
