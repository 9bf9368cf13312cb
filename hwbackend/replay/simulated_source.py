"""`simulated_source`: a scenario, simulated as its server would run it on these kernels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsim.hwbackend.replay.options import ReplayOptions, with_stand_ins
from vsim.hwbackend.replay.page_rates import by_pages
from vsim.hwbackend.replay.plan import Plan, plan_of
from vsim.hwbackend.replay.source import LiveServer, Selected, Source
from vsim.hwbackend.replay.sums_within import sums_within
from vsim.hwbackend.replay.window import note_window, requests_in_window
from vsim.sim.commands.run import located
from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.kept_batches import kept_batches
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.setup import build_state
from vsim.sim.engine.state import State
from vsim.sim.inputs.yaml_input import YamlDocument
from vsim.sim.profiles.rules import ServerRules, server_rules
from vsim.sim.profiles.server_cost import replayed_cost
from vsim.sim.scenario.applicability import tiers_exist
from vsim.sim.scenario.precision import kv_of, weight_words, weights_of
from vsim.sim.scenario.scenario import OutputSettings, Scenario
from vsim.sim.scenario.workload import load_requests, shape_requests
from vsim.sim.simulation import Server, checked_case, serving
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests
from vsim.traces.trace_file import open_trace


def simulated_source(
    document: YamlDocument,
    path: str,
    base: Path,
    options: ReplayOptions,
    trace: str | None,
    overrides: Sequence[str],
) -> Source:
    """Simulate a scenario; `trace` is the kind of `path` where that is a trace of its own."""
    scenario = document.validate(Scenario).read_with(overrides)
    absolute = str(Path(path).absolute())
    notes = []
    if trace is not None:
        with_source = scenario.with_trace if trace == "requests" else scenario.with_attention
        scenario = with_source(absolute)
        settings = f"{scenario.model} on {scenario.machine}, tiers " + ", ".join(
            tier.tier for tier in scenario.tiers
        )
        notes.append(f"a trace alone is served by {settings}; --set or a scenario say otherwise")
    scenario = with_stand_ins(scenario, options.stand_ins)
    scenario = scenario.model_copy(update={"output": OutputSettings(operations="all")})
    try:
        server = serving(scenario, base)
        cost = replayed_cost(server.scenario, server.machine, server.model)
        server = replace(server, cost=cost)
        stacks = [entry.stack for entry in server.machine.kernels]
        if "vsim" not in stacks:
            tables = f"the tables of {stacks[0]}" if stacks else "constants"
            notes.append(f"{server.machine.name} has no times of these kernels: by {tables}")
        _refuse_tiers(server)
        if scenario.workload.attention is not None:
            return _attention(server, path, options, notes)
        if trace == "requests":
            with open_trace(path) as file:
                requests = read_requests(file, scenario.seed)
        else:
            requests = load_requests(scenario, base)
        return _requests(server, requests, path, options, notes)
    except InputError as error:
        raise InputError(located(fault, document) for fault in error.faults) from None


def _refuse_tiers(server: Server) -> None:
    """Refuse tiers that the machine lacks, with what could stand in for them."""
    has = [tier.name for tier in server.machine.tiers]
    lower = [name for name in has if name != server.machine.hbm.name]
    faults = []
    for place, message in tiers_exist(server.scenario, server.machine):
        tier = server.scenario.tiers[int(place[1])].tier if len(place) > 1 else None
        if tier is not None and tier not in has and lower:
            message += f"; or let another stand in for it: --stand-in {tier}={lower[0]}"
        faults.append(Fault("scenario", message, place=".".join(map(str, place))))
    if faults:
        raise InputError(faults)


def _requests(
    server: Server, requests: Requests, path: str, options: ReplayOptions, notes: list[str]
) -> Source:
    """Simulate a server, as its engine's rules are but with no times of the engine's host."""
    if server.scenario.parallel.data > 1:
        refuse("scenario", "a replay has one replica; write 1", place="parallel.data")
    requests = shape_requests(server.scenario, requests_in_window(requests, options, notes))
    checked_case(server, requests, keeps=True)
    scenario, engine = server.scenario, server.scenario.engine
    whole = server_rules(engine, server.model, server.cost.gpus, scenario.parallel.pipeline)
    rules = ServerRules(
        admission=whole.admission,
        watermark=whole.watermark,
        null_pages=whole.null_pages,
        offloads=whole.offloads,
        estimate=whole.estimate,
        graph_sizes=whole.graph_sizes,
    )
    compile_kernels()
    page_bytes = engine.page_or_block_tokens * server.cost.kv_bytes_per_token
    # Each GPU copies its share of a page.
    machine = by_pages(server.machine, page_bytes // server.cost.gpus)

    def state() -> State:
        return build_state(scenario, machine, server.cost, requests, server.base, rules=rules)

    if server.cost.pages(engine.page_or_block_tokens).grouped:
        message = f"{server.model.name} keeps KV in several groups, which no replay carries out yet"
        refuse(
            path, f"{message}; name a model whose layers all see the whole context", place="model"
        )
    simulated = run_engine(state())
    assert simulated.operations is not None
    notes.append(
        "a step is launched when the last one has ended: host times of the profile "
        f"{engine.profile} are left out of both sides"
    )
    in_place = any(tier.access == "in_place" for tier in scenario.tiers[1:])
    plan = plan_of(
        simulated.operations,
        tuple(tier.tier for tier in scenario.tiers),
        page_tokens=engine.page_or_block_tokens,
        page_bytes=page_bytes,
        file=path,
        batches=kept_batches(state()) if in_place else None,
    )
    live = LiveServer(server, requests, simulated, state)
    return _source(server, path, "requests", sums_within(plan, server.cost), live, notes)


def _attention(server: Server, path: str, options: ReplayOptions, notes: list[str]) -> Source:
    """Simulate a run of recorded attention."""
    from vsim.sim.attention_run.batch import load_batch
    from vsim.sim.attention_run.run import run_attention

    if options.mode == "live":
        message = "live does nothing: a placement follows from the reads alone; write --mode plan"
        refuse("--mode", message)
    scenario = server.scenario
    result = run_attention(scenario, server.machine, server.model, server.cost, server.base)
    assert result.operations is not None
    kv = kv_of(scenario.precision, server.model)
    batch = load_batch(scenario.workload, server.model, kv, server.base)
    reads = batch.reads
    layer, head = (np.unique(x, return_inverse=True)[1] for x in (reads.layer, reads.kv_head))
    selected = Selected(
        layers=int(layer.max()) + 1,
        requests=len(batch),
        heads=int(head.max()) + 1,
        longest=int(batch.prompt_tokens.max()) + batch.steps,
    )
    columns = (layer * selected.requests + reads.request) * selected.heads + head
    plan = plan_of(
        result.operations,
        tuple(tier.tier for tier in scenario.tiers),
        page_tokens=reads.page_tokens,
        page_bytes=reads.page_bytes,
        file=path,
        until_ns=options.window_ns,
        columns=columns.astype(np.int64),
    )
    note_window(plan, result.operations, options, notes)
    notes.append(
        "a step is compared from its first kernel on: the machine's launch.step_overhead is left "
        "out of both sides"
    )
    found = _source(server, path, "attention", plan, None, notes)
    return replace(found, selected=selected)


def _source(
    server: Server, path: str, kind: str, plan: Plan, live: LiveServer | None, notes: list[str]
) -> Source:
    scenario = server.scenario
    return Source(
        name=scenario.name,
        file=path,
        kind=kind,
        machine=server.machine.name,
        model=scenario.model,
        weight_bytes=server.cost.weight_bytes,
        precision=(
            weight_words(weights_of(scenario.precision, server.model)),
            kv_of(scenario.precision, server.model),
        ),
        gpus=server.cost.gpus,
        movement=scenario.engine.movement,
        plan=plan,
        live=live,
        server=server,
        notes=tuple(notes),
    )
