"""`compare_stack`: every policy over tiers beside the certified bound on one case."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vsim.sim.bounds.false_certificate import gap_above, refuse_false_certificate
from vsim.sim.bounds.tier_ascent import StackBound, bound_stack
from vsim.sim.placement.comparison import reads_json
from vsim.sim.placement.stack.case import StackCase, StackPlacement
from vsim.sim.placement.stack.cost import StackCost, no_less_stack_seconds
from vsim.sim.placement.stack.policies import (
    GUIDED,
    PATH_ANNEALING,
    guided,
    ranking_predictors,
    stack_policies,
    two_tier_policies,
)


@dataclass(frozen=True, slots=True, eq=False)
class StackRow:
    """One policy's result.

    Attributes:
        name: the policy.
        placement: what it decided.
        cost: what it took.
        no_less_s: a number that its true time is not above, see `no_less_stack_seconds`.
        gap: how far it is above the bound, relative.
    """

    name: str
    placement: StackPlacement
    cost: StackCost
    no_less_s: Fraction
    gap: float


@dataclass(frozen=True, slots=True, eq=False)
class StackComparison:
    """The bound of a case and the policies above it, in the order they were asked for.

    Attributes:
        case: what was compared.
        tier_names: of each tier, from HBM down.
        bound: the certified bound.
        rows: one a policy.

    Raises:
        FalseCertificateError: a policy took less than the bound.
    """

    case: StackCase
    tier_names: tuple[str, ...]
    bound: StackBound
    rows: tuple[StackRow, ...]

    def __post_init__(self) -> None:
        held = {row.name: row.no_less_s for row in self.rows}
        refuse_false_certificate(self.bound.certificate.exact_s, held)

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as plain values."""
        stack, reads = self.case.stack, self.case.reads
        static = next((r.cost.time_s for r in self.rows if r.name == "static"), None)
        return {
            "bound_s": self.bound.bound_s,
            "certificate": {
                "solver": self.bound.solver,
                "lp_s": self.bound.lp_s,
                "evaluations": self.bound.evaluations,
                "seconds": self.bound.seconds,
            },
            "case": {
                **reads_json(reads),
                "tiers": [
                    {"tier": name, "bytes_per_s": rate, "pages": pages}
                    for name, rate, pages in zip(
                        self.tier_names, stack.bytes_per_s, stack.pages, strict=True
                    )
                ],
                "weight_bytes": stack.weight_bytes,
                "exclusive": stack.exclusive,
                "duplex": stack.duplex,
                "norm": "inf" if stack.norm == float("inf") else stack.norm,
                "start": self.case.start,
            },
            "policies": {
                row.name: {
                    "time_s": row.cost.time_s,
                    "gap": row.gap,
                    "speed_up": static / row.cost.time_s if static else None,
                    "hit_ratio": row.cost.hit_ratios[0],
                    "hit_ratios": dict(zip(self.tier_names, row.cost.hit_ratios, strict=True)),
                    "moved_bytes": row.cost.moved_bytes,
                    "oracle": row.placement.oracle,
                    **dict(row.placement.facts),
                }
                for row in self.rows
            },
        }


def stack_policy_names() -> tuple[str, ...]:
    """Every name that `compare_stack` knows."""
    return (*stack_policies(), *two_tier_policies(), *GUIDED)


def usual_stack_names(case: StackCase) -> tuple[str, ...]:
    """What a table shows unless it is asked for more, in its order."""
    blind = {name for name, p in ranking_predictors().items() if case.seen is None and p.uses_mass}
    return tuple(name for name in (*stack_policies(), *GUIDED) if name not in blind)


def compare_stack(
    case: StackCase,
    tier_names: tuple[str, ...],
    names: Collection[str] | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> StackComparison:
    """Bound a case and run policies on it.

    Args:
        case: the case.
        tier_names: of each tier, from HBM down.
        names: the policies to run; None: the usual ones.
        seed: of the policies that draw.
        threads: HiGHS threads.
        progress: is told the name of what runs next.

    Raises:
        KeyError: a name is not known.
        ValueError: a policy follows attention mass, and the case has none.
        FalseCertificateError: see `StackComparison`.
    """
    tell = progress or (lambda name: None)
    wanted = usual_stack_names(case) if names is None else tuple(names)
    known = {**stack_policies(), **two_tier_policies(seed)}
    tell("bound")
    solved = bound_stack(case.reads, case.stack, case.may_start(), threads=threads)
    placed: dict[str, StackPlacement] = {}
    for name in wanted:
        tell(name)
        if name in GUIDED:
            if name not in placed:
                anneal = PATH_ANNEALING in wanted
                placed.update(guided(case, solved, anneal=anneal, seed=seed))
        else:
            placed[name] = known[name](case)
    rows = []
    for name in wanted:
        cost = case.cost(placed[name].schedule)
        no_less_s = no_less_stack_seconds(case.reads, case.stack, cost)
        gap = gap_above(solved.certificate.exact_s, no_less_s)
        rows.append(StackRow(name, placed[name], cost, no_less_s, gap))
    return StackComparison(case, tier_names, solved, tuple(rows))
