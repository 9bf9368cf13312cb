"""Arrival processes: times drawn from a generator, in nanoseconds from 0, never falling."""

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import InputError, refuse
from vsim.traces.limits import MOST_NS
from vsim.traces.machine_memory import memory_fault

Times = NDArray[np.int64]
_BYTES_PER_PERIOD = 64


def _as_ns(seconds: NDArray[np.float64], rate_per_s: float) -> Times:
    last = float(seconds[-1]) if len(seconds) else 0.0
    if not last <= MOST_NS / 1e9:  # also where it is no number
        refuse(
            "arrivals",
            f"{len(seconds):,} arrivals at {rate_per_s:g} a second take more than 100 years; "
            "write a higher rate",
            place="rate_per_s",
        )
    return np.floor(seconds * 1e9).astype(np.int64)


def exponential_ns(random: np.random.Generator, mean_s: float, count: int) -> Times:
    """Draw `count` exponential durations, none longer than a trace may be."""
    return np.minimum(random.exponential(mean_s * 1e9, count), float(MOST_NS)).astype(np.int64)


def poisson_ns(random: np.random.Generator, count: int, rate_per_s: float) -> Times:
    """Draw `count` arrivals of a Poisson process.

    Raises:
        InputError: they take longer than a trace may, here and in the other processes.
    """
    return _as_ns(np.cumsum(random.exponential(1.0 / rate_per_s, count)), rate_per_s)


def gamma_ns(random: np.random.Generator, count: int, rate_per_s: float, cv: float) -> Times:
    """Draw `count` arrivals with gamma-distributed gaps of the coefficient of variation `cv`.

    The shape is 1/cv²: cv 1 is Poisson, above 1 bursts, below 1 evens out.
    """
    shape = cv**-2
    gaps = random.gamma(shape, 1.0 / (rate_per_s * shape), count)
    return _as_ns(np.cumsum(gaps), rate_per_s)


def onoff_ns(
    random: np.random.Generator, count: int, rate_per_s: float, on_s: float, off_s: float
) -> Times:
    """Draw `count` arrivals that are Poisson in on periods and absent in off periods.

    Periods last exponential times of means `on_s` and `off_s`, the first is on. In on periods
    the rate is higher by (on_s + off_s) / on_s, so that `rate_per_s` holds in the long run.
    """
    rate_on = rate_per_s * (on_s + off_s) / on_s
    within = np.cumsum(random.exponential(1.0 / rate_on, count))
    _as_ns(within[-1:], rate_per_s)  # refuses what the periods could not be drawn for
    periods_s = float(within[-1])
    what = f"{periods_s / on_s:,.0f} on and off periods in {periods_s:,.0f} s"
    fault = memory_fault("arrivals", int(periods_s / on_s * _BYTES_PER_PERIOD), what, "on_s")
    if fault is not None:
        raise InputError([fault])
    ends = np.zeros(0)
    pauses = np.zeros(0)
    while not len(ends) or ends[-1] < within[-1]:
        missing = within[-1] - (ends[-1] if len(ends) else 0.0)
        periods = int(missing / on_s * 1.2) + 16
        last = ends[-1] if len(ends) else 0.0
        ends = np.concatenate([ends, last + np.cumsum(random.exponential(on_s, periods))])
        pauses = np.concatenate([pauses, random.exponential(off_s, periods)])
    passed = np.concatenate([[0.0], np.cumsum(pauses)])
    return _as_ns(within + passed[np.searchsorted(ends, within)], rate_per_s)
