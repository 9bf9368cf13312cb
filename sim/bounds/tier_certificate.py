"""`certify_tiers`: a lower bound for any number of tiers, exclusive or inclusive.

**Model.** Tier 0 is HBM; tier i holds at most k_i pages (None: any number) and reads at B_i. At
each step a page is in one tier, where the step attends to it; in the last, if only the copy that an
inclusive last tier has of every page is there. What a move loads is `TierStack`'s rule. A step
takes the longest of its resources: HBM's reads, and each lower tier's reads and moves (duplex:
upwards and downwards apart; simplex: their sum). A page is written in HBM and takes no room there
in that step. Where pages are at the start is given for each page, or free.

**Claim.** Let r run over the resources. For every λ_{t,r} ≥ 0 with Σ_r λ_{t,r} ≤ 1 and μ_{t,i} ≥ 0

    L = Σ_pages min_path [ Σ_t price of its reads and moves at t + μ_{t, its tier at t} ]
        − Σ_i k_i Σ_t μ_{t,i}  +  Σ_t λ_{t,HBM}·w / B_0  +  Σ_t price of what t writes through

is a lower bound on any policy's time, where one page on resource r at step t has the price
λ_{t,r}·page / B_r, and the paths of a page are all sequences of tiers from its start or birth on.

**Proof.** The longest of the resources' times is at least their combination by λ, so the time is at
least the sum of all loads at their prices. Occupancies are at most k_i and μ ≥ 0, so subtracting
Σ μ_{t,i}(k_i − o_{t,i}) ≥ 0 lowers it further. What a page's move from tier i to j loads at t
depends on i, j and t, and, inclusive, on whether step t − 1 read or wrote the page: the trace says
that, no policy does. So what remains is a sum over pages of the price of the path that each took,
plus constants (weights, writes through); each is at least the cheapest path, and as its price adds
up over pairs of neighbouring steps, the dynamic program over K states finds it. ∎

For a p-norm over the tiers' times, ‖x‖_p ≥ Σ α_i x_i whenever ‖α‖_q ≤ 1 with 1/p + 1/q = 1
(Hölder), and a duplex channel's time is at least any mean of its two directions. So it is enough
that the λ of each step, added up tier by tier, have a q-norm of at most 1: they are divided by a
number that is proven to be no less than it (`dual_norm`).

**Arithmetic.** λ is rounded down to whole multiples of 2^−106, its prices to whole multiples of
2^−S s, μ to such multiples as well; each stays what the claim asks for, and the rest is exact. S is
such that no sum leaves 64 bits: a step of a path loads no resource more than twice, so a path costs
at most twice all prices and once all μ, which together stay below 2^61.
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.certificate import Certificate
from vsim.sim.bounds.dual_norm import ONE, dual_length, whole_weight
from vsim.sim.compiled import kernel
from vsim.sim.schedules.by_page import StepsByPage
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.tier_stack import TierStack
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def certify_tiers(
    lam: Floats, mu: Floats, reads: PageReads, stack: TierStack, start: Int32s
) -> Certificate:
    """Evaluate L for the multipliers given. O(pages · T · K²).

    Args:
        lam: float64[T, resources] ≥ 0; a step whose sum exceeds 1 is scaled down.
        mu: float64[T, K − 1] ≥ 0, seconds.
        reads: the reads of each step.
        stack: the tiers.
        start: int32[n_pages], the tier of each page of the prompt before step 0, or FREE.

    Raises:
        ValueError: a multiplier is not finite or negative, or the shapes differ.
    """
    steps, tiers = reads.steps, stack.tiers
    if lam.shape != (steps, stack.resources) or mu.shape != (steps, tiers - 1):
        raise ValueError("lam must be [T, resources] and mu [T, tiers - 1]")
    for name, values in (("lam", lam), ("mu", mu)):
        if not (np.isfinite(values.sum()) and (values >= 0).all()):
            raise ValueError(f"{name} must be finite and not negative")
    weights = _weights(lam, stack)
    page_s = [Fraction(reads.page_bytes) / Fraction(stack.bytes_per_s[i]) for i in stack.tier_of()]
    # As a float this is off by a few parts in 10^16 a step, and 2^60 is half of what there is.
    all_prices = math.fsum(
        weight / length * float(of_page)
        for row, length in weights
        for weight, of_page in zip(row, page_s, strict=True)
    )
    scale = 60 - math.frexp(2 * all_prices + float(mu.sum()))[1]
    prices = _prices(weights, page_s, scale)
    room = np.zeros((steps, tiers), np.int64)
    room[:, :-1] = np.floor(np.ldexp(mu, scale))

    read_price = prices @ stack.reads().T
    move = np.einsum("tr,fijr->ftij", prices, stack.moves())
    by_page = StepsByPage.of(reads)
    cheapest = _cheapest_paths(
        by_page.offsets, by_page.steps, reads.born, start.astype(np.int32), read_price, move, room
    )
    total = Fraction(sum(cheapest.tolist()))
    for tier, pages in enumerate(stack.pages[:-1]):
        assert pages is not None
        total -= pages * sum(room[:, tier].tolist())
    total += Fraction(sum(prices[:, 0].tolist()) * stack.weight_bytes, reads.page_bytes)
    written = stack.written_through(births(reads))
    total += sum(
        price * pages
        for price, pages in zip(prices.ravel().tolist(), written.ravel().tolist(), strict=True)
    )
    return Certificate.of(total * Fraction(2) ** -scale)


def _weights(lam: Floats, stack: TierStack) -> list[tuple[list[int], int]]:
    """Each step's λ as whole numbers, and the number that they are to be divided by."""
    tier_of = stack.tier_of().tolist()
    found = []
    for row in np.minimum(lam, 1.0).tolist():
        whole = [whole_weight(share) for share in row]
        by_tier = [0] * stack.tiers
        for tier, weight in zip(tier_of, whole, strict=True):
            by_tier[tier] += weight
        length = dual_length(by_tier, stack.norm)
        # Under max() weights that add up to less than 1 are left as they are.
        found.append((whole, max(length, ONE) if math.isinf(stack.norm) else length))
    return found


def _prices(weights: list[tuple[list[int], int]], page_s: list[Fraction], scale: int) -> Int64s:
    """int64[T, resources]: the price of one page, in 2^−scale s, rounded down."""
    units = [Fraction(2) ** scale * of_page for of_page in page_s]
    return np.array(
        [
            [
                weight * unit.numerator // (unit.denominator * length)
                for weight, unit in zip(row, units, strict=True)
            ]
            for row, length in weights
        ],
        np.int64,
    )


@kernel
def _cheapest_paths(
    offsets: Int64s,
    read_steps: Int32s,
    born: Int32s,
    start: Int32s,
    read_price: Int64s,
    move: Int64s,
    room: Int64s,
) -> Int64s:
    """int64[pages]: the price of each page's cheapest path, by dynamic programming over tiers."""
    steps, tiers = read_price.shape
    # Far above any path, and two of them still fit.
    never = np.int64(1) << 61
    found = np.zeros(len(born), np.int64)
    here = np.empty(tiers, np.int64)
    next_ = np.empty(tiers, np.int64)
    for p in range(len(born)):
        at = offsets[p]
        end = offsets[p + 1]
        first = born[p] + 1
        fresh = np.int64(0)  # 1: the step before read or wrote the page
        for i in range(tiers):
            here[i] = never
        if born[p] >= 0:
            fresh = np.int64(1)
            here[0] = 0
            if at < end and read_steps[at] == born[p]:
                here[0] = read_price[born[p], 0]
                at += 1
        elif start[p] >= 0:
            here[start[p]] = 0
        else:
            here[:] = 0
        # At a free start any tier is as good, so no move is paid before step 0.
        for t in range(first, steps):
            reads = at < end and read_steps[at] == t
            for j in range(tiers):
                best = never
                for i in range(tiers):
                    if here[i] < never:
                        best = min(best, here[i] + move[fresh, t, i, j])
                if best < never:
                    best += room[t, j]
                    if reads:
                        best += read_price[t, j]
                next_[j] = best
            for i in range(tiers):
                here[i] = next_[i]
            fresh = np.int64(reads)
            if reads:
                at += 1
        best = never
        for i in range(tiers):
            best = min(best, here[i])
        found[p] = best
    return found
