"""`bound_in_windows`: the bound of a long trace, its multipliers solved for in parts.

The certificate takes any multipliers, so those of overlapping parts of the trace can be put end to
end: what a part does not know about its ends fades within the overlap. The program of a part is
solved faster than in proportion to its length, and parts are solved side by side.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vsim.sim.bounds.certificate import Certificate, certify
from vsim.sim.bounds.lp import bound
from vsim.sim.schedules.two_tiers import Bools, TwoTiers
from vsim.traces.page_reads import PageReads

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class WindowedBound:
    """A certified bound and its multipliers; the LP of the whole trace was not solved."""

    certificate: Certificate
    lam: Floats
    mu: Floats
    windows: int
    seconds: float
    solver: str

    @property
    def gap_to_lp(self) -> None:
        """Not known."""
        return None

    @property
    def lp_s(self) -> None:
        """Not known."""
        return None

    @property
    def rounds(self) -> int:
        """The parts solved."""
        return self.windows

    @property
    def bound_s(self) -> float:
        """The certified bound, seconds."""
        return self.certificate.bound_s


def bound_in_windows(
    reads: PageReads,
    tiers: TwoTiers,
    may_start_resident: Bools,
    *,
    steps_per_window: int = 1_000,
    overlap: int = 100,
    workers: int = 2,
) -> WindowedBound:
    """Solve parts of the trace, each with `overlap` steps of its neighbours, and certify it whole.

    Args:
        reads, tiers, may_start_resident: the case.
        steps_per_window: length of a part.
        overlap: steps before and after it that are solved with it and thrown away.
        workers: parts solved at a time.
    """
    began = time.perf_counter()
    starts = list(range(0, reads.steps, steps_per_window))

    def solve(at: int) -> tuple[Floats, Floats, str]:
        end = min(at + steps_per_window, reads.steps)
        low, high = max(at - overlap, 0), min(end + overlap, reads.steps)
        part = _cut(reads, low, high)
        # In a later part any page that exists may be in HBM already.
        start = may_start_resident if low == 0 else reads.born < low
        found = bound(part, tiers, start)
        return found.lam[at - low : end - low], found.mu[at - low : end - low], found.solver

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(solve, starts))
    lam = np.concatenate([part[0] for part in parts])
    mu = np.concatenate([part[1] for part in parts])
    certificate = certify(lam, mu, reads, tiers, may_start_resident)
    elapsed = time.perf_counter() - began
    return WindowedBound(certificate, lam, mu, len(starts), elapsed, parts[0][2])


def _cut(reads: PageReads, low: int, high: int) -> PageReads:
    """The steps low..high − 1; a page born before them counts as the prompt's."""
    begin, end = reads.offsets[low], reads.offsets[high]
    born = np.where(reads.born < low, -1, reads.born - low).astype(np.int32)
    return replace(
        reads,
        offsets=reads.offsets[low : high + 1] - begin,
        pages=reads.pages[begin:end],
        born=born,
        prompt_pages=int((born < 0).sum()),
        mass=None,
    )
