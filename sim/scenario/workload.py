"""Workload: the requests that a scenario's run sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.limits import MOST_NS
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests
from vsim.traces.synth import synthesise


def load_requests(scenario: Scenario, base: Path | str = ".") -> Requests:
    """Read or draw the requests that a scenario names.

    Args:
        scenario: says where the requests are from.
        base: the folder at which a relative path starts.

    Returns:
        The trace as it is; `shape_requests` cuts and scales it.

    Raises:
        InputError: with the trace's faults.
    """
    workload = scenario.workload
    if workload.trace is not None:
        path = Path(base) / workload.trace
        if not path.exists():
            message = f"there is no file {path}; write its path, or name another with --trace"
            refuse("scenario", message, place="workload.trace")
        return read_requests(path, scenario.seed)
    assert workload.synth is not None  # recorded attention has a run of its own
    try:
        return synthesise(workload.synth.model_copy(update={"seed": scenario.seed}))
    except InputError as error:
        raise InputError(
            Fault("scenario", fault.message, place=f"workload.synth.{fault.place}")
            for fault in error.faults
        ) from None


def queued_requests(
    prompt_tokens: NDArray[np.int64], output_tokens: NDArray[np.int64], source: str
) -> Requests:
    """Make requests that all arrive at 0 and share nothing.

    Args:
        prompt_tokens: int64[n].
        output_tokens: int64[n].
        source: what they stand for.
    """
    n = len(prompt_tokens)
    none = np.full(n, -1, np.int64)
    return Requests(
        id=np.arange(n, dtype=np.int64),
        arrival_ns=np.zeros(n, np.int64),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        session=none,
        parent=none,
        think_ns=none,
        tenant=np.zeros(n, np.int32),
        tenant_names=("",),
        priority=np.zeros(n, np.int32),
        prefix_offsets=np.zeros(n + 1, np.int64),
        prefix_ids=np.empty(0, np.int64),
        block_tokens=0,
        source=source,
    )


def shape_requests(scenario: Scenario, requests: Requests) -> Requests:
    """Keep the first so many requests and scale their arrivals, as the scenario says.

    Arrivals are rounded down to whole nanoseconds, so their order stays.

    Raises:
        InputError: scaled arrivals take longer than a trace may.
    """
    workload = scenario.workload
    if workload.requests is not None and workload.requests < len(requests):
        requests = requests.head(workload.requests)
    if workload.rate_scale != 1.0:
        last_s = float(requests.arrival_ns[-1]) / workload.rate_scale / 1e9
        if not last_s <= MOST_NS / 1e9:
            message = f"{workload.rate_scale:g} spreads the arrivals over more than 100 years"
            refuse("scenario", f"{message}; write a larger one", place="workload.rate_scale")
        scaled = requests.arrival_ns / workload.rate_scale
        arrival = np.floor(scaled, out=scaled).astype(np.int64)
        requests = replace(requests, arrival_ns=arrival)
    return requests


def seed_acts(scenario: Scenario, requests: Requests) -> bool:
    """Whether the scenario's seed draws anything: a workload, or what a trace leaves open."""
    return scenario.workload.trace is None or requests.drawn
