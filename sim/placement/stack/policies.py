"""The policies over tiers by name."""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from vsim.sim.bounds.tier_ascent import StackBound
from vsim.sim.placement.predictor import Predictor
from vsim.sim.placement.predictors import PREDICTORS
from vsim.sim.placement.stack.belady_cascade import belady_cascade
from vsim.sim.placement.stack.case import StackCase, StackPlacement
from vsim.sim.placement.stack.lru_cascade import lru_cascade
from vsim.sim.placement.stack.path_annealing import path_annealing
from vsim.sim.placement.stack.price_guided import price_guided
from vsim.sim.placement.stack.ranked_cascade import ranked_cascade
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.placement.stack.waterfall import waterfall
from vsim.sim.placement.window_share import window_share
from vsim.sim.schedules.two_tiers import TwoTiers

Run = Callable[[StackCase], StackPlacement]

PRICE_GUIDED = "price-guided"
PATH_ANNEALING = "path-annealing"
GUIDED = (PRICE_GUIDED, PATH_ANNEALING)
"""The policies that need the bound's multipliers."""


def _plain(name: str, decide: Callable[[StackCase], TierSchedule], *, oracle: bool = False) -> Run:
    def run(case: StackCase) -> StackPlacement:
        began = time.perf_counter()
        schedule = decide(case)
        elapsed = time.perf_counter() - began
        facts = {"planner_s_per_step": elapsed / case.reads.steps}
        return StackPlacement(name, schedule, oracle, facts)

    return run


def ranking_predictors() -> Mapping[str, Predictor]:
    """The predictors that rank pages, by the name of their policy."""
    return MappingProxyType(
        {
            "ewma-reads": PREDICTORS["ewma-reads"][0],
            "ewma-mass": PREDICTORS["ewma-mass"][0],
            "learned": PREDICTORS["learned"][0],
        }
    )


STACK_DRAWING = frozenset({"window-share", *GUIDED})
"""The policies that draw from the seed."""

STACK_FOLLOWING_MASS = frozenset({"ewma-mass", "learned"})
"""The policies that follow attention mass."""


def _ranked(name: str, predictor: Predictor) -> Run:
    return _plain(name, lambda case: ranked_cascade(case, predictor))


def stack_policies() -> Mapping[str, Run]:
    """Every policy but those that need the bound first, by name."""
    found: dict[str, Run] = {
        "static": _plain("static", waterfall),
        "lru": _plain("lru", lru_cascade),
        "lru-balanced": _plain("lru-balanced", lambda case: lru_cascade(case, balanced=True)),
    }
    for name, predictor in ranking_predictors().items():
        found[name] = _ranked(name, predictor)
    found["belady"] = _plain("belady", belady_cascade, oracle=True)
    return MappingProxyType(found)


def two_tier_policies(seed: int = 0) -> Mapping[str, Run]:
    """Policies of two tiers that a table of two exclusive ones shows if asked, by name."""

    def published(case: StackCase) -> TierSchedule:
        stack = case.stack
        if stack.tiers != 2:
            raise ValueError("window-share places two tiers only; leave it out")
        two = TwoTiers(
            stack.bytes_per_s[0],
            stack.bytes_per_s[1],
            int(stack.room()[0]),
            weight_bytes=stack.weight_bytes,
            exclusive=stack.exclusive,
            duplex=stack.duplex,
            norm=stack.norm,
        )
        here = case.starts() == 0
        free = case.start == "free"
        found = window_share(case.reads, two, here, free_start=free, seed=seed).schedule
        return TierSchedule.of(found.page, np.zeros(len(found.page)), found.first, found.last)

    return MappingProxyType({"window-share": _plain("window-share", published, oracle=True)})


def guided(
    case: StackCase, solved: StackBound, *, anneal: bool, seed: int = 0
) -> dict[str, StackPlacement]:
    """The price-guided schedule, begun from static or Belady, and what annealing makes of it.

    Args:
        case: the case.
        solved: its bound.
        anneal: whether the second is wanted.
        seed: of both.
    """
    first = [waterfall(case), belady_cascade(case)]
    priced = price_guided(case, solved.lam, solved.mu, first, seed=seed)
    found = {PRICE_GUIDED: StackPlacement(PRICE_GUIDED, priced, True)}
    if anneal:
        annealed = path_annealing(case, solved.lam, solved.mu, priced, seed=seed)
        found[PATH_ANNEALING] = StackPlacement(PATH_ANNEALING, annealed, True)
    return found
