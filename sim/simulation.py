"""simulate: from a scenario to a result, in Python as on the command line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from vsim.sim.attention_run.run import run_attention
from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.run import Mode, run_engine
from vsim.sim.engine.setup import build_state
from vsim.sim.feasibility import refuse_for_memory, refuse_what_is_infeasible
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.model.parallel import check_peer
from vsim.sim.results.output import Result, make_result
from vsim.sim.scenario.applicability import refuse_what_cannot_act
from vsim.sim.scenario.case import Case
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload import load_requests, seed_acts, shape_requests
from vsim.sim.timing.step_cost import step_cost
from vsim.traces.request_check import check_requests
from vsim.traces.requests import Requests

Progress = Callable[[int, int], None]
"""Is told how many requests are done, and of how many."""


def simulate(
    scenario: Scenario,
    *,
    requests: Requests | None = None,
    progress: Progress | None = None,
    base: Path | str = ".",
    mode: Mode = "fast",
) -> Result:
    """Simulate a scenario.

    Args:
        scenario: what to run.
        requests: a trace to use instead of what the scenario names.
        progress: called now and then while the simulation runs; not in a run of recorded attention.
        base: the folder at which the scenario's relative paths start.
        mode: how the engine is given time; all ways give the same result, see `run_engine`.

    Returns:
        The summary and the Arrow tables of the run.

    Raises:
        InputError: with every fault of the scenario, its machine, its model or its trace.
    """
    machine = load_machine(_located(scenario.machine, base))
    model = load_model(_located(scenario.model, base))
    cost = step_cost(
        machine,
        model,
        tensor=scenario.parallel.tensor,
        pipeline=scenario.parallel.pipeline,
        weights=scenario.precision.weights,
        kv=scenario.precision.kv,
    )
    if requests is None and scenario.workload.attention is not None:
        return run_attention(scenario, machine, model, cost, Path(base))
    if requests is None:
        requests = load_requests(scenario, base)
    else:
        check_requests(requests)
    requests = shape_requests(scenario, requests)
    seeded = seed_acts(scenario, requests)
    case = Case(scenario, machine, cost, requests, Path(base), seeded)
    refuse_what_cannot_act(case)
    check_peer(machine, cost.gpus, tuple(tier.tier for tier in scenario.tiers))
    refuse_what_is_infeasible(case)
    compile_kernels()
    started = perf_counter()
    try:
        state = build_state(scenario, machine, cost, requests, Path(base))
    except MemoryError:
        refuse_for_memory(case)
    engine = run_engine(state, progress, mode)
    result = make_result(
        scenario, cost, requests, engine, engine_wall_s=0.0, machine=machine, model=model
    )
    summary = {**result.summary, "engine_wall_s": perf_counter() - started}
    return replace(result, summary=summary)


def _located(name: str, base: Path | str) -> str:
    """Let a relative path start at the scenario's folder; leave a catalogue's name alone."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") or "/" in name:
        return str(Path(base) / path)
    return name
