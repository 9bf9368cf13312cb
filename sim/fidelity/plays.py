"""Plays: the same requests a few times, moved by as little as a server's own launches differ.

In which step of the server a request arrives is chance: two repeats of a real server differ by a
sixth in a median request's TTFT. One play of the simulator draws one of these chances; the median
of some is what a request should expect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.setup import build_state
from vsim.sim.fidelity.measured import Int64s
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.simulation import Server
from vsim.traces.requests import Requests

PLAYS: Final = 5
MOVED_NS: Final = 3_000_000
"""At most, either way: before prompts of up to 512 tokens a step took 7.8 to 12.9 ms on a server of
an H200 (`python -m vsim.hwbackend.servers.host_times`, percentiles 10 and 90)."""


def moved(requests: Requests) -> Iterator[Requests]:
    """Yield the requests of each further play: in the same order, their arrivals moved."""
    for play in range(1, PLAYS):
        draw = np.random.Generator(np.random.PCG64(play))
        by_ns = draw.integers(-MOVED_NS, MOVED_NS + 1, len(requests))
        yield replace(requests, arrival_ns=np.sort(np.maximum(requests.arrival_ns + by_ns, 0)))


def played(server: Server, rules: ServerRules, requests: Requests) -> EngineResult:
    """Let a server play requests once, and keep no steps."""
    state = build_state(server.scenario, server.machine, server.cost, requests, server.base, rules)
    return run_engine(state, None, "fast", RunLog(keep=False))


def expected_ns(latencies_ns: Sequence[NDArray[np.integer]]) -> Int64s:
    """Return the median of each request over an odd number of plays, ns; also of counts."""
    return np.asarray(np.median(latencies_ns, axis=0), dtype=np.int64)
