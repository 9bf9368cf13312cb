"""Workload: the requests that a scenario's run sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import refuse
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
    return synthesise(workload.synth.model_copy(update={"seed": scenario.seed}))


def shape_requests(scenario: Scenario, requests: Requests) -> Requests:
    """Keep the first so many requests and scale their arrivals, as the scenario says.

    Arrivals are rounded down to whole nanoseconds, so their order stays.
    """
    workload = scenario.workload
    if workload.requests is not None and workload.requests < len(requests):
        requests = requests.head(workload.requests)
    if workload.rate_scale != 1.0:
        scaled = requests.arrival_ns / workload.rate_scale
        # what is later is refused when the engine is set up, and must not wrap before
        arrival = np.minimum(np.floor(scaled, out=scaled), 2.0**62, out=scaled).astype(np.int64)
        requests = replace(requests, arrival_ns=arrival)
    return requests
