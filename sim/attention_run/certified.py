"""`certify_decode`: a time that no placement's decode steps can beat, proven for a run's formula.

**Claim.** Let a policy place pages on the same two tiers, start from any pages of the prompts in
HBM, and serve the same reads. Then its T decode steps take, in whole nanoseconds, no less than

    F + ⌊D + max(L, C)⌋ − ⌊d⌋

where F is the launch and communication of all steps, D the time of their products, LM heads and
small kernels, C that of their attention's arithmetic, L the certified bound of
`vsim.sim.bounds.certificate` for these reads without pinned traffic, over free choice at the start,
and d what rounding steps to nanoseconds may hide.

**Proof.** A step takes F_t + D_t + max(C_t, z_t) with z_t = ‖(hbm_t, slow_t)‖_p (`work.py`): it is
a sum of kernels, and only attention reads pages. F_t, D_t and C_t follow from the tokens and the
reads, so every policy pays the same. A step's promotions and demotions run beside its attention, so
none of them overlaps F_t or D_t, and a policy's total is at least Σ F_t + Σ D_t + max(Σ z_t, Σ
C_t). Now hbm_t = hits·page/B1 with the same B1 in every step; and slow_t ≥ (misses +
promotions)·page/B2, since B2 is the least bandwidth on the way up and copies down only add to the
resources they share with it. On a channel that is called simplex one resource carries both ways at
B2 or less, so there also slow_t ≥ (misses + promotions + v_t)·page/B2 with the pages v_t that every
policy writes through. That is the step time of the certificate's claim with w = 0, so Σ z_t ≥ L. A
body, D_t and attention together, is rounded up to whole nanoseconds, less 1e-6 of one against
floating-point noise; and that noise is less than a share of 2^−46 of it (`schedules.step_time`). D
is the exact sum of the same floats. So with X = D + max(L, C) the bodies take, in whole
nanoseconds, N ≥ X − d for d = T·10^−6 + X·2^−46; and N + ⌊d⌋ > X − 1, so N ≥ ⌊X⌋ − ⌊d⌋, which is
what is claimed: d is less than one up to a million steps and nineteen hours. ∎

F and D may be added because this run's formula has transfers beside attention only. Where transfers
go on while a step is launched or multiplies matrices, as on the engine's flows, L + F + D would be
no bound, and L alone is one.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from vsim.sim.attention_run.work import Timed, Work
from vsim.sim.bounds.false_certificate import refuse_false_certificate
from vsim.sim.bounds.lp import Bound, bound
from vsim.sim.bounds.windows import WindowedBound, bound_in_windows
from vsim.sim.placement.case import Case
from vsim.sim.placement.comparison import LONG_STEPS
from vsim.sim.schedules.step_time import ROUNDING

_STEPS_PER_NS = 1_000_000  # over which rounding bodies takes a nanosecond off them at most
_NS_PER_S = 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Certified:
    """How far a run's decode steps are from what no placement can beat.

    Attributes:
        solved: the certified bound on Σ z_t, with its solver.
        fixed_ns: F.
        dense_ns: D, exactly.
        compute_ns: C, rounded down.
        decode_ns: what the run's decode steps took.
        steps: how many there were.

    Raises:
        FalseCertificateError: the run took less than the bound.
    """

    solved: Bound | WindowedBound
    fixed_ns: int
    dense_ns: Fraction
    compute_ns: int
    decode_ns: int
    steps: int

    def __post_init__(self) -> None:
        bound_s, decode_s = Fraction(self.bound_ns, _NS_PER_S), Fraction(self.decode_ns, _NS_PER_S)
        what = "bound on a run's decode steps"
        refuse_false_certificate(bound_s, {"the run's placement": decode_s}, what=what)

    @property
    def body_ns(self) -> int:
        """⌊D + max(L, C)⌋ − ⌊d⌋: what the bodies of the steps take at least."""
        attention_ns = max(self.solved.certificate.exact_s * _NS_PER_S, Fraction(self.compute_ns))
        most_ns = self.dense_ns + attention_ns
        hidden_ns = Fraction(self.steps, _STEPS_PER_NS) + most_ns * ROUNDING
        return math.floor(most_ns) - math.floor(hidden_ns)

    @property
    def bound_ns(self) -> int:
        """What no placement's decode steps can beat."""
        return self.fixed_ns + self.body_ns

    @property
    def gap(self) -> float:
        """By how much the run's decode steps take longer, relative."""
        return _above(self.decode_ns, self.bound_ns)

    @property
    def attention_gap(self) -> float:
        """The same for attention alone, the part that a placement changes."""
        others = self.fixed_ns + math.floor(self.dense_ns)
        return _above(self.decode_ns - others, self.bound_ns - others)

    def as_json(self) -> dict[str, Any]:
        """Plain values for summary.json; seconds of simulated time."""
        return {
            "decode_s": self.decode_ns / _NS_PER_S,
            "bound_s": self.bound_ns / _NS_PER_S,
            "gap": self.gap,
            "attention_gap": self.attention_gap,
            "certificate": {
                "page_reads_s": self.solved.bound_s,
                "launch_and_communication_s": self.fixed_ns / _NS_PER_S,
                "dense_kernels_s": float(self.dense_ns / _NS_PER_S),
                "arithmetic_s": self.compute_ns / _NS_PER_S,
                "solver": self.solved.solver,
                "lp_s": self.solved.lp_s,
                "gap_to_lp": self.solved.gap_to_lp,
                "rounds": self.solved.rounds,
            },
        }


def _above(time_ns: int, bound_ns: int) -> float:
    """By how much a time is above its bound, relative; bodies may take no whole nanosecond."""
    return max(time_ns, 1) / max(bound_ns, 1) - 1


def certify_decode(case: Case, work: Work, times: Timed) -> Certified:
    """Bound the decode steps of any placement and compare those of this run.

    Args:
        case: what was placed; its start is not used, any will do.
        work: what the decode steps did.
        times: how long they took.

    Raises:
        FalseCertificateError: see `Certified`.
    """
    anywhere = replace(case, start="free").may_start_resident()
    if case.reads.steps >= LONG_STEPS:
        solved: Bound | WindowedBound = bound_in_windows(case.reads, case.tiers, anywhere)
    else:
        solved = bound(case.reads, case.tiers, anywhere)
    compute_ns = math.fsum(work.attention_ns)
    return Certified(
        solved=solved,
        fixed_ns=int((times.launch_ns + times.communication_ns).sum()),
        dense_ns=sum(map(Fraction, times.dense_ns.tolist()), Fraction(0)),
        compute_ns=math.floor(compute_ns * (1 - 1e-12)),
        decode_ns=int(times.step_ns.sum()),
        steps=case.reads.steps,
    )
