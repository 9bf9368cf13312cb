"""`certify`: a lower bound on the time of every placement policy, from any multipliers at all.

**Claim.** Let S_t be the pages that step t reads, and let a step take max(t_hbm, t_slow) with
t_hbm = (w + hits·page) / B1 and t_slow = (misses + promotions)·page / B2. HBM holds at most k
pages. A page streamed in or written at step s may be in HBM from s+1 on for free; a page that may
start resident may be in HBM from step 0 for free; otherwise putting a page into HBM at step τ
promotes it over the channel during τ. Evictions are free. Then for every λ ∈ [0,1]^T and every
μ ≥ 0 no policy, whatever it knows, takes less than

    L = Σ_reads c(s, e)  −  k Σ_t μ_t  +  Σ_t a_t·(w / page)  +  Σ_t b_t·v_t

where a_t = (1−λ_t)·page/B1 and b_t = λ_t·page/B2 are the prices of one page read from HBM and of
one page on the channel, v_t are pages every policy writes through at t (simplex channel only),
M(i..j) = μ_i + … + μ_j, and a read of a page at step e whose last free chance to stay was s costs

    c(s, e) = min{ b_e ;  a_e + M(s+1..e) ;  min_{s<τ<e} [ b_τ + M(τ..e) ] + a_e },

without the middle term if the page neither was read, written, nor may have been resident before.

**Proof.** max(x, y) ≥ (1−λ)x + λy for λ ∈ [0,1]. So a policy's time is at least Σ_t of its HBM
traffic priced at a_t and its channel traffic priced at b_t. Its occupancy o_t ≤ k, and μ ≥ 0, so
subtracting Σ_t μ_t (k − o_t) ≥ 0 lowers this further, to

    Σ_t a_t·(w/page + hits_t) + b_t·(misses_t + promotions_t + v_t) + μ_t·o_t  −  k Σ_t μ_t.

All prices are ≥ 0. Split every page's timeline at its reads and share this sum out: to the read at
e, with the previous read (or birth, or start) at s, belong the read itself, the page's promotions
in s < τ ≤ e and its occupancy of the steps s+1..e. Nothing is counted twice. If the read misses, it
alone costs b_e. If it hits, the page is resident at e; let τ be the first step of the residency
that holds e, or s+1 if that is earlier. If τ = s+1 and the page came free, its occupancy costs
M(s+1..e), and the hit a_e. Otherwise it was promoted at τ with s < τ ≤ e, and paid b_τ + M(τ..e) +
a_e; for τ = e that is at least b_e. So every read costs at least c(s, e). ∎

For a p-norm step time, (x^p + y^p)^(1/p) ≥ αx + βy whenever α^q + β^q ≤ 1 with 1/p + 1/q = 1
(Hölder), so the prices may be divided by any number that is no less than ‖(1−λ, λ)‖_q: that is at
most 1, and `dual_norm` gives one that is proven. The exclusive model only adds paid promotions and
demotions to the same traffic, so L holds for it as well, and so do duplex channels.

**Arithmetic.** λ is a whole multiple of 2^−106. Prices are rationals of it, the page and the
bandwidths, rounded down to whole multiples of 2^−S seconds, which keeps them valid prices (the
inequality above only needs α and β small enough), and μ is rounded to such multiples, which makes
it another μ ≥ 0. Everything after that is exact in integers, so the value returned is proven, not
only computed. S is such that no sum leaves 64 bits: Σ μ, what the reads of one step cost and the
longest chain of both stay below 2^62. A solver only proposes λ and μ; none is trusted.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.dual_norm import ONE, dual_length, whole_weight
from vsim.sim.compiled import kernel
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proven lower bound: `exact_s` as a rational, `bound_s` the float just below it."""

    exact_s: Fraction
    bound_s: float

    @staticmethod
    def of(exact_s: Fraction) -> "Certificate":
        """Round a proven bound down to a float."""
        nearest = float(exact_s)
        below = math.nextafter(nearest, -math.inf) if nearest > exact_s else nearest
        return Certificate(exact_s, below)


def certify(
    lam: Floats, mu: Floats, reads: PageReads, tiers: TwoTiers, may_start_resident: Bools
) -> Certificate:
    """Evaluate the bound L of the module's docstring for the multipliers given. O(reads + T log T).

    Args:
        lam: float64[T], clipped to [0, 1]: the weight of the slow tier's time.
        mu: float64[T] ≥ 0, seconds: the price of one page in HBM during one step.
        reads: the reads of each step.
        tiers: the memory.
        may_start_resident: bool[n_pages]; all pages of the prompt for the bound over free choice.

    Raises:
        ValueError: a multiplier is not finite or negative, or the lengths differ.
    """
    steps = reads.steps
    if len(lam) != steps or len(mu) != steps:
        raise ValueError(f"lam and mu must have one entry for each of {steps} steps")
    if not (np.isfinite(lam).all() and np.isfinite(mu.sum()) and (mu >= 0).all()):
        raise ValueError("lam and mu must be finite and mu must not be negative")
    shares = _shares(lam, tiers.norm)
    page = reads.page_bytes
    fast_s = Fraction(page) / Fraction(tiers.hbm_bytes_per_s)
    slow_s = Fraction(page) / Fraction(tiers.slow_bytes_per_s)
    # As floats these are off by a few parts in 10^16, and 2^60 is a quarter of what there is.
    dearest = max(fast / length for fast, _, length in shares) * float(fast_s)
    dearest += max(slow / length for _, slow, length in shares) * float(slow_s)
    at_most = max(1, int(reads.reads_per_step.max()))
    scale = 60 - math.frexp(max(float(mu.sum()), 2 * dearest * at_most))[1]
    hbm_price = _prices([(fast, length) for fast, _, length in shares], fast_s, scale)
    slow_price = _prices([(slow, length) for _, slow, length in shares], slow_s, scale)
    capacity_price = np.floor(np.ldexp(mu, scale)).astype(np.int64)

    of_reads = sum(
        _cost_of_reads(
            reads.offsets, reads.pages, reads.born, may_start_resident,
            hbm_price, slow_price, capacity_price,
        ).tolist()
    )  # fmt: skip
    total = Fraction(of_reads - tiers.hbm_pages * sum(capacity_price.tolist()))
    total += Fraction(sum(hbm_price.tolist()) * tiers.weight_bytes, page)
    if not tiers.exclusive and not tiers.duplex:
        total += sum(
            b * v for b, v in zip(slow_price.tolist(), births(reads).tolist(), strict=True)
        )
    return Certificate.of(total * Fraction(2) ** -scale)


def _shares(lam: Floats, norm: float) -> list[tuple[int, int, int]]:
    """(1−λ, λ, ‖·‖_q) of each step as whole numbers: the first two over the third are weights."""
    known: dict[float, tuple[int, int, int]] = {}
    for value in np.unique(lam).tolist():
        slow = whole_weight(min(max(value, 0.0), 1.0))
        known[value] = (ONE - slow, slow, dual_length((ONE - slow, slow), norm))
    return [known[value] for value in lam.tolist()]


def _prices(weights: list[tuple[int, int]], page_s: Fraction, scale: int) -> Int64s:
    """int64[T]: weight · page_s of each step in 2^−scale s, rounded down."""
    unit = Fraction(2) ** scale * page_s
    return np.array(
        [weight * unit.numerator // (unit.denominator * length) for weight, length in weights],
        np.int64,
    )


@kernel
def _cost_of_reads(
    offsets: Int64s, pages: Int32s, born: Int32s, start: Bools, a: Int64s, b: Int64s, mu: Int64s
) -> Int64s:
    """int64[T]: Σ c(s, e) over the reads at each step e, exactly."""
    steps = len(a)
    before = np.zeros(steps + 1, np.int64)  # before[t] = μ_0 + … + μ_{t−1}
    for t in range(steps):
        before[t + 1] = before[t] + mu[t]
    levels = 1
    while (1 << levels) <= steps:
        levels += 1
    # lowest[l, t] = min over τ in t..t+2^l−1 of b_τ − before[τ]
    lowest = np.empty((levels, steps), np.int64)
    for t in range(steps):
        lowest[0, t] = b[t] - before[t]
    for level in range(1, levels):
        half = 1 << (level - 1)
        for t in range(steps - 2 * half + 1):
            lowest[level, t] = min(lowest[level - 1, t], lowest[level - 1, t + half])
    level_of = np.zeros(steps + 1, np.int64)
    for n in range(2, steps + 1):
        level_of[n] = level_of[n // 2] + 1

    last = np.empty(len(born), np.int64)  # −1: may be there from step 0; −2: only by a promotion
    for p in range(len(born)):
        last[p] = born[p] if born[p] >= 0 else (-1 if start[p] else -2)
    cost = np.zeros(steps, np.int64)
    for e in range(steps):
        total = np.int64(0)
        for i in range(offsets[e], offsets[e + 1]):
            s = last[pages[i]]
            last[pages[i]] = e
            best = b[e]
            if s >= -1:
                best = min(best, a[e] + before[e + 1] - before[s + 1])
            lo = max(s + 1, 0)
            if lo < e:
                level = level_of[e - lo]
                key = min(lowest[level, lo], lowest[level, e - (1 << level)])
                best = min(best, key + before[e + 1] + a[e])
            total += best
        cost[e] = total
    return cost
