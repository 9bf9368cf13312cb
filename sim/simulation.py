"""simulate: from a scenario to a result, in Python as on the command line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import get_args

from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.lockstep import JointPart, run_lockstep
from vsim.sim.engine.replicas import shares, together
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import Mode, run_engine
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.setup import build_state
from vsim.sim.engine.state import State
from vsim.sim.feasibility import refuse_for_memory, refuse_what_is_infeasible
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import check_peer
from vsim.sim.prefixes.run_bound import compile_bound
from vsim.sim.prefixes.run_net_bound import compile_net_bound
from vsim.sim.profiles.rules import ServerRules, has_host_times, server_rules, with_profile
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.results.known_prefixes import compile_counting
from vsim.sim.results.output import Result, RunTables, begun_folder, make_result
from vsim.sim.scenario.applicability import refuse_what_cannot_act
from vsim.sim.scenario.case import Case
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload import load_requests, seed_acts, shape_requests
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import refuse, refuse_other_type, suggestion
from vsim.traces.request_check import check_requests
from vsim.traces.requests import Requests
from vsim.traces.writing import FreshFolder

Progress = Callable[[int, int], None]
"""Is told how many requests are done, and of how many."""


def simulate(
    scenario: Scenario,
    *,
    requests: Requests | None = None,
    progress: Progress | None = None,
    base: Path | str = ".",
    mode: Mode = "fast",
    out: Path | str | FreshFolder | None = None,
    steps: bool = True,
    tight_bound: bool = False,
) -> Result:
    """Simulate a scenario.

    Memory does not grow with the number of steps: they go to a file while the run goes on.

    Args:
        scenario: what to run.
        requests: a trace to use instead of what the scenario names.
        progress: called now and then while the simulation runs; not in a run of recorded attention.
        base: the folder at which the scenario's relative paths start.
        mode: how the engine is given time; all ways give the same result, see `run_engine`.
        out: a folder for the result as `Result.write` takes it: new, a former result, or one that
            was begun. Steps and operations are written there while the run goes on.
        steps: keep steps and operations where there is no `out`, in a temporary file; without them
            the result has no `steps`, can't be written, and no scenario may ask for operations.
        tight_bound: take the time that the best bound on prefix hits needs, and not some tens of
            milliseconds; not in a run of recorded attention.

    Returns:
        The summary and the Arrow tables of the run.

    Raises:
        InputError: with every fault of the scenario, its machine, its model or its trace.
    """
    refuse_other_type("scenario", scenario, Scenario, "as load_scenario reads it")
    if requests is not None:
        refuse_other_type("requests", requests, Requests, "as vsim.traces.reading reads them")
    if mode not in get_args(Mode):
        refuse("mode", f"{mode!r} is unknown{suggestion(str(mode), get_args(Mode))}")
    if out is None:
        return _simulate(
            scenario, requests, progress, base, mode, None, keep=steps, tight=tight_bound
        )
    with begun_folder(out) as fresh:
        result = _simulate(
            scenario, requests, progress, base, mode, fresh.path, keep=True, tight=tight_bound
        )
        summary = result.write_into(fresh)
        fresh.publish()
    result.moved(fresh.target.path)
    return replace(result, summary=summary)


def simulate_figures(scenario: Scenario, requests: Requests, base: Path | str) -> Result:
    """Simulate requests for what each of them saw and the run's figures.

    Arguments and errors as of `simulate`. Without steps, a verdict, or a bound on prefix hits.
    """
    return _simulate(
        scenario, requests, None, base, "fast", None, keep=False, tight=False, figures_alone=True
    )


def _simulate(
    scenario: Scenario,
    requests: Requests | None,
    progress: Progress | None,
    base: Path | str,
    mode: Mode,
    folder: Path | None,
    *,
    keep: bool,
    tight: bool,
    figures_alone: bool = False,
) -> Result:
    """Simulate, with tables that grow in `folder`, or in temporary files if they are kept."""
    server = serving(scenario, base)
    scenario, machine, model, cost = server.scenario, server.machine, server.model, server.cost
    if requests is None and scenario.workload.attention is not None:
        # placement policies and solvers take long to import, and no other run needs them
        from vsim.sim.attention_run.run import run_attention

        return run_attention(scenario, machine, model, cost, Path(base), keeps_tables=keep)
    if requests is None:
        requests = load_requests(scenario, base)
    else:
        check_requests(requests)
    requests = shape_requests(scenario, requests)
    case = checked_case(server, requests, keeps=keep)
    compile_kernels()
    compile_counting()
    if len(requests.prefix_ids) and not figures_alone:
        compile_bound()
        if len(scenario.tiers) > 1:
            compile_net_bound()
    tables = RunTables.of(scenario, folder) if keep else None
    started = perf_counter()
    played = _played(server, case, progress, mode, tables)
    result = make_result(
        scenario,
        cost,
        requests,
        played.engine,
        engine_wall_s=0.0,
        machine=machine,
        model=model,
        judged=played.first,
        tight_bound=tight,
        figures_alone=figures_alone,
    )
    del played
    ended = perf_counter()
    if tables is None:
        return replace(result, summary={**result.summary, "engine_wall_s": ended - started})
    wall_s = {"engine_wall_s": ended - started - tables.seconds}
    tables.close()
    return replace(
        result,
        summary={**result.summary, **wall_s},
        kept_steps=tables.steps.stored,
        kept_operations=tables.operations,
    )


@dataclass(frozen=True, slots=True)
class _Played:
    """What a run recorded.

    Args:
        engine: of all replicas together.
        first: of several, what the first served and recorded.
    """

    engine: EngineResult
    first: tuple[Requests, EngineResult] | None = None


def _played(
    server: "Server",
    case: Case,
    progress: Progress | None,
    mode: Mode,
    tables: RunTables | None,
) -> _Played:
    """Run the engine, or replicas over their shares of the requests.

    One replica runs after another, or all of them side by side where their steps go in lockstep.
    """
    replicas = server.scenario.parallel.data
    if replicas == 1:
        return _Played(_engine_run(server, case, case.requests, progress, mode, tables))
    own = shares(case.requests, replicas)
    rows = [share.rows for share in own]
    joint = _joint(server)
    if joint is not None:
        states = [_begun(server, case, share.requests) for share in own]
        for number, state in enumerate(states):
            state.log = RunLog(keep=False) if tables is None else tables.log(number)
        beside = run_lockstep(states, joint, progress)
        return _Played(together(beside, rows), (own[0].requests, beside[0]))
    found: list[EngineResult] = []
    for number, share in enumerate(own):
        before = sum(len(each.status) for each in found)
        told = None if progress is None else _further(progress, before, len(case.requests))
        found.append(_engine_run(server, case, share.requests, told, mode, tables, number))
    return _Played(together(found, rows), (own[0].requests, found[0]))


def _further(progress: Progress, before: int, total: int) -> Progress:
    """Report what one replica did behind what others did before."""
    return lambda done, _: progress(before + done, total)


def _engine_run(
    server: "Server",
    case: Case,
    requests: Requests,
    progress: Progress | None,
    mode: Mode,
    tables: RunTables | None,
    replica: int = 0,
) -> EngineResult:
    """Run the engine over requests from an empty server to its end."""
    state = _begun(server, case, requests)
    log = RunLog(keep=False) if tables is None else tables.log(replica)
    return run_engine(state, progress, mode, log)


def _begun(server: "Server", case: Case, requests: Requests) -> State:
    """An empty server and the requests that it will get."""
    try:
        return build_state(
            server.scenario, server.machine, server.cost, requests, server.base, _rules(server)
        )
    except MemoryError:
        refuse_for_memory(case)


def _joint(server: "Server") -> JointPart | None:
    """What replicas take together; None where each runs by itself."""
    sizes = _rules(server).graph_sizes
    return JointPart.of(server.cost, sizes, server.scenario.parallel.data)


def _rules(server: "Server") -> ServerRules:
    scenario, gpus = server.scenario, server.cost.gpus
    return server_rules(scenario.engine, server.model, gpus, scenario.parallel.pipeline)


@dataclass(frozen=True, slots=True)
class Server:
    """What serves, and what its steps cost.

    Args:
        scenario: with its engine's defaults filled in.
        machine: the one it names.
        model: the one it names.
        cost: what a step costs there.
        base: the folder at which its relative paths start.
    """

    scenario: Scenario
    machine: Machine
    model: Model
    cost: StepCost
    base: Path


def serving(scenario: Scenario, base: Path | str = ".") -> Server:
    """Read what a scenario names. Raises InputError for a machine or a model that is not there."""
    machine = load_machine(_located(scenario.machine, base))
    model = load_model(_located(scenario.model, base))
    scenario = with_profile(scenario, machine)
    return Server(scenario, machine, model, server_cost(scenario, machine, model), Path(base))


def checked_case(server: Server, requests: Requests, *, keeps: bool) -> Case:
    """Refuse what can't act or can't be done in a run of requests, cut and scaled.

    Args:
        server: what serves them.
        requests: what arrives.
        keeps: whether somebody has a use for the run's tables.
    """
    scenario = server.scenario
    seeded = seed_acts(scenario, requests)
    host = has_host_times(scenario.engine)
    case = Case(scenario, server.machine, server.cost, requests, server.base, seeded, keeps, host)
    refuse_what_cannot_act(case)
    names = tuple(tier.tier for tier in scenario.tiers)
    check_peer(server.machine, server.cost.gpus, names)
    refuse_what_is_infeasible(case)
    return case


def _located(name: str, base: Path | str) -> str:
    """Let a relative path start at the scenario's folder; leave a catalogue's name alone."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") or "/" in name:
        return str(Path(base) / path)
    return name
