"""How figures of a study are written: money, loads, latencies, shares."""

from vsim.sim.goodput.answer import Answer, PricedRun
from vsim.sim.goodput.slo import ATTAINMENT, Kept
from vsim.traces.units import format_duration

NONE = "–"
_HOURLY_BELOW = 0.1  # sessions a second


def dollars(usd: float | None) -> str:
    """Three significant digits, thousands with a comma."""
    if usd is None:
        return NONE
    if usd >= 100:
        return f"${usd:,.0f}"
    return f"${usd:.3g}" if usd < 0.01 else f"${usd:.2f}"


def rate(per_s: float | None) -> str:
    """Three significant digits."""
    return NONE if per_s is None else f"{per_s:,.0f}" if per_s >= 1000 else f"{per_s:.3g}"


def latency(ns: float | None) -> str:
    """A duration; one that never ends says so."""
    return "never" if ns is None else format_duration(ns)


def percent(share: float | None) -> str:
    """A share in whole percent, small ones with a decimal."""
    if share is None:
        return NONE
    return f"{100 * share:.0f}%" if share >= 0.0995 or share == 0 else f"{100 * share:.1f}%"


def span(seconds: float | None) -> str:
    """A duration as people say it, in two significant digits: `14 h`."""
    if seconds is None:
        return NONE
    for unit, size in (("y", 31_557_600.0), ("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 10 * size else (
                f"{seconds / size:.1f} {unit}"
            )  # fmt: skip
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def promise(kept: Kept) -> str:
    """What was found of what was promised: `ttft_p99 2.1 s of 2 s`."""
    if kept.name == ATTAINMENT:
        return f"{kept.name} {percent(kept.found)} of {percent(kept.limit)}"
    return f"{kept.name} {latency(kept.found)} of {latency(kept.limit)}"


def load(answer: Answer, run: PricedRun) -> str:
    """What was offered: `1.9 requests/s`, or the load alone where nobody knows a rate."""
    if answer.offered is None or run.offered_per_s is None:
        return f"rate_scale {run.tried.rate_scale:g}"
    if run.offered_per_s < _HOURLY_BELOW:
        return f"{rate(3600 * run.offered_per_s)} {answer.offered.unit}/h"
    return f"{rate(run.offered_per_s)} {answer.offered.unit}/s"
