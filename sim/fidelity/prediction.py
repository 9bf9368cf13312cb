"""Prediction: what the simulator says that every request of a measured run would have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine.result import EngineResult
from vsim.sim.fidelity.measured import Int64s, MeasuredRun, MeasuredThroughput, Repeat
from vsim.sim.fidelity.plays import expected_ns, moved, played
from vsim.sim.fidelity.scenario_for import Pacing, scenario_for
from vsim.sim.profiles.rules import ServerRules, server_rules
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload import queued_requests
from vsim.sim.simulation import Server, serving, simulate_figures
from vsim.traces.arrow_arrays import integers
from vsim.traces.requests import Requests


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What n requests saw, in the order of the measured repeat. -1 stands for never, or not known.

    Args:
        arrival_ns: int64[n], on the simulated clock.
        scheduled_ns: int64[n], when each first joined the batch.
        first_token_ns: int64[n], when its first token came.
        last_token_ns: int64[n], when its last token came.
        hbm_hit_tokens: int64[n], prompt tokens found in HBM, over all admissions.
        lower_hit_tokens: int64[n], those found in the tiers under it.
        preemptions: int64[n], how often each was preempted.
        served: bool[n], false of those that were rejected.
        gaps_ms: mean, p50, p90 and p99 of the gaps between tokens, those that are known.
        steps: steps of the engine.
        step_parts_ms: where the time of a mean step went.
    """

    arrival_ns: Int64s
    scheduled_ns: Int64s
    first_token_ns: Int64s
    last_token_ns: Int64s
    hbm_hit_tokens: Int64s
    lower_hit_tokens: Int64s
    preemptions: Int64s
    served: NDArray[np.bool_]
    gaps_ms: Mapping[str, float]
    steps: int | None
    step_parts_ms: Mapping[str, float]


def predict(run: MeasuredRun, pacing: Pacing = "arrivals") -> tuple[Prediction, ...]:
    """Predict every repeat of a run.

    When a request's first and last token come, and how often it is preempted, is the median of
    `PLAYS` plays, see `plays`; all else is of the first, whose arrivals are the measured ones.

    Args:
        run: what was measured.
        pacing: `arrivals`: each request arrives when it did in that repeat, also a turn that waited
            for the last one's answer, so that a request's error is its own and not that of the
            turns before it. `think_times`: such a turn follows the predicted answer, as it must
            where nothing was measured.

    Raises:
        NotScoredError: what was served can't be said yet, and why.
        InputError: the simulator refuses what was measured.
    """
    with TemporaryDirectory(prefix="vsim-") as name:
        folder = Path(name)
        scenario = scenario_for(run, folder, pacing)
        server = serving(scenario, folder)
        rules = server_rules(
            server.scenario.engine, server.model, server.cost.gpus, scenario.parallel.pipeline
        )
        return tuple(_predict(server, scenario, rules, repeat) for repeat in run.repeats)


def predict_throughput(measured: MeasuredThroughput) -> float:
    """Predict the output tokens per second of a server whose requests are all queued at once.

    Raises:
        NotScoredError: what was served can't be said yet, and why.
        InputError: the simulator refuses what was measured.
    """
    with TemporaryDirectory(prefix="vsim-") as name:
        scenario = scenario_for(measured, Path(name))
        requests = _queued(measured)
        result = simulate_figures(scenario, requests, name)
    return float(result.summary["throughput"]["output_tokens_per_s"])


QUEUED_BY_LENGTHS: Final[Mapping[tuple[int, int], int]] = MappingProxyType(
    {(128, 128): 30000, (128, 2048): 3000, (128, 4096): 1500, (500, 2000): 3000,
     (1000, 1000): 3000, (1000, 2000): 1500, (2048, 128): 3000, (2048, 2048): 1500,
     (5000, 500): 1500, (20000, 2000): 1000}
)  # fmt: skip
"""Requests that NVIDIA's tables queue at once, by prompt and output tokens: TensorRT-LLM v1.0,
docs/source/performance/perf-overview.md, "Preparing a Dataset"."""
_QUEUED: Final = 2000  # of other lengths: several times what a server runs at a time


def _queued(measured: MeasuredThroughput) -> Requests:
    """Equal requests that all arrive at 0, and share nothing."""
    lengths = measured.prompt_tokens, measured.output_tokens
    count = QUEUED_BY_LENGTHS.get(lengths, _QUEUED)
    prompt, output = (np.full(count, tokens, np.int64) for tokens in lengths)
    return queued_requests(prompt, output, measured.name)


def _predict(server: Server, scenario: Scenario, rules: ServerRules, repeat: Repeat) -> Prediction:
    result = simulate_figures(scenario, repeat.requests, server.base)
    first = prediction_of(result.requests, result.summary)
    plays: list[Prediction | EngineResult] = [first]
    plays += [played(server, rules, requests) for requests in moved(repeat.requests)]
    served = first.first_token_ns >= 0

    def expected(tokens_ns: Sequence[Int64s]) -> Int64s:
        later = expected_ns([at - p.arrival_ns for at, p in zip(tokens_ns, plays, strict=True)])
        return np.where(served, first.arrival_ns + later, -1)

    preempted = expected_ns([each.preemptions for each in plays])
    return replace(
        first,
        first_token_ns=expected([each.first_token_ns for each in plays]),
        last_token_ns=expected([each.last_token_ns for each in plays]),
        # once at least where the first play's hits are of several admissions, and not to be counted
        preemptions=np.maximum(preempted, first.preemptions > 0),
    )


HITS: Final = "hit_tokens_"
"""How a result's columns of hits by tier begin; HBM's is the first."""


def prediction_of(table: Any, summary: Mapping[str, Any]) -> Prediction:
    """Make a prediction of a result's requests, in their order, and its summary."""
    hbm, *lower = (name for name in table.column_names if name.startswith(HITS))
    zeros = np.zeros(len(table), np.int64)
    status = table.column("status").to_pylist()
    itl = summary.get("itl_ms", {})
    step = summary.get("step", {})
    return Prediction(
        arrival_ns=integers(table.column("arrival_ns")),
        scheduled_ns=integers(table.column("admitted_ns")),
        first_token_ns=integers(table.column("first_token_ns")),
        last_token_ns=integers(table.column("last_token_ns")),
        hbm_hit_tokens=integers(table.column(hbm)),
        lower_hit_tokens=sum((integers(table.column(name)) for name in lower), zeros),
        preemptions=integers(table.column("preemptions")),
        served=np.array([each == "completed" for each in status]),
        gaps_ms={name: float(ms) for name, ms in itl.items() if ms is not None},
        steps=step.get("count"),
        step_parts_ms=dict(step.get("parts_ms", {})),
    )
