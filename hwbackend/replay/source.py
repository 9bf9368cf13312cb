"""`read_source`: what is to be replayed: a scenario, a trace, or a log, as a predicted plan."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.hwbackend.replay.kept_batches import kept_batches
from vsim.hwbackend.replay.options import ReplayOptions, with_stand_ins
from vsim.hwbackend.replay.page_rates import by_pages
from vsim.hwbackend.replay.plan import Plan, plan_of
from vsim.sim.commands.run import located
from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.setup import build_state
from vsim.sim.engine.state import State
from vsim.sim.inputs.yaml_input import YamlDocument, read_text
from vsim.sim.profiles.rules import ServerRules, server_rules
from vsim.sim.profiles.server_cost import replayed_cost
from vsim.sim.results.output import OPERATIONS, SUMMARY
from vsim.sim.scenario.applicability import tiers_exist
from vsim.sim.scenario.precision import kv_of, weight_words, weights_of
from vsim.sim.scenario.scenario import OutputSettings, Scenario
from vsim.sim.scenario.workload import load_requests, shape_requests
from vsim.sim.simulation import Server, checked_case, serving
from vsim.traces.arrow_io import kind_of, metadata_of, read_table
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests
from vsim.traces.trace_file import open_trace

DEFAULTS: Mapping[str, str] = {
    "requests": """
name: replay
workload: {trace: .}
machine: h200
model: llama-3.1-8b
tiers:
  - tier: hbm
""",
    "attention": """
name: replay
workload: {attention: .}
machine: h200
model: smollm2-135m
tiers:
  - tier: hbm
  - {tier: host, access: in_place, write: through}
""",
}
"""The scenario of a trace that is named alone; `--set` overrides it."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveServer:
    """A server whose engine can decide again.

    Args:
        server: its scenario, machine and model.
        requests: what arrives.
        simulated: what the simulated run gave.
        state: makes the engine's arrays anew.
    """

    server: Server
    requests: Requests
    simulated: EngineResult
    state: Callable[[], State]


@dataclass(frozen=True, slots=True)
class Selected:
    """How pages of recorded attention are numbered: column = (layer · requests + request) · heads
    + head, where `heads` is 1 if a page holds those of all KV heads.

    Args:
        layers: of the model.
        requests: that decode side by side.
        heads: columns of a layer and request.
        longest: tokens of the longest context.
    """

    layers: int
    requests: int
    heads: int
    longest: int


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What is to be replayed.

    Args:
        name: of the scenario.
        file: what the user named.
        kind: `requests`, `attention` or `operations`.
        machine: the machine of the prediction, by name.
        model: the model, by name.
        weight_bytes: of the model, as the server holds it.
        precision: of its weights and of its KV.
        gpus: over which it is spread.
        movement: how a page changes tier: `paged` or `mapped`.
        plan: the predicted operations.
        live: what a live replay needs; None where nothing is decided by time.
        server: scenario, machine and model; None for a log.
        selected: of recorded attention.
        notes: what was left out or assumed, a line each.
    """

    name: str
    file: str
    kind: str
    machine: str
    model: str
    weight_bytes: int
    precision: tuple[str, str]
    gpus: int
    movement: str
    plan: Plan
    live: LiveServer | None
    server: Server | None
    notes: tuple[str, ...]
    selected: Selected | None = None


def read_source(
    path: str,
    options: ReplayOptions,
    *,
    overrides: Sequence[str] = (),
    machine: str | None = None,
    hbm: str | None = None,
) -> Source:
    """Read what is to be replayed and simulate it, where it is no log already.

    Args:
        path: a scenario, a trace of requests or of attention, or a log of operations: a result
            folder of `vsim run --out`, or the operations.arrow in it.
        options: the window, the stand-ins and the mode.
        overrides: `key=value`, on top of the scenario.
        machine: a machine's name or file instead of the scenario's.
        hbm: bytes of KV that HBM holds, as `8GiB`, instead of the scenario's.

    Raises:
        InputError: with every fault found.
    """
    given = list(overrides)
    if machine is not None:
        is_path = "/" in machine or machine.endswith((".yaml", ".yml"))
        given.append(f"machine={Path(machine).absolute() if is_path else machine}")
    if hbm is not None:
        given.append(f"tiers.0.capacity={hbm}")
    if Path(path).is_dir():
        return _log(path, Path(path), options, given)
    if path.endswith((".yaml", ".yml")):
        document = YamlDocument(read_text(path), path, given)
        return _scenario(document, path, Path(path).parent, options, None, given)
    kind = kind_of(path) or "requests"
    if kind == "operations":
        return _log(path, Path(path).parent, options, given)
    if kind not in DEFAULTS:
        refuse(path, f"is a trace of {kind}; replay requests, attention or operations")
    text = DEFAULTS[kind].strip() + "\n"
    document = YamlDocument(text, "the scenario of a trace alone", given)
    return _scenario(document, path, Path(), options, kind, given)


def _scenario(
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


def _cut(requests: Requests, options: ReplayOptions, notes: list[str]) -> Requests:
    """Keep the requests of the window."""
    if options.window_ns is None or not len(requests):
        return requests
    until = int(requests.arrival_ns[0]) + options.window_ns
    count = int(np.searchsorted(requests.arrival_ns, until))
    if count < len(requests):
        seconds = options.window_ns / 1e9
        notes.append(f"the first {seconds:g} s: {count:,} of {len(requests):,} requests")
    return requests.head(count) if count < len(requests) else requests


def _requests(
    server: Server, requests: Requests, path: str, options: ReplayOptions, notes: list[str]
) -> Source:
    """Simulate a server, as its engine's rules are but with no times of the engine's host."""
    if server.scenario.parallel.data > 1:
        refuse("scenario", "a replay has one replica; write 1", place="parallel.data")
    requests = shape_requests(server.scenario, _cut(requests, options, notes))
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
    machine = by_pages(server.machine, page_bytes)

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
    return _source(server, path, "requests", plan, live, notes)


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
    _note_window(plan, result.operations, options, notes)
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


def _note_window(plan: Plan, table: pa.Table, options: ReplayOptions, notes: list[str]) -> None:
    if options.window_ns is None:
        return
    steps = len(table.column("step").unique())
    if plan.steps < steps:
        seconds = options.window_ns / 1e9
        notes.append(f"the first {seconds:g} s: {plan.steps:,} of {steps:,} steps")


def _log(path: str, folder: Path, options: ReplayOptions, overrides: Sequence[str]) -> Source:
    """Read a log with the summary of its run."""
    if options.mode == "live":
        refuse("--mode", "live needs the scenario: a log holds what was decided; name the scenario")
    if overrides:
        message = f"{overrides[0]} does nothing: {path} was decided already; name its scenario"
        refuse("--set", message)
    summary = _summary(folder)
    file = folder / OPERATIONS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        refuse(path, f"has no {OPERATIONS}; run the scenario with --set output.operations=all")
    table = read_table(str(file), "operations")
    names = [tier["name"] for tier in summary["tiers"]]
    for tier, other in options.stand_ins:
        if tier not in names[1:] or other in names:
            refuse("--stand-in", f"{tier}={other}: the log's tiers are {', '.join(names)}")
        names[names.index(tier)] = other
        table = _renamed(table, tier, other)
    notes: list[str] = []
    plan = plan_of(
        table,
        names,
        page_tokens=summary["engine"]["page_tokens"],
        page_bytes=summary["tiers"][0]["page_bytes"],
        file=str(file),
        until_ns=options.window_ns,
    )
    _note_window(plan, table, options, notes)
    return Source(
        name=summary["scenario"],
        file=path,
        kind="operations",
        machine=summary["machine"]["name"],
        model=summary["model"]["name"],
        weight_bytes=summary["model"]["weight_bytes"],
        precision=(summary["model"]["weight_precision"], summary["model"]["kv_precision"]),
        gpus=summary["machine"]["gpus"],
        movement=metadata_of(table).get("movement", "paged"),
        plan=plan,
        live=None,
        server=None,
        notes=tuple(notes),
    )


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        refuse(str(folder), f"has no {SUMMARY}; name a folder that `vsim run --out` wrote")
    try:
        summary = json.loads(read_text(path))
        model, machine = summary["model"], summary["machine"]
        _ = summary["scenario"], machine["name"], machine["gpus"], model["weight_bytes"]
        _ = model["name"], model["weight_precision"], model["kv_precision"]
        _ = summary["engine"]["page_tokens"], summary["tiers"][0]["page_bytes"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        refuse(str(path), "is not of `vsim run`; name a folder that --out wrote")
    found: Mapping[str, Any] = summary
    return found


def _renamed(table: pa.Table, tier: str, other: str) -> pa.Table:
    """Give a tier of a log another name."""
    for name in ("source_tier", "target_tier"):
        words = [other if word == tier else word for word in table.column(name).to_pylist()]
        at = table.schema.get_field_index(name)
        column = pa.array(words, pa.string()).dictionary_encode()
        table = table.set_column(
            at, table.schema.field(at), column.cast(table.schema.field(at).type)
        )
    return table
