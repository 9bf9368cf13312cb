"""Servers that serve one request of one token at a time: queues whose waits are known by hand."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsim.sim.goodput.grid import Configuration
from vsim.sim.goodput.slo import parse_slo
from vsim.sim.goodput.study import STORED, Plan, Studied, Studies
from vsim.sim.goodput.workers import Workers
from vsim.sim.scenario.scenario import EngineSettings, Scenario, TierSettings, Workload
from vsim.sim.scenario.workload import queued_requests
from vsim.sim.simulation import simulate
from vsim.traces.requests import Requests
from vsim.traces.writing import Documents

PROMPT_TOKENS = 4000


def server() -> Scenario:
    """It holds one request, and computes any prompt in one step, always in the same time.

    For the GPU's file tells of no clock that falls under load.
    """
    return Scenario(
        name="queue",
        workload=Workload(trace="t.arrow"),
        machine="rtx-pro-6000",
        model="llama-3.1-8b",
        engine=EngineSettings(
            profile="vsim", max_running_requests=1, token_budget=8192, prefix_caching=False
        ),
        tiers=(TierSettings(tier="hbm"),),
    )


def arriving(arrival_ns: NDArray[np.int64]) -> Requests:
    """Equal prompts of one answer token, that arrive at these times."""
    n = arrival_ns.size
    requests = queued_requests(np.full(n, PROMPT_TOKENS), np.ones(n, np.int64), "a test")
    requests.arrival_ns[:] = arrival_ns
    return requests


def service_ns() -> int:
    """What one request takes alone."""
    result = simulate(server(), requests=arriving(np.array([0])), steps=False)
    return round(result.summary["ttft_ms"]["mean"] * 1e6)


def studied(
    requests: Requests, slo: str, hands: Workers, store: Path, warm_up: float = 0.0
) -> Studied:
    """Search for the highest load of the server."""
    plan = Plan([Configuration((), (), server())], [0], [requests], parse_slo(slo), ".", warm_up)
    (found,) = Studies(plan, hands, Documents(store, STORED), lambda doing: None).run()
    return found
