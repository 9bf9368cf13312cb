"""A certified bound on what a prefix cache over several tiers saves on a trace.

As in `prefix_tree`, requests come one after another, and each is a path from the root of a tree of
blocks. Here the cache lies in tiers 0, 1, …, of which tier j holds at most k_j parts in each slot,
and what a request finds below tier 0 has to be loaded. A prefix of h blocks is found if each of its
pieces that are needed (`BlockNeeds`: all blocks of full attention, the last few of a window, the
copy of a state at its end) lies in some tier when the request comes. Then all pieces of its blocks
are in tier 0; from there they can be kept or copied downwards, and copies further down stay where
they are. There are two models of loads.

- *wait*: something moves up when a request uses it, and the request waits for that: what a prefix
  saves is its worth, less for each part the time of its load.
- *overlap*: loads go on beside computing, and may be made ahead, for any request, while others are
  served. Serving a request takes the longest of what it computes and what each tier loads
  meanwhile; what is saved is all that the prompt would take, less that.

**Bound.** Let μ_{t,j} ≥ 0 be prices of a part's room. With v_i the worth of the i-th block, L_j
what a part's load from tier j takes, F_r what all of a prompt would take, and

    wait      w_{t,0} = w_{t,j} = 1
    overlap   w_{t,0} + Σ_j w_{t,j} ≤ 1, none of them negative: the prices of computing and of the
              bandwidth of each tier,

no policy saves more than

    U = Σ_{t,j} k_j·μ_{t,j} + Σ_t (1 − w_{t,0})·F_t   (the latter with overlap only)
        + Σ_r max_h [ w_{r,0}·Σ_{i≤h} v_i − Σ_{pieces that h needs} parts · π_{r,piece} ],

where π is the price of the cheapest path over tiers through all slots from the last use of the
piece's block to r: μ_{t,j} in each slot for the tier j that it lies in, moves down for nothing, a
move up from tier j while t is served at w_{t,j}·L_j (overlap; with wait there are none), and for
where it ends w_{r,j}·L_j.

**Proof.** Take any policy. A piece that a request finds in some tier was copied there from another
or came to be in tier 0, at a use of its block. Followed back, it has lain in one tier or another in
each slot since that use, so at least since the block's last use, in slots that no other use of it
counts. From that use on any tier can be reached by moves down, which cost nothing. So its path is
among those of π. All paths take, in slot t and tier j, n_{t,j} ≤ k_j parts, so that adding
Σ μ_{t,j}(k_j − n_{t,j}) ≥ 0 to what is saved lowers nothing. With wait, what request r saves is
Σ v_i less the loads of what it found; with overlap it is F_r − max(F_r − Σ v_i, loads of each tier
while r is served), at most (1 − w_{r,0})·F_r + w_{r,0}·Σ v_i − Σ_j w_{r,j}·(load of j), for a
longest is no less than any mean. Each load belongs to one path, or to none, and is paid for. Added
up, everything but the constants is a sum over requests of what the bracket says for the h and the
paths that the policy chose; each is at most the best.                                          ∎

With one tier and equal blocks this is `prefix_tree`'s bound. A path that ends nowhere better than
in tier 1 may begin in tier 0 while there is room. What is left out makes the bound looser, never
false: latencies of loads, and what moves down take.

**Arithmetic.** Worth is rounded up to whole units, prices and loads down, weights to multiples of
1/4096 of which those of w_{t,j} are rounded down, and w_{t,0} likewise; each stays what the claim
asks for. A path dearer than all that could be saved costs just above that: no prefix takes it, at
either price.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.false_certificate import refuse_false_most
from vsim.sim.bounds.rising_worth import rising_ends
from vsim.sim.bounds.slot_paths import NEVER, cheapest_paths
from vsim.sim.compiled import kernel
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.sim.schedules.prefix_worth import LARGEST, Worth
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

WHOLE_WEIGHT: Final = 1 << 12
_MOST_COST: Final = 1 << 60


@dataclass(frozen=True, slots=True, eq=False)
class TierCase:
    """What a bound over tiers is about.

    Args:
        reuse: the trace's runs.
        worth: what is counted; made by `tier_worth`.
        needs: what prefixes need.
        tiers: where they may lie.
        full_units: int64[requests], what all of each prompt would take, in worth's units; None
            where requests wait for loads.
    """

    reuse: PrefixReuse
    worth: Worth
    needs: BlockNeeds
    tiers: CacheTiers
    full_units: _Ints | None = None

    def load_units(self) -> _Ints:
        """int64[tiers], what a part's load takes, in worth's units, rounded down."""
        return np.array(
            [min(int(load / self.worth.unit), LARGEST) for load in self.tiers.load_s], np.int64
        )


@dataclass(frozen=True, slots=True, eq=False)
class TierPrices:
    """Multipliers of the bound, each valid whatever it is.

    Args:
        room: float64[requests, tiers], of a part in each slot, in what is counted.
        weights: float64[requests, tiers], w_{t,j}; None where requests wait for loads.
    """

    room: _Floats
    weights: _Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TierPrefixCertificate:
    """What no cache over these tiers saves more than.

    Args:
        case: which tiers, and what was counted.
        scaled_units: the bound, in 1/4096 of `case.worth.unit`.
    """

    case: TierCase
    scaled_units: int

    @property
    def most(self) -> Fraction:
        """The bound, in what is counted; rounded down where that is whole."""
        exact = Fraction(self.scaled_units, WHOLE_WEIGHT) * self.case.worth.unit
        return Fraction(exact.numerator // exact.denominator) if self.case.worth.whole else exact

    def refuse_if_false(self, saved_units: Mapping[str, int]) -> None:
        """Hold the bound against policies, whatever they saved in units of its worth.

        Raises:
            FalseCertificateError: one of them saved more.
        """
        tiers = self.case.tiers
        sizes = ", ".join(f"{n}: {k:,}" for n, k in zip(tiers.names, tiers.parts, strict=True))
        what = f"units of {self.case.worth.name} over tiers of {sizes}"
        refuse_false_most(self.scaled_units // WHOLE_WEIGHT, saved_units, what=what)


def tier_worth(
    name: str,
    reuse: PrefixReuse,
    needs: BlockNeeds,
    block: Callable[[int], Fraction | int | float],
    *,
    whole: bool = False,
) -> Worth:
    """Count worth in units so large that no cost of a prefix leaves 64 bits; see `Worth.of`.

    Raises:
        ValueError: blocks are of so many parts that no such unit is left.
    """
    largest = min(LARGEST, _MOST_COST // (2 * needs.most_parts)) // WHOLE_WEIGHT
    if largest < 1 << 24:
        raise ValueError("a prefix needs more parts than can be priced")
    return Worth.of(name, reuse, block, whole=whole, largest=largest)


def certify_tier_prefixes(case: TierCase, prices: TierPrices) -> TierPrefixCertificate:
    """Evaluate the bound for prices, or for none of room where that is lower.

    What is negative or no number among the prices counts as 0.
    """
    scaled = min(_bound(case, prices), _bound(case, _without_room(prices)))
    return TierPrefixCertificate(case, scaled)


def _without_room(prices: TierPrices) -> TierPrices:
    """As if every block had room in tier 0."""
    return TierPrices(np.zeros_like(prices.room), None)


def _bound(case: TierCase, prices: TierPrices) -> int:
    """U, in 1/4096 units."""
    reuse, worth = case.reuse, case.worth
    requests, tiers = prices.room.shape
    most = int(worth.units[-1]) * WHOLE_WEIGHT  # no prefix saves more
    each = min(most + 1, _MOST_COST // max(2 * requests, 1))
    room = np.minimum(_rounded_down(prices.room, float(worth.unit), WHOLE_WEIGHT), each)
    weights = _weights(case, prices)
    loads = weights * np.minimum(case.load_units(), LARGEST // WHOLE_WEIGHT)
    loads[:, 0] = 0
    move = np.full((requests, tiers, tiers), NEVER, np.int64)
    for source in range(tiers):
        move[:, source, source:] = 0
        if case.full_units is not None:
            move[:, source, :source] = np.minimum(loads[:, source], each)[:, None]
    path = cheapest_paths(room, move, reuse.last_use, reuse.request)
    path = np.minimum(path, most + 1) + np.minimum(loads, most + 1)[reuse.request]
    price = np.minimum(path.min(axis=1, initial=NEVER), most + 1)
    inner = _saved_net_of_prices(
        price, weights[:, 0].copy(), worth.units, reuse.request, reuse.depth, reuse.count,
        case.needs.parts, case.needs.first, bool((case.needs.first == 0).all(axis=1).any()), most,
    )  # fmt: skip
    units: int = sum(inner.tolist())
    for parts, spent in zip(case.tiers.parts, room.T, strict=True):
        units += parts * sum(spent.tolist())
    if case.full_units is not None:
        rest = WHOLE_WEIGHT - weights[:, 0]
        units += sum(
            left * full for left, full in zip(rest.tolist(), case.full_units.tolist(), strict=True)
        )
    return units


def _rounded_down(values: _Floats, unit: float, scale: int) -> _Ints:
    """Whole multiples of unit/scale, as far as values are any numbers above 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.nan_to_num(np.nan_to_num(values, nan=0.0, posinf=0.0) / unit * scale)
    return np.clip(scaled, 0.0, float(1 << 61)).astype(np.int64)


def _weights(case: TierCase, prices: TierPrices) -> _Ints:
    """int64[requests, tiers], w in 1/4096, as the claim asks for."""
    shape = prices.room.shape
    if case.full_units is None:
        return np.full(shape, WHOLE_WEIGHT, np.int64)
    whole = np.zeros(shape, np.int64)
    if prices.weights is None:
        whole[:, 0] = WHOLE_WEIGHT
        return whole
    whole = np.minimum(_rounded_down(prices.weights, 1.0, WHOLE_WEIGHT), WHOLE_WEIGHT)
    whole[:, 1:] = (
        whole[:, 1:]
        * WHOLE_WEIGHT
        // np.maximum(whole[:, 1:].sum(axis=1, keepdims=True), WHOLE_WEIGHT)
    )
    whole[:, 0] = WHOLE_WEIGHT - whole[:, 1:].sum(axis=1)
    return whole


@kernel
def _saved_of_equal_blocks(
    price: _Ints, weight: _Ints, units: _Ints, request: _Ints, depth: _Ints, count: _Ints,
    parts: int, most: int,
) -> _Ints:  # fmt: skip
    """The same with one group, which needs all blocks: run by run, as far as worth rises."""
    ends = rising_ends(units)
    found = np.zeros(len(request), np.int64)
    size = 0
    run = 0
    while run < len(request):
        row = request[run]
        best = 0
        spent = 0  # for a part of each block so far
        while run < len(request) and request[run] == row:
            at = depth[run]
            end = at + count[run]
            while at < end and spent <= most:
                some = min(min(end, ends[at]) - at, (most - spent) // max(price[run], 1) + 1)
                spent += some * price[run]
                at += some
                best = max(best, weight[row] * units[at] - parts * spent)
            run += 1
        found[size] = best
        size += 1
    return found[:size]


@kernel
def _saved_net_of_prices(
    price: _Ints, weight: _Ints, units: _Ints, request: _Ints, depth: _Ints, count: _Ints,
    parts: _Ints, needed: _Ints, all_needed: bool, most: int,
) -> _Ints:  # fmt: skip
    """int64[requests that reuse something], the bracket of each, in 1/4096 units.

    No sum leaves 64 bits: where a group needs all blocks the search ends when their price has
    passed `most`, the worth of everything, and elsewhere the price of all parts that a prefix needs
    is below 2^60 (`BlockNeeds.most_parts`, `tier_worth`).
    """
    if len(parts) == 1 and parts[0] > 0 and all_needed:
        return _saved_of_equal_blocks(price, weight, units, request, depth, count, parts[0], most)
    longest = len(units) - 1
    before = np.zeros(longest + 1, np.int64)
    found = np.zeros(len(request), np.int64)
    size = 0
    run = 0
    while run < len(request):
        row = request[run]
        best = 0
        hopeless = False
        while run < len(request) and request[run] == row:
            at = depth[run]
            for i in range(at, at + count[run]):
                if hopeless:
                    break
                before[i + 1] = before[i] + price[run]
                net = weight[row] * units[i + 1]
                for g in range(len(parts)):
                    net -= parts[g] * (before[i + 1] - before[needed[g, i + 1]])
                best = max(best, net)
                hopeless = all_needed and before[i + 1] > most
            run += 1
        found[size] = best
        size += 1
    return found[:size]
