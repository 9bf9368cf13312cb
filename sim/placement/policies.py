"""The placement policies by name."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from vsim.sim.bounds.lp import Bound, bound
from vsim.sim.placement.belady import belady
from vsim.sim.placement.case import Case, Placement
from vsim.sim.placement.clock import clock
from vsim.sim.placement.interval_annealing import interval_annealing
from vsim.sim.placement.lp_rounding import grouped_mip, lp_rounding
from vsim.sim.placement.lru import lru
from vsim.sim.placement.page_oracle import page_oracle
from vsim.sim.placement.predictor import Predictor
from vsim.sim.placement.predictors import PREDICTORS
from vsim.sim.placement.retention import Retention, retain
from vsim.sim.placement.sharing import share_reads
from vsim.sim.placement.static import static_first_fill
from vsim.sim.placement.window_share import window_share
from vsim.sim.schedules.schedule import Schedule

Run = Callable[[Case, int], Placement]


def _plain(name: str, decide: Callable[[Case], Schedule], *, oracle: bool = False) -> Run:
    def run(case: Case, seed: int) -> Placement:
        began = time.perf_counter()
        schedule = decide(case)
        elapsed = time.perf_counter() - began
        return Placement(name, schedule, oracle, {"planner_s_per_step": elapsed / case.reads.steps})

    return run


def _window_share(case: Case, seed: int) -> Placement:
    found = window_share(
        case.reads, case.tiers, case.resident(), free_start=case.start == "free", seed=seed
    )
    facts = {"window": float(found.window), "share": found.share, "tried": float(found.tried)}
    return Placement("window-share", found.schedule, True, facts)


def _interval_annealing(case: Case, seed: int) -> Placement:
    schedule = interval_annealing(case.reads, case.tiers, case.may_start_resident(), seed=seed)
    return Placement("interval-annealing", schedule, True)


def predicted(name: str, predictor: Predictor, retention: Retention) -> Run:
    """Make an online policy of a predictor and the way it moves pages."""

    def run(case: Case, seed: int) -> Placement:
        kept = retain(case.reads, case.tiers, case.resident(), predictor, retention, case.seen)
        facts = {
            "predicted_reads": kept.predicted_reads,
            "used_promotions": kept.used_promotions,
            "prefetched_pages": float(kept.prefetches),
            "planner_s_per_step": kept.planner_s_per_step,
        }
        return Placement(name, kept.schedule, retention.foresight > 0, facts)

    return run


def solved_for_rounding(case: Case, *, threads: int = 1) -> Bound:
    """The bound of a case, ending on a vertex that can be rounded."""
    return bound(case.reads, case.tiers, case.may_start_resident(), vertex=True, threads=threads)


def rounded(case: Case, solved: Bound, *, mip_s: float, seed: int = 0) -> Placement:
    """The schedule next to the bound: LP rounding, then the grouped MIP for at most mip_s."""
    found = lp_rounding(case.reads, case.tiers, solved, seed=seed)
    if mip_s > 0:
        found = grouped_mip(case.reads, case.tiers, solved, found, time_limit_s=mip_s)
    return Placement("lp-rounding", found.schedule, True)


ERRORS_PERCENT, FORESIGHTS = (10, 25, 50, 75, 100), (1, 2, 4, 8)
"""The wrong predictions of `belady-error-N`, and the steps that `lookahead-N` knows."""

DRAWING = frozenset(
    {"window-share", "interval-annealing", "lp-rounding"}
    | {f"belady-error-{percent}" for percent in ERRORS_PERCENT}
)
"""The policies that draw from the seed."""

FOLLOWING_MASS = frozenset(
    {name for name, (predictor, _) in PREDICTORS.items() if predictor.uses_mass}
    | {f"lookahead-{steps}" for steps in FORESIGHTS}
)
"""The policies that follow attention mass."""


def studies() -> Mapping[str, Run]:
    """Policies that a table shows only if asked: how much, and how rightly, one must foresee.

    belady-error-N: Belady with N % of its predictions wrong. lookahead-N: `learned`, but it knows
    what the next N steps read.
    """
    found = {f"belady-error-{percent}": _mistaken(percent) for percent in ERRORS_PERCENT}
    return MappingProxyType({**found, **{f"lookahead-{n}": _foreseeing(n) for n in FORESIGHTS}})


def _foreseeing(steps: int) -> Run:
    predictor, retention = PREDICTORS["learned"]
    return predicted(f"lookahead-{steps}", predictor, replace(retention, foresight=steps))


def _mistaken(percent: int) -> Run:
    def run(case: Case, seed: int) -> Placement:
        schedule = belady(case.reads, case.tiers, case.resident(), error=percent / 100, seed=seed)
        return Placement(f"belady-error-{percent}", schedule, True)

    return run


def policies() -> Mapping[str, Run]:
    """Every policy but the rounding, which needs the bound first, by name."""
    found: dict[str, Run] = {
        "static": _plain("static", lambda c: static_first_fill(c.reads, c.tiers, c.resident())),
        "lru": _plain("lru", lambda c: lru(c.reads, c.tiers, c.resident())),
        "lru-balanced": _plain(
            "lru-balanced", lambda c: lru(c.reads, c.tiers, c.resident(), balanced=True)
        ),
        "clock": _plain("clock", lambda c: clock(c.reads, c.tiers, c.resident())),
        "clock-balanced": _plain(
            "clock-balanced", lambda c: clock(c.reads, c.tiers, c.resident(), balanced=True)
        ),
    }
    for name, (predictor, retention) in PREDICTORS.items():
        found[name] = predicted(name, predictor, retention)
    found["page-oracle"] = _plain(
        "page-oracle", lambda c: page_oracle(c.reads, c.tiers, c.resident()), oracle=True
    )
    found["window-share"] = _window_share
    found["belady"] = _plain(
        "belady", lambda c: belady(c.reads, c.tiers, c.resident()), oracle=True
    )
    found["belady-balanced"] = _plain(
        "belady-balanced",
        lambda c: share_reads(c.reads, c.tiers, belady(c.reads, c.tiers, c.resident())),
        oracle=True,
    )
    found["interval-annealing"] = _interval_annealing
    return MappingProxyType(found)
