"""Slo: what a server promises, and whether a run keeps it.

Two promises are in use, and `--slo` takes both. One is about a statistic of a latency, as load
tests report it: `ttft_p99=2s`. The other is about single requests, SLO attainment as DistServe has
it (Zhong et al., OSDI 2024, section 2): a request is good if it keeps each limit,
`ttft=2s,tpot=50ms`, and a share of all must be: `attainment=99%`. A rejected request is never
answered: it is not good, and counts as infinitely late.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NoReturn

from vsim.traces.faults import Fault, InputError, refuse, suggestion
from vsim.traces.units import parse_duration_ns

METRICS: Final = ("ttft", "tpot", "itl", "e2e")
STATISTICS: Final = ("mean", "p50", "p90", "p95", "p99")
OPTION: Final = "--slo"
ATTAINMENT: Final = "attainment"
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(%?)")
_NAMES: Final = (
    *METRICS, ATTAINMENT, *(f"{metric}_{each}" for metric in METRICS for each in STATISTICS)
)  # fmt: skip

LatencyNs = Mapping[str, Mapping[str, int | None]]
"""By metric and statistic: nanoseconds, or None where it is infinite."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A limit on a latency.

    Args:
        metric: one of METRICS.
        statistic: one of STATISTICS; None for a limit of each request alone.
        limit_ns: the most that it may be.
    """

    metric: str
    statistic: str | None
    limit_ns: int

    @property
    def name(self) -> str:
        """As it is written: `ttft_p99`."""
        return self.metric if self.statistic is None else f"{self.metric}_{self.statistic}"


@dataclass(frozen=True, slots=True)
class Kept:
    """How a run stands to one promise.

    Args:
        name: the objective's, or `attainment`.
        limit: nanoseconds, or a share.
        found: the same of the run; None for infinitely late.
        met: whether the promise was kept.
    """

    name: str
    limit: float
    found: float | None
    met: bool

    @property
    def strain(self) -> float:
        """How much of the limit was used: above 1 where it was passed; infinite where never met.

        Of attainment, the share of requests that were not good over the share that may be so.
        """
        if self.found is None:
            return float("inf")
        if self.name == ATTAINMENT:
            missed, allowed = 1 - self.found, 1 - self.limit
            return missed / allowed if allowed else (float("inf") if missed else 1.0)
        return self.found / self.limit


@dataclass(frozen=True, slots=True)
class Slo:
    """Promises that hold together.

    Args:
        objectives: limits, in the order they were written.
        attainment: share of requests that must keep all of the limits without a statistic; None
            where there are none.
    """

    objectives: tuple[Objective, ...]
    attainment: Fraction | None = None

    @property
    def limits_ns(self) -> dict[str, int]:
        """By metric, what a request may take to be good: the largest limit of the metric.

        Not of gaps between tokens, of which a request has many.
        """
        found: dict[str, int] = {}
        for each in self.objectives:
            if each.metric != "itl":
                found[each.metric] = max(each.limit_ns, found.get(each.metric, 0))
        return found

    def kept(self, latency_ns: LatencyNs, good: int, requests: int) -> tuple[Kept, ...]:
        """Hold a run against each promise.

        Args:
            latency_ns: what its requests took.
            good: requests that kept all of `limits_ns`.
            requests: how many there were, rejected ones included.
        """
        return tuple(self._kept(latency_ns, good, requests))

    def _kept(self, latency_ns: LatencyNs, good: int, requests: int) -> Iterator[Kept]:
        for each in self.objectives:
            if each.statistic is not None:
                found = latency_ns[each.metric][each.statistic]
                met = found is not None and found <= each.limit_ns
                yield Kept(each.name, float(each.limit_ns), found, met)
        if self.attainment is not None:
            share = Fraction(good, requests) if requests else Fraction(1)
            met = share >= self.attainment
            yield Kept(ATTAINMENT, float(self.attainment), float(share), met)

    def text(self) -> str:
        """As it is written."""
        parts = [f"{each.name}={_shown(each.limit_ns)}" for each in self.objectives]
        if self.attainment is not None:
            parts.append(f"{ATTAINMENT}={float(self.attainment * 100):g}%")
        return ",".join(parts)


def parse_slo(text: str) -> Slo:
    """Read `ttft_p99=2s,tpot_p99=50ms`, or `ttft=2s,tpot=50ms,attainment=99%`.

    Raises:
        InputError: with every fault found.
    """
    faults: list[Fault] = []
    objectives: list[Objective] = []
    share: Fraction | None = None
    seen: set[str] = set()
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            if not equals or not name or not value:
                _refuse(f"'{part.strip()}' is no promise; write it like ttft_p99=2s")
            if name in seen:
                _refuse(f"{name} is there twice; keep one of them")
            seen.add(name)
            if name == ATTAINMENT:
                share = _share(value)
            else:
                objectives.append(_objective(name, value))
        except InputError as error:
            faults += error.faults
    if not faults:
        faults += _together(objectives, share)
    if faults:
        raise InputError(faults)
    return Slo(tuple(objectives), share)


def _objective(name: str, value: str) -> Objective:
    metric, _, statistic = name.partition("_")
    if name not in _NAMES:
        _refuse(f"'{name}' is unknown{suggestion(name, _NAMES)}; write a latency and a statistic")
    try:
        limit = parse_duration_ns(value)
    except ValueError as error:
        _refuse(f"{name}: {error}")
    if limit == 0:
        _refuse(f"{name}: no request takes 0; write a duration above it")
    return Objective(metric, statistic or None, limit)


def _share(value: str) -> Fraction:
    match = _SHARE.fullmatch(value)
    if match is not None:
        share = Fraction(match[1]) / (100 if match[2] else 1)
        if 0 < share <= 1:
            return share
    _refuse(f"{ATTAINMENT}: '{value}' is no share; write one up to 100%, like 99% or 0.99")


def _together(objectives: list[Objective], share: Fraction | None) -> Iterator[Fault]:
    of_requests = [each for each in objectives if each.statistic is None]
    if of_requests and share is None:
        yield Fault(
            OPTION,
            f"{of_requests[0].name} is a limit of each request, and nothing says how many must keep"
            f" it; add {ATTAINMENT}=99%, or write {of_requests[0].name}_p99",
        )
    if share is not None and not of_requests:
        yield Fault(
            OPTION, f"{ATTAINMENT} counts requests that keep limits, and there is none; add ttft=2s"
        )
    if any(each.metric == "itl" for each in of_requests):
        yield Fault(OPTION, "itl is of gaps, of which a request has many; write itl_p99, or tpot")


def _refuse(message: str) -> NoReturn:
    refuse(OPTION, message)


def _shown(ns: int) -> str:
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= size:
            return f"{ns / size:g}{unit}"
    return f"{ns}ns"
