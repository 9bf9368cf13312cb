"""The load of a scenario: how many times faster than written its requests arrive.

A load is `workload.rate_scale`, so that `vsim run --set workload.rate_scale=…` repeats any run of a
search. Under `pacing: think_times` it is the sessions' starts that come faster, while the pauses
within a session stay; under `pacing: arrivals` all arrivals do. The loads that are tried lie on a
fixed ladder of 32 rungs an octave (2.2 % apart), so that searches meet at the same loads.
"""

from dataclasses import dataclass
from math import log2
from typing import Final

import numpy as np

from vsim.sim.scenario.scenario import Scenario
from vsim.traces.faults import refuse
from vsim.traces.requests import Requests

RUNGS_PER_OCTAVE: Final = 32
LOWEST_RUNG: Final = -10 * RUNGS_PER_OCTAVE
"""A thousandth: an hour's requests spread over six weeks, one at a time."""
HIGHEST_RUNG: Final = 10 * RUNGS_PER_OCTAVE
"""A thousand times: an hour's requests within four seconds."""
_DIGITS: Final = 5


def rate_scale(rung: int) -> float:
    """The load at a rung, in as many digits as are printed."""
    return float(f"{2 ** (rung / RUNGS_PER_OCTAVE):.{_DIGITS}g}")


def nearest_rung(scale: float) -> int:
    """The rung nearest to a load, within the ladder."""
    rung = round(log2(scale) * RUNGS_PER_OCTAVE)
    return min(max(rung, LOWEST_RUNG), HIGHEST_RUNG)


@dataclass(frozen=True, slots=True)
class Offered:
    """What a scenario offers at a load of 1.

    Args:
        per_s: requests or sessions a second, over the time in which they come.
        unit: `requests`, or `sessions` where further turns follow answers.
        shrinks_pauses: whether a higher load shortens the pauses within sessions, too.
    """

    per_s: float
    unit: str
    shrinks_pauses: bool


def offered(scenario: Scenario, requests: Requests) -> Offered:
    """Say what a load of 1 is.

    Args:
        scenario: says how turns are paced.
        requests: the requests, as many as the scenario takes, at the times of the trace.

    Raises:
        InputError: they come all at once, so that they have no rate.
    """
    follows = (requests.parent >= 0) & (requests.think_ns >= 0)
    paced = scenario.workload.pacing == "think_times"
    starts = requests.arrival_ns[~follows] if paced else requests.arrival_ns
    last_ns = int(starts.max(initial=0))
    unit = "sessions" if paced else "requests"
    if last_ns == 0:
        refuse(
            "scenario",
            f"all {unit} arrive at 0, so that there is no rate to search over; give them arrival"
            " times, or leave --slo out",
            place="workload",
        )
    return Offered(starts.size / last_ns * 1e9, unit, not paced and bool(np.any(follows)))
