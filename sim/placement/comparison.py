"""`compare`: every policy beside the certified bound on one case."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vsim.sim.bounds.false_certificate import gap_above, refuse_false_certificate
from vsim.sim.bounds.floors import Floors, floors
from vsim.sim.bounds.lp import Bound, bound
from vsim.sim.bounds.windows import WindowedBound, bound_in_windows
from vsim.sim.placement.case import Case, Placement
from vsim.sim.placement.policies import policies, rounded, solved_for_rounding, studies
from vsim.sim.placement.predictors import PREDICTORS
from vsim.sim.placement.static import unlimited_hbm
from vsim.sim.schedules.cost import Cost, no_less_seconds
from vsim.traces.page_reads import PageReads

ROUNDING = "lp-rounding"
UNLIMITED = "unlimited-hbm"
LONG_STEPS = 3_000
"""From so many steps on, the multipliers are solved for in parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One policy's result.

    Attributes:
        name: the policy.
        placement: None for HBM without a limit, which is no placement.
        cost: what it took.
        no_less_s: a number that its true time is not above, see `no_less_seconds`.
        gap: how far it is above the bound, relative.
    """

    name: str
    placement: Placement | None
    cost: Cost
    no_less_s: Fraction
    gap: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The bound of a case and the policies above it, best last as they were asked for.

    Raises:
        FalseCertificateError: a policy took less than the bound, or than a floor.
    """

    case: Case
    bound: Bound | WindowedBound
    floors: Floors
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        held = {row.name: row.no_less_s for row in self.rows if row.placement is not None}
        refuse_false_certificate(self.bound.certificate.exact_s, held)
        for name, floor in (
            ("bandwidth", self.floors.bandwidth_s),
            ("room", self.floors.capacity_s),
        ):
            refuse_false_certificate(Fraction(floor), held, what=f"floor by {name}")

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as plain values."""
        tiers, reads = self.case.tiers, self.case.reads
        static = next((r.cost.time_s for r in self.rows if r.name == "static"), None)
        return {
            "bound_s": self.bound.bound_s,
            "certificate": {
                "solver": self.bound.solver,
                "lp_s": self.bound.lp_s,
                "gap": self.bound.gap_to_lp,
                "seconds": self.bound.seconds,
                "rounds": self.bound.rounds,
            },
            "floors": {
                "bandwidth_s": self.floors.bandwidth_s,
                "capacity_s": self.floors.capacity_s,
            },
            "case": {
                **reads_json(reads),
                "hbm_pages": tiers.hbm_pages,
                "hbm_bytes_per_s": tiers.hbm_bytes_per_s,
                "slow_bytes_per_s": tiers.slow_bytes_per_s,
                "weight_bytes": tiers.weight_bytes,
                "exclusive": tiers.exclusive,
                "duplex": tiers.duplex,
                "norm": "inf" if tiers.norm == float("inf") else tiers.norm,
                "start": self.case.start,
            },
            "policies": {
                row.name: {
                    "time_s": row.cost.time_s,
                    "gap": row.gap,
                    "speed_up": static / row.cost.time_s if static else None,
                    "hit_ratio": row.cost.hit_ratio,
                    "moved_bytes": row.cost.moved_bytes,
                    "oracle": row.placement is None or row.placement.oracle,
                    **(dict(row.placement.facts) if row.placement else {}),
                }
                for row in self.rows
            },
        }


def reads_json(reads: PageReads) -> dict[str, Any]:
    """What was read, as plain values."""
    return {
        "source": reads.source,
        "steps": reads.steps,
        "pages": reads.n_pages,
        "prompt_pages": reads.prompt_pages,
        "reads": reads.reads,
        "page_bytes": reads.page_bytes,
        "page_tokens": reads.page_tokens,
    }


def policy_names() -> tuple[str, ...]:
    """Every name that `compare` knows."""
    return (UNLIMITED, *policies(), *studies(), ROUNDING)


def usual_names(case: Case) -> tuple[str, ...]:
    """What a table shows unless it is asked for more, in its order."""
    unseen = case.seen is None
    blind = {name for name, (p, _) in PREDICTORS.items() if unseen and p.uses_mass}
    return tuple(name for name in (UNLIMITED, *policies(), ROUNDING) if name not in blind)


def compare(
    case: Case,
    names: Collection[str] | None = None,
    *,
    seed: int = 0,
    mip_s: float = 0.0,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Bound a case and run policies on it.

    Args:
        case: the case.
        names: the policies to run; None: the usual ones.
        seed: of the policies that draw.
        mip_s: seconds that the grouped MIP may take after the LP's rounding; 0: none.
        threads: HiGHS threads.
        progress: is told the name of what runs next.

    Raises:
        KeyError: a name is not known.
        ValueError: a policy follows attention mass, and the case has none.
        FalseCertificateError: see `Comparison`.
    """
    tell = progress or (lambda name: None)
    wanted = usual_names(case) if names is None else tuple(names)
    known: Mapping[str, Any] = {**policies(), **studies()}
    tell("bound")
    rounding: Bound | None = None
    solved: Bound | WindowedBound
    if ROUNDING in wanted:
        solved = rounding = solved_for_rounding(case, threads=threads)
    elif case.reads.steps >= LONG_STEPS:
        solved = bound_in_windows(
            case.reads, case.tiers, case.may_start_resident(), workers=threads
        )
    else:
        solved = bound(case.reads, case.tiers, case.may_start_resident(), threads=threads)
    exact_s = solved.certificate.exact_s
    rows: list[Row] = []

    def add(name: str, placement: Placement | None, cost: Cost) -> None:
        no_less_s = no_less_seconds(case.reads, case.tiers, cost)
        rows.append(Row(name, placement, cost, no_less_s, gap_above(exact_s, no_less_s)))

    for name in wanted:
        tell(name)
        if name == UNLIMITED:
            add(name, None, unlimited_hbm(case.reads, case.tiers))
            continue
        if name == ROUNDING and rounding is not None:
            placement = rounded(case, rounding, mip_s=mip_s, seed=seed)
        else:
            placement = known[name](case, seed)
        add(name, placement, case.cost(placement.schedule))
    return Comparison(case, solved, floors(case.reads, case.tiers), tuple(rows))
