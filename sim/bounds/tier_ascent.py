"""`bound_stack`: a certified bound for any stack, by climbing the certificate's own slope.

The linear program of `tier_lp` forgets which page arrived where; the certificate does not. So a
quasi-Newton method climbs the smoothed certificate (`tier_slope`) from what a program proposed,
while the smoothing falls. Nothing here need be exact or even right: `certify_tiers` judges what
comes out.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from vsim.sim.bounds.certificate import Certificate
from vsim.sim.bounds.highs import NoOptimumError
from vsim.sim.bounds.lp import bound
from vsim.sim.bounds.tier_certificate import certify_tiers
from vsim.sim.bounds.tier_lp import bound_tiers
from vsim.sim.bounds.tier_slope import Slope
from vsim.sim.schedules.tier_stack import TierStack
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]
Int32s = npt.NDArray[np.int32]

STAGES = ((0.03, 3_000, 2.0), (0.01, 6_000, 2.0), (0.005, 6_000, 1.0), (0.0025, 12_000, 1.0))
"""τ in pages on the channel below HBM; how many pages stand for all; share of the evaluations."""


@dataclass(frozen=True, slots=True, eq=False)
class StackBound:
    """The best certified bound found.

    Attributes:
        certificate: the bound.
        lam, mu: its multipliers, as `certify_tiers` takes them.
        lp_s: where it began: for two tiers what `lp.Bound.lp_s` says of the inclusive program; for
            more, the optimum under max() of the program over groups, over the paths that it was
            given, if that proposed the better multipliers. No certificate is held against it: tiers
            that are exclusive, or a p-norm, are bounded above it. None if no solver answered.
        evaluations: how often the slope was worked out.
        seconds: wall time.
    """

    certificate: Certificate
    lam: Floats
    mu: Floats
    lp_s: float | None
    evaluations: int
    seconds: float

    @property
    def bound_s(self) -> float:
        """The certified bound, seconds."""
        return self.certificate.bound_s

    @property
    def solver(self) -> str:
        """What proposed the multipliers."""
        if self.lp_s is None:
            return "hand"
        return "ascent" if self.evaluations else "interior point"


def bound_stack(
    reads: PageReads,
    stack: TierStack,
    start: Int32s,
    *,
    evaluations: int = 30,
    threads: int = 1,
) -> StackBound:
    """Bound any stack: propose multipliers by a linear program, and where it is weak, ascend.

    Two tiers begin with the inclusive program, which is exact for inclusive tiers, and more with
    the one over groups of intervals. If tiers are exclusive, where a page is depends on all its
    past, of which both programs know too little: then the ascent gains most.

    Args:
        reads: the reads of each step.
        stack: the tiers.
        start: int32[n_pages], the tier of each page of the prompt before step 0, or FREE.
        evaluations: of the slope, at most, at each smoothing.
        threads: HiGHS threads.
    """
    began = time.perf_counter()
    lam, mu, lp_s = _proposed(reads, stack, start, threads)
    used = 0
    if stack.exclusive:
        if stack.tiers > 2:
            evaluations = (evaluations + 1) // 2
        lam, mu, used = ascend(lam, mu, reads, stack, start, evaluations=evaluations)
    certificate = certify_tiers(lam, mu, reads, stack, start)
    return StackBound(certificate, lam, mu, lp_s, used, time.perf_counter() - began)


def _proposed(
    reads: PageReads, stack: TierStack, start: Int32s, threads: int
) -> tuple[Floats, Floats, float | None]:
    """λ, μ and the optimum of a linear program, whichever certifies more."""
    two = TwoTiers(
        hbm_bytes_per_s=stack.bytes_per_s[0],
        slow_bytes_per_s=sum(stack.bytes_per_s[1:]),
        hbm_pages=int(stack.room()[0]),
        weight_bytes=stack.weight_bytes,
        norm=stack.norm,
    )
    merged = bound(reads, two, (start <= 0) & (reads.born < 0), threads=threads)
    lam = np.zeros((reads.steps, stack.resources))
    lam[:, 0] = 1 - merged.lam
    for tier in range(1, stack.tiers):
        share = stack.bytes_per_s[tier] / two.slow_bytes_per_s
        lam[:, stack.up(tier)] = share * merged.lam
    mu = np.zeros((reads.steps, stack.tiers - 1))
    mu[:, 0] = merged.mu
    if stack.tiers == 2:
        return lam, mu, merged.lp_s
    # The inclusive program proposes for exclusive tiers, too: their own takes many times longer.
    inclusive = replace(stack, exclusive=False)
    try:
        grouped = bound_tiers(reads, inclusive, start, max_rounds=1, threads=threads)
    except NoOptimumError:
        return lam, mu, merged.lp_s
    exact_s = certify_tiers(grouped.lam, grouped.mu, reads, stack, start).exact_s
    if exact_s > certify_tiers(lam, mu, reads, stack, start).exact_s:
        return grouped.lam, grouped.mu, grouped.relaxed_s
    return lam, mu, merged.lp_s


def ascend(
    lam: Floats,
    mu: Floats,
    reads: PageReads,
    stack: TierStack,
    start: Int32s,
    *,
    evaluations: int = 40,
) -> tuple[Floats, Floats, int]:
    """Climb from (λ, μ) and return the best pair met at the end of a smoothing.

    Args:
        lam, mu: where to start, as for `certify_tiers`.
        reads, stack, start: the case.
        evaluations: of the slope, at most, at each smoothing of all pages.

    Returns:
        λ, μ, and how often the slope was worked out.
    """
    best = certify_tiers(lam, mu, reads, stack, start).exact_s
    here = lam, mu
    used = 0
    for tau, pages, share in STAGES:
        slope = Slope(reads, stack, start, tau, -(-reads.n_pages // pages))
        at = slope.joined(*here)
        cells = lam.size
        limits: Any = [(-12.0, 12.0)] * cells + [(0.0, None)] * (len(at) - cells)
        found = minimize(
            slope, at, jac=True, method="L-BFGS-B", bounds=limits,
            options={"maxfun": int(share * evaluations), "maxiter": 10_000, "maxcor": 20,
                     "ftol": 1e-8, "gtol": 0.0},
        )  # fmt: skip
        used += int(found.nfev)
        here = slope.split(found.x)
        if not all(np.isfinite(part.sum()) for part in here):
            here = lam, mu  # beyond floats, where tiers differ by many powers of ten
            continue
        value = certify_tiers(*here, reads, stack, start).exact_s
        if value > best:
            best, (lam, mu) = value, here
        else:
            here = lam, mu
    return lam, mu, used
