"""What `vsim alloc` does: read a scenario, replay a trace through allocators, print and write."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vsim.sim.allocators.call_costs import CallCosts
from vsim.sim.allocators.comparison import (
    GrowthRow,
    KvComparison,
    ModelRun,
    compare_kv,
    growth_rows,
    run_models,
)
from vsim.sim.allocators.events import Events, events_of, gone_on
from vsim.sim.allocators.kv_occupancy import Lengths
from vsim.sim.allocators.model_settings import NAMED, SEQUENCES
from vsim.sim.allocators.scenario import AllocScenario, KvSettings
from vsim.sim.allocators.view import show_growth, show_kv, show_runs
from vsim.sim.commands.result_outputs import result_outputs
from vsim.sim.inputs.yaml_input import YamlDocument, read_text
from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.traces.allocations import AllocationTrace, read_allocations
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.faults import Fault, InputError, refuse, suggestion
from vsim.traces.reading import read_requests
from vsim.traces.synth import draw_lengths
from vsim.traces.writing import (
    FolderKind,
    FreshFolder,
)

RESULTS = "alloc"
SERIES = FolderKind(RESULTS, "alloc.json")
OPTION_OF_FIELD = {
    "--set trace": "--trace",
    "--set models": "--model",
    "--set capacity": "--capacity",
    "--set machine": "--machine",
    "--set device": "--device",
    "--set growth": "--growth",
    "--set again": "--again",
}


@dataclass(frozen=True, slots=True)
class AllocOptions:
    """What the command line says in place of the scenario, or beside it; None where it does not."""

    trace: str | None = None
    models: Sequence[str] = ()
    capacity: str | None = None
    machine: str | None = None
    device: int | None = None
    growth: bool = False
    again: int | None = None
    overrides: Sequence[str] = ()

    def settings(self, *, has_scenario: bool) -> Iterator[str]:
        """The options as `key=value` of a scenario, whose folder its own paths start from."""
        if self.trace is not None:
            path = str(Path(self.trace).absolute()) if has_scenario else self.trace
            yield f"trace={json.dumps(path)}"
        if self.models:
            yield f"models={json.dumps([{'model': name} for name in self.models])}"
        for key in ("capacity", "machine", "device", "again"):
            if (value := getattr(self, key)) is not None:
                yield f"{key}={json.dumps(value)}"
        if self.growth:
            yield "growth={}"
        yield from self.overrides


def run_alloc(
    scenario: str | None, options: AllocOptions, *, json_file: str | None, out: str | None
) -> None:
    """Compare allocators and print tables.

    Args:
        scenario: a scenario file, or None: the defaults, with the options.
        options: in place of the scenario's fields.
        json_file: where to write the results as JSON, or None.
        out: a folder for each model's series, or None.

    Raises:
        InputError: with every fault found.
    """
    _check_models(options.models)
    if scenario is None and options.trace is None and not options.growth:
        refuse("vsim alloc", "names nothing to do; write a scenario, --trace T.arrow or --growth")
    given = [name for name in (scenario, options.trace) if name is not None]
    with result_outputs(json_file, out, given, results=RESULTS, tables=SERIES) as outputs:
        text, file = ("{}", "vsim alloc") if scenario is None else (read_text(scenario), scenario)
        document: YamlDocument | None = None
        try:
            document = YamlDocument(
                text, file, list(options.settings(has_scenario=scenario is not None))
            )
            described = document.validate(AllocScenario)
            if out is not None and described.trace is None:
                refuse("--out", "writes series of a trace, and none is named; leave it out")
            base = Path(scenario).parent if scenario is not None else Path()
            named = (described.trace, described.kv.requests if described.kv else None)
            outputs.protect([base / name for name in named if name is not None])
            found = _compare(described, base)
        except InputError as error:
            raise InputError(_as_options(fault, document) for fault in error.faults) from None
        found.show()
        if outputs.folder is not None and found.trace is not None and found.events is not None:
            for each in found.runs:
                _write_series(outputs.folder, each, found.events, found.trace)
        outputs.publish(found.as_json())


@dataclass(frozen=True, slots=True)
class _Found:
    """What was worked out, to be printed and written."""

    scenario: AllocScenario
    machine: Machine | None
    trace: AllocationTrace | None = None
    events: Events | None = None
    runs: Sequence[ModelRun] = ()
    growth: Sequence[GrowthRow] = ()
    kv: KvComparison | None = None
    kv_source: str = ""

    def as_json(self) -> dict[str, Any]:
        results: dict[str, Any] = {"scenario": self.scenario.model_dump(mode="json")}
        if self.trace is not None and self.events is not None:
            events = self.events
            recorded = events.recorded_reserved
            results["trace"] = {
                "source": self.trace.source,
                "calls": len(events),
                "peak_live_bytes": int(events.live_bytes.max()),
                "before_bytes": events.before_bytes,
                "unknown_frees": events.unknown,
                "recorded_peak_reserved_bytes": None if recorded is None else int(recorded.max()),
            }
            results["models"] = [each.as_json() for each in self.runs]
        if self.growth:
            results["growth"] = [asdict(row) for row in self.growth]
        if self.kv is not None:
            results["kv"] = self.kv.as_json()
        return results

    def show(self) -> None:
        printed = False
        if self.trace is not None and self.events is not None:
            timed = self.machine is not None
            show_runs(self.trace.source, self.events, self.runs, self.scenario.moments, timed=timed)
            printed = True
        if self.growth and self.machine is not None:
            print(end="\n" if printed else "")
            show_growth(self.machine.name, self.growth)
            printed = True
        if self.kv is not None:
            print(end="\n" if printed else "")
            show_kv(self.kv_source, self.kv)


def _compare(scenario: AllocScenario, base: Path) -> _Found:
    name = scenario.machine
    machine = None if name is None else load_machine(_beside(name, base))
    costs = None if machine is None else CallCosts.of(machine)
    found = _Found(scenario, machine)
    if scenario.trace is not None:
        path = base / scenario.trace
        trace = read_allocations(path)
        events = events_of(trace, str(path), scenario.device)
        if scenario.again is not None:
            events = gone_on(events, scenario.again, str(path))
        runs = list(run_models(scenario, events, costs))
        found = replace(found, trace=trace, events=events, runs=runs)
    if scenario.growth is not None and costs is not None:
        found = replace(found, growth=growth_rows(costs, scenario.growth))
    if scenario.kv is not None:
        lengths, source = _lengths(scenario.kv, base)
        kv = compare_kv(scenario.kv, lengths, load_model(_beside(scenario.kv.model, base)))
        found = replace(found, kv=kv, kv_source=source)
    return found


def _lengths(settings: KvSettings, base: Path) -> tuple[Lengths, str]:
    """Lengths of sequences, and what they are from."""
    if settings.requests is not None:
        requests = read_requests(base / settings.requests)
        return Lengths(requests.prompt_tokens, requests.output_tokens), requests.source
    drawn = settings.drawn
    assert drawn is not None  # one of the two is given
    random = np.random.Generator(np.random.PCG64(drawn.seed))
    prompt = draw_lengths(random, drawn.prompt_tokens, drawn.sequences)
    output = draw_lengths(random, drawn.output_tokens, drawn.sequences)
    return Lengths(prompt, output), f"lengths drawn from seed {drawn.seed}"


def _beside(name: str, base: Path) -> str:
    """A file's path from the scenario's folder, or a name of the catalogue as it is."""
    is_file = "/" in name or name.endswith((".yaml", ".yml", ".json"))
    return str(base / name) if is_file else name


def _write_series(
    folder: FreshFolder, each: ModelRun, events: Events, trace: AllocationTrace
) -> None:
    run = each.run
    table = pa.table(
        {
            "trace_row": pa.array(events.row),
            "time_ns": pa.array(events.time_ns),
            "live_bytes": pa.array(run.live_bytes),
            "allocated_bytes": pa.array(run.allocated_bytes),
            "reserved_bytes": pa.array(run.reserved_bytes),
        }
    )
    made = Provenance(f"{trace.source}, replayed through {each.name}", trace.licence)
    put_table(table, folder.path / f"{each.name}.arrow", "allocator_series", made)


def _check_models(names: Sequence[str]) -> None:
    known = (*NAMED, *SEQUENCES)
    faults = []
    for name in names:
        if name not in known:
            faults.append(Fault("--model", f"'{name}' is no allocator{suggestion(name, known)}"))
        elif name == "kv-static":
            said = "'kv-static' needs its longest sequence; write it in a scenario"
            faults.append(Fault("--model", said))
    if faults:
        raise InputError(faults)


def _as_options(fault: Fault, document: YamlDocument | None) -> Fault:
    """Give a fault its place in the scenario file, or the name of the option it was written as."""
    if fault.file == "scenario" and fault.place is not None and document is not None:
        keys = tuple(int(key) if key.isdecimal() else key for key in fault.place.split("."))
        fault = document.fault(keys, fault.message)
    return replace(fault, file=OPTION_OF_FIELD.get(fault.file, fault.file))
