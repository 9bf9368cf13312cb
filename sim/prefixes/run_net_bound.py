"""How far what a run's prefix hits saved, net of loads, is from the most that its tiers allow.

A hit saves what computing its tokens takes in full steps, by the timing model, and what lies below
HBM is loaded first: for that each of its bytes is charged what it takes on the whole path with
nothing else on it. Moments and stays are those of `run_bound`; tiers and paths those of
`vsim.sim.bounds.prefix_tiers`, whose requests wait for what they load, as the engine's do. Requests
that were preempted are left out on both sides: what they looked up again is not kept apart.

Prices by slot and tier of very long runs would take much memory beside them. Of these all tiers
count as one that nothing has to be loaded from, with the prices at which hits are bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from vsim.sim.bounds.false_certificate import FalseCertificateError
from vsim.sim.bounds.prefix_descent import STEPS, descend
from vsim.sim.bounds.prefix_tiers import (
    TierCase,
    TierPrices,
    certify_tier_prefixes,
    tier_worth,
)
from vsim.sim.bounds.prefix_tree import certify_prefixes
from vsim.sim.engine.result import EngineResult
from vsim.sim.prefixes.belady_prices import belady_prices
from vsim.sim.prefixes.run_bound import RunReuse
from vsim.sim.prefixes.values import Value
from vsim.sim.schedules.cache_tiers import BlockNeeds, CacheTiers
from vsim.sim.schedules.prefix_worth import Worth
from vsim.traces.prefix_reuse import PrefixReuse

_MOST_REQUESTS: Final = 300_000  # priced by slot and tier
_WORK: Final = 1_500_000  # runs and slots looked at, by all steps together, unless tight


@dataclass(frozen=True, slots=True)
class RunNetBound:
    """Seconds of prefill that prefix hits saved, net of loads, of requests never preempted.

    Args:
        saved_s: by the run.
        most_s: certified that no cache over these tiers passes.
    """

    saved_s: float
    most_s: float


def bound_net(
    run: RunReuse,
    engine: EngineResult,
    seconds: Value,
    load_s_per_token: Sequence[Fraction],
    *,
    tight: bool,
) -> RunNetBound:
    """Certify what a run could have saved.

    Args:
        run: what its requests could have found.
        engine: what happened.
        seconds: what computing takes, in blocks of `run.fine_tokens`.
        load_s_per_token: from each tier, 0 from HBM and from what is attended in place.
        tight: take all steps that a good bound needs.

    Raises:
        FalseCertificateError: the run saved more than was certified: a bug in vsim.
    """
    reuse = run.once
    hits = engine.hit_tokens_by_tier[run.order].astype(np.int64)
    found = hits.sum(axis=1) // run.fine_tokens
    found[run.again] = 0
    longest = max(int((reuse.depth + reuse.count).max(initial=0)), int(found.max(initial=0)))
    seconds = seconds.known_to(longest)
    if len(run.order) > _MOST_REQUESTS:
        most = _without_loads(run, seconds)
    else:
        tiers = CacheTiers(
            tuple(tier.name for tier in engine.tiers),
            run.rooms,
            tuple(load * run.fine_tokens for load in load_s_per_token),
        )
        needs = BlockNeeds.of_equal_blocks(longest)
        worth = tier_worth(seconds.name, reuse, needs, seconds.of_block)
        case = TierCase(reuse, worth, needs, tiers)
        steps = STEPS if tight else 1 + _WORK // (len(reuse.count) + reuse.requests + 1)
        most = certify_tier_prefixes(case, descend(case, min(steps, STEPS)).prices).most
    loads = sum(
        int(hits[~run.again, tier].sum()) * load for tier, load in enumerate(load_s_per_token)
    )
    each_s = [float(seconds.of_block(depth)) for depth in range(longest)]
    upto_s = np.concatenate([[0.0], np.cumsum(each_s)])
    saved = float(upto_s[found].sum()) - float(loads)
    if saved > float(most) * (1 + 1e-9) + 1e-9:
        raise FalseCertificateError(
            "this is a bug in vsim, and no fault of your input: no cache over these tiers saves"
            f" more than {float(most)} s net of loads, and yet the run saved {saved} s;"
            " please report it with the command and its input"
        )
    return RunNetBound(saved, float(most))


def _without_loads(run: RunReuse, seconds: Value) -> Fraction:
    """What one cache as large as all tiers saves at most."""
    reuse, blocks = run.once, sum(run.rooms)
    worth = Worth.of(seconds.name, reuse, seconds.of_block)
    saved = worth.units[reuse.depth + reuse.count] - worth.units[reuse.depth]
    a_block = float(saved.sum()) / max(int(reuse.count.sum()), 1) * float(worth.unit)
    prices = belady_prices(reuse, blocks).room.astype(np.float64)
    return certify_prefixes(reuse, worth, blocks, a_block * prices).most


def compile_net_bound() -> None:
    """Compile what it takes, or load it from the cache, so that no run's time holds that."""
    each = np.arange(3, dtype=np.int64)
    one = np.ones(3, np.int64)
    reuse = PrefixReuse.of_held(each, one, one, each, np.array([0, 1, 0], np.int32))
    needs = BlockNeeds.of_equal_blocks(1)
    worth = tier_worth("seconds", reuse, needs, lambda depth: 1)
    tiers = CacheTiers(("hbm", "host"), (0, 1), (Fraction(0), Fraction(1, 2)))
    case = TierCase(reuse, worth, needs, tiers)
    certify_tier_prefixes(case, TierPrices(descend(case, 2).prices.room))
