"""answers: what a study's configurations serve at their best, what it costs, and which to take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vsim.sim.goodput.costs import HourlyCost, TierWorth, hourly_cost, tier_worths, usd_per_million
from vsim.sim.goodput.load import Offered
from vsim.sim.goodput.prices import Prices
from vsim.sim.goodput.slo import Kept
from vsim.sim.goodput.study import Studied, Tried
from vsim.sim.simulation import Server
from vsim.traces.requests import Requests

_NS = 1e9


@dataclass(frozen=True, slots=True)
class PricedRun:
    """A run and what its tokens cost.

    Args:
        tried: the run.
        offered_per_s: requests or sessions that were offered a second; None where they come at 0.
        good_per_s: requests a second that kept every limit.
        usd_per_million_output: what a million generated tokens cost; None without one.
        usd_per_million: what a million of prompt and generated tokens together cost.
    """

    tried: Tried
    offered_per_s: float | None
    good_per_s: float
    usd_per_million_output: float | None
    usd_per_million: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a configuration can do.

    Args:
        studied: what was run.
        offered: what a load of 1 is; None without a search.
        hourly: what the server costs.
        runs: every run, by load.
        best: the highest load that meets the SLO; None where none does.
        tiers: what each tier below HBM is worth there.
    """

    studied: Studied
    offered: Offered | None
    hourly: HourlyCost
    runs: tuple[PricedRun, ...]
    best: PricedRun | None
    tiers: tuple[TierWorth, ...]

    @property
    def name(self) -> str:
        """What was varied."""
        return self.studied.configuration.name

    @property
    def first_broken(self) -> Kept | None:
        """The promise that is broken first: at the lowest load that fails, the most strained."""
        above = self.studied.above
        if above is None:
            return None
        return max((each for each in above.kept if not each.met), key=lambda each: each.strain)

    @property
    def head_room(self) -> float | None:
        """How many times the scenario's own load the best one is; None where there is no search."""
        if self.best is None or self.offered is None:
            return None
        own = self.studied.configuration.scenario.workload.rate_scale
        return self.best.tried.rate_scale / own


def answer(
    studied: Studied, server: Server, requests: Requests, offered: Offered | None, prices: Prices
) -> Answer:
    """Price a configuration's runs, and say what its tiers are worth at its best.

    Args:
        studied: what was run.
        server: what served.
        requests: those of the scenario.
        offered: what a load of 1 is; None without a search.
        prices: what things cost.
    """
    hourly = hourly_cost(prices, server)
    runs = tuple(_priced(tried, hourly, offered) for tried in studied.tried)
    best = None if studied.best is None else _priced(studied.best, hourly, offered)
    worths: tuple[TierWorth, ...] = ()
    if best is not None:
        mean = float(requests.prompt_tokens.mean())
        worths = tier_worths(prices, server, hourly, best.tried.measured, mean)
    return Answer(studied, offered, hourly, runs, best, worths)


def _priced(tried: Tried, hourly: HourlyCost, offered: Offered | None) -> PricedRun:
    measured = tried.measured
    tokens, ns = measured.output_tokens, measured.simulated_ns
    return PricedRun(
        tried,
        None if offered is None else offered.per_s * tried.rate_scale,
        measured.good / (ns / _NS) if ns else 0.0,
        usd_per_million(hourly.usd, tokens, ns),
        usd_per_million(hourly.usd, tokens + measured.prompt_tokens, ns),
    )


def cheapest(answers: Sequence[Answer]) -> Answer | None:
    """The configuration whose tokens cost the least at its best load; the first of equal ones."""
    return min(_with_price(answers), key=lambda pair: pair[0], default=(0.0, None))[1]


def pareto(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """The configurations that no other one beats in cost and goodput, the cheapest first."""
    front: list[Answer] = []
    ranked = sorted(_with_price(answers), key=lambda pair: (pair[0], -_good(pair[1])))
    for _, each in ranked:
        if not front or _good(each) > _good(front[-1]):
            front.append(each)
    return tuple(front)


def _good(each: Answer) -> float:
    return 0.0 if each.best is None else each.best.good_per_s


def _with_price(answers: Sequence[Answer]) -> Iterator[tuple[float, Answer]]:
    for each in answers:
        if each.best is not None and each.best.usd_per_million_output is not None:
            yield each.best.usd_per_million_output, each
