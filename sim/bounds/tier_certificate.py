"""`certify_tiers`: a lower bound for any number of tiers, each page in exactly one of them.

**Model.** Tier 0 is HBM; tier i holds at most k_i pages (None: any number) and reads at B_i. At
each step a page is in one tier, where the step attends to it. A move from tier i to tier j before
or during step t loads the channel of i upwards (if i > 0) and the channel of j downwards (if
j > 0) by one page each; HBM itself takes no load from moves. A step takes the longest of its
resources: HBM's reads, and each lower tier's reads and moves (duplex: upwards and downwards apart;
simplex: their sum). A page is written in HBM and takes no room there in that step. Where pages are
at the start is given for each page, or free.

**Claim.** Let r run over the resources. For every λ_{t,r} ≥ 0 with Σ_r λ_{t,r} ≤ 1 and μ_{t,i} ≥ 0

    L = Σ_pages min_path [ Σ_t price of its reads and moves at t + μ_{t, its tier at t} ]
        − Σ_i k_i Σ_t μ_{t,i}  +  Σ_t λ_{t,HBM}·w / B_0

is a lower bound on any policy's time, where one page on resource r at step t has the price
λ_{t,r}·page / B_r, and the paths of a page are all sequences of tiers from its start or birth on.

**Proof.** The longest of the resources' times is at least their combination by λ, so the time is at
least the sum of all loads at their prices. Occupancies are at most k_i and μ ≥ 0, so subtracting
Σ μ_{t,i}(k_i − o_{t,i}) ≥ 0 lowers it further. What remains is a sum over pages of the price of the
path that each took, plus constants; each is at least the cheapest path, which the dynamic program
over K states finds. Prices are rounded down to whole multiples of 2^−S s and the rest is exact. ∎
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.certificate import Certificate
from vsim.sim.compiled import kernel
from vsim.sim.placement.by_page import StepsByPage
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

FREE = -1
"""Start of a page that may begin in any tier."""


@dataclass(frozen=True, slots=True)
class TierStack:
    """Tiers from HBM down; the last must hold everything (None).

    Attributes:
        bytes_per_s: bandwidth of each tier, or of the channel to it.
        pages: how many pages each holds, None for any number.
        weight_bytes: pinned traffic of each step on HBM.
        duplex: channels carry both directions at once.
    """

    bytes_per_s: tuple[float, ...]
    pages: tuple[int | None, ...]
    weight_bytes: int = 0
    duplex: bool = True

    def __post_init__(self) -> None:
        if len(self.bytes_per_s) < 2 or len(self.bytes_per_s) != len(self.pages):
            raise ValueError("two tiers or more, each with a bandwidth and a number of pages")
        if not all(math.isfinite(b) and b > 0 for b in self.bytes_per_s):
            raise ValueError("bandwidths must be finite and positive")
        if self.pages[-1] is not None:
            raise ValueError("the last tier must hold any number of pages (None)")
        if any(k is None or k < 0 for k in self.pages[:-1]):
            raise ValueError("tiers above the last hold 0 pages or more each")

    @property
    def tiers(self) -> int:
        """K."""
        return len(self.pages)

    @property
    def resources(self) -> int:
        """HBM, then each lower tier's channel up and down, or both in one."""
        return 1 + (self.tiers - 1) * (2 if self.duplex else 1)

    def up(self, tier: int) -> int:
        """The resource that reads a tier, or moves pages out of it upwards."""
        return 0 if tier == 0 else 1 + (tier - 1) * (2 if self.duplex else 1)

    def down(self, tier: int) -> int:
        """The resource that moves pages into a lower tier."""
        return self.up(tier) + (1 if self.duplex else 0)


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
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name} must be finite and not negative")
    page_s = [reads.page_bytes / b for b in stack.bytes_per_s]
    largest = 4 * sum(page_s) * steps + float(mu.sum())
    scale = 60 - math.frexp(largest)[1]
    # Shares in 2^−53, so that their sum is exact; rounding down keeps it at most 1.
    shares = np.floor(np.ldexp(np.minimum(lam, 1.0), 53)).astype(np.int64)
    prices = np.zeros((steps, stack.resources), np.int64)
    tier_of = [0] * stack.resources
    for tier in range(1, tiers):
        tier_of[stack.up(tier)] = tier_of[stack.down(tier)] = tier
    unit = [
        Fraction(2) ** scale * reads.page_bytes / Fraction(stack.bytes_per_s[tier])
        for tier in tier_of
    ]
    for t, row in enumerate(shares.tolist()):
        whole = max(sum(row), 2**53)
        for r, share in enumerate(row):
            prices[t, r] = share * unit[r].numerator // (unit[r].denominator * whole)
    room = np.zeros((steps, tiers), np.int64)
    room[:, :-1] = np.floor(np.ldexp(mu, scale))

    read_price = np.stack([prices[:, stack.up(i)] for i in range(tiers)], axis=1)
    move = np.zeros((steps, tiers, tiers), np.int64)
    for i in range(tiers):
        for j in range(tiers):
            if i != j:
                move[:, i, j] += prices[:, stack.up(i)] if i > 0 else 0
                move[:, i, j] += prices[:, stack.down(j)] if j > 0 else 0
    by_page = StepsByPage.of(reads)
    cheapest = _cheapest_paths(
        by_page.offsets, by_page.steps, reads.born, start.astype(np.int32), read_price, move, room
    )
    total = Fraction(sum(cheapest.tolist()))
    for tier, pages in enumerate(stack.pages[:-1]):
        assert pages is not None
        total -= pages * sum(room[:, tier].tolist())
    total += Fraction(sum(prices[:, 0].tolist()) * stack.weight_bytes, reads.page_bytes)
    exact = total * Fraction(2) ** -scale
    rounded = float(exact)
    return Certificate(exact, math.nextafter(rounded, -math.inf) if rounded > exact else rounded)


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
        for i in range(tiers):
            here[i] = never
        if born[p] >= 0:
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
                        best = min(best, here[i] + move[t, i, j])
                if best < never:
                    best += room[t, j]
                    if reads:
                        best += read_price[t, j]
                next_[j] = best
            here[:] = next_
            if reads:
                at += 1
        best = never
        for i in range(tiers):
            best = min(best, here[i])
        found[p] = best
    return found
