"""What `vsim size` does: read, check every configuration, search, price, print and write."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vsim.sim.commands.run import located
from vsim.sim.goodput.answer import Answer, answer
from vsim.sim.goodput.document import RESULTS, TABLE, document, runs_table
from vsim.sim.goodput.grid import Axis, Configuration, as_over, configurations, parse_over
from vsim.sim.goodput.load import Offered, offered
from vsim.sim.goodput.prices import Prices, check_prices, load_prices
from vsim.sim.goodput.slo import Slo, parse_slo
from vsim.sim.goodput.study import STORED, Plan, Studies
from vsim.sim.goodput.view import show_study
from vsim.sim.goodput.workers import Workers, processors, workers
from vsim.sim.inputs.yaml_input import read_yaml
from vsim.sim.scenario.workload import load_requests, shape_requests
from vsim.sim.simulation import Server, checked_case, serving
from vsim.traces.arrow_io import Provenance, kind_of, put_table
from vsim.traces.faults import InputError, one_line, refuse
from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests
from vsim.traces.trace_file import TraceFile, open_trace
from vsim.traces.writing import (
    Documents,
    FreshFile,
    check_apart,
    file_target,
    fresh_file,
    json_text,
    marked,
)

PLOT: Final = "size plot"
MOST_PROCESSES: Final = 1024

Draw = Callable[[Mapping[str, Any], Any, Path], None]
"""Draws a plot of the results: from the document, the table of runs, to a file."""


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """The command's options as written; None where one was left out."""

    trace: str | None = None
    slo: str | None = None
    over: Sequence[str] = ()
    prices: str | None = None
    overrides: Sequence[str] = ()
    warm_up: float | None = None
    processes: int | None = None
    cluster: str | None = None
    store: str | None = None
    json: str | None = None
    out: str | None = None
    plot: str | None = None


def run_size(scenario: str, options: SizeOptions, draw: Draw | None) -> None:
    """Find the highest load that meets an SLO, price it, and print what follows.

    Args:
        scenario: the scenario file.
        options: as written.
        draw: what draws the plot; None where it is not part of this program.

    Raises:
        InputError: with the faults found.
    """
    slo = None if options.slo is None else parse_slo(options.slo)
    axes = parse_over(options.over)
    _check_options(options, slo, draw)
    _check_axes(options, axes)
    inputs = [name for name in (scenario, options.trace, options.prices) if name is not None]
    with ExitStack() as held:
        outputs = _Outputs.begun(held, options, inputs)
        prices, price_file = load_prices(options.prices)
        task = _Task.read(scenario, options, configurations(scenario, options.overrides, axes))
        store = Documents(options.store or _cache_folder(), STORED, options.store and "--store")
        ready = [task.checked(number, slo, prices, price_file) for number in range(len(task.all))]
        _check_slo(slo, task.traces)
        plan = Plan(
            task.all, task.trace_of, task.traces, slo, str(task.base), options.warm_up or 0.0
        )
        with _workers(options, plan) as hands, _progress() as tell:
            studies = Studies(plan, hands, store, tell)
            studied = studies.run()
        answers = [
            answer(each, server, requests, load, prices)
            for each, (server, requests, load) in zip(studied, ready, strict=True)
        ]
        first = task.all[0].scenario
        counts = f"{studies.made} runs made, {studies.read} read from the store"
        show_study(f"{first.name} · {_machines(task.all)}", answers, slo, prices, counts)
        outputs.write(document(first.name, answers, slo, prices), answers, draw)


def _machines(all_of: Sequence[Configuration]) -> str:
    models = dict.fromkeys(each.scenario.model for each in all_of)
    machines = dict.fromkeys(each.scenario.machine for each in all_of)
    return f"{' or '.join(models)} on {' or '.join(machines)}"


def _check_options(options: SizeOptions, slo: Slo | None, draw: Draw | None) -> None:
    if options.warm_up is not None:
        if slo is None:
            refuse("--warm-up", "does nothing without --slo; leave it out")
        if not 0 < options.warm_up < 1:
            refuse("--warm-up", f"{options.warm_up:g} is no share; write one between 0 and 1")
        if any(each.metric == "itl" for each in slo.objectives):
            message = "can't be told of gaps between tokens, which are counted over the whole run"
            refuse("--warm-up", f"{message}; leave it out, or promise tpot in place of itl")
    if options.processes is not None:
        if options.cluster is not None:
            refuse("--processes", "does nothing with --cluster; leave it out")
        if not 1 <= options.processes <= MOST_PROCESSES:
            refuse("--processes", f"{options.processes} is none; write 1 to {MOST_PROCESSES}")
    if options.plot is not None:
        if draw is None:
            refuse("--plot", "is not part of this program; run vsim")
        if not options.plot.endswith(".png"):
            refuse("--plot", f"'{options.plot}' is no picture's name; write one that ends in .png")


def _check_axes(options: SizeOptions, axes: Sequence[Axis]) -> None:
    """Refuse to vary the load that is searched for, or requests that --trace replaces."""
    sources = ("workload.trace", "workload.synth", "workload.attention")
    for axis in axes:
        if options.slo is not None and axis.field == "workload.rate_scale":
            refuse("--over", f"{axis.field} is what --slo searches over; leave one of them out")
        if options.trace is not None and axis.field.startswith(sources):
            refuse("--over", f"{axis.field} does nothing with --trace; leave one of them out")


def _check_slo(slo: Slo | None, traces: Sequence[Requests]) -> None:
    """Refuse promises about tokens after the first where no request has any."""
    of_gaps = [] if slo is None else [o for o in slo.objectives if o.metric in ("tpot", "itl")]
    if of_gaps and all(int(each.output_tokens.max()) < 2 for each in traces):
        refuse("--slo", f"{of_gaps[0].name}: no request has a second token; leave it out")


@dataclass(slots=True)
class _Task:
    """What is to be studied; stateful: traces are read as configurations ask for them."""

    path: str
    overrides: Sequence[str]
    base: Path
    all: list[Configuration]
    traces: list[Requests]
    trace_of: list[int]

    @classmethod
    def read(cls, path: str, options: SizeOptions, found: list[Configuration]) -> "_Task":
        """Read or draw the requests of each configuration; those alike are read once."""
        base = Path(path).parent
        task = cls(path, options.overrides, base, [], [], [])
        if found[0].scenario.workload.attention is not None and options.trace is None:
            refuse("vsim size", "recorded attention has no arrivals; name a scenario of requests")
        known: dict[str, int] = {}
        given: TraceFile | None = None
        with ExitStack() as stack:
            if options.trace is not None:
                file = stack.enter_context(open_trace(options.trace))
                if kind_of(file) == "attention":
                    refuse("--trace", "is of attention, which has no arrivals; name requests")
                given = file
                name = str(Path(file.path).absolute())
                found = [replace(c, scenario=c.scenario.with_trace(name)) for c in found]
            for each in found:
                workload, seed = each.scenario.workload, each.scenario.seed
                source = f"{workload.trace} {workload.synth!r} {seed}"
                if source not in known:
                    known[source] = len(task.traces)
                    with task._located(each):
                        task.traces.append(
                            load_requests(each.scenario, base)
                            if given is None
                            else read_requests(given, seed)
                        )
                task.all.append(each)
                task.trace_of.append(known[source])
        for note in dict.fromkeys(note for each in task.traces for note in each.notes):
            name = options.trace or found[0].scenario.workload.trace or path
            print(one_line(f"{name}: note: {note}"), file=sys.stderr)
        return task

    def checked(
        self, number: int, slo: Slo | None, prices: Prices, price_file: str
    ) -> tuple[Server, Requests, Offered | None]:
        """Refuse what can't run or be priced, before anything runs."""
        configuration = self.all[number]
        scenario = configuration.scenario
        with self._located(configuration):
            server = serving(scenario, self.base)
            tiers = tuple(tier.tier for tier in scenario.tiers)
            requests = self.traces[self.trace_of[number]]
            workload = scenario.workload.model_copy(update={"rate_scale": 1.0})
            plain = shape_requests(scenario.model_copy(update={"workload": workload}), requests)
            load = None if slo is None else offered(scenario, plain)
            checked_case(server, shape_requests(scenario, requests), keeps=False)
        check_prices(prices, price_file, server.machine, tiers)
        return server, plain, load

    @contextmanager
    def _located(self, configuration: Configuration) -> Iterator[None]:
        """Give faults their place in the file, or the option that a value was written with."""
        pairs = [change.partition("=")[::2] for change in configuration.changes]
        written = [f"{field}={value}" for field, value in pairs if value != "0"]
        try:
            yield
        except InputError as error:
            document = read_yaml(self.path, [*self.overrides, *written])
            faults = [as_over(located(fault, document), pairs) for fault in error.faults]
            if configuration.changes:
                faults = [
                    replace(f, message=f"{f.message} (with {configuration.name})") for f in faults
                ]
            raise InputError(faults) from None


@dataclass(frozen=True, slots=True)
class _Outputs:
    """What is being written, all of it begun before the work."""

    json: FreshFile | None
    table: FreshFile | None
    plot: FreshFile | None

    @classmethod
    def begun(cls, held: ExitStack, options: SizeOptions, inputs: Sequence[str]) -> "_Outputs":
        named = [
            (options.json, RESULTS, "--json"),
            (options.out, TABLE, "--out"),
            (options.plot, PLOT, "--plot"),
        ]
        check_apart([file_target(n, kind, option) for n, kind, option in named if n is not None])
        files = [
            None
            if name is None
            else held.enter_context(fresh_file(name, kind, inputs=inputs, option=option))
            for name, kind, option in named
        ]
        return cls(*files)

    def write(self, found: Mapping[str, Any], answers: Sequence[Answer], draw: Draw | None) -> None:
        """Write all, then put each in its place."""
        table = runs_table(answers)
        if self.json is not None:
            self.json.write(json_text(marked(RESULTS, found)))
        if self.table is not None:
            source = f"vsim size of {found['scenario']}"
            put_table(table, self.table.path, TABLE, Provenance(source))
        if self.plot is not None and draw is not None:
            draw(found, table, self.plot.path)
        for each in (self.json, self.table, self.plot):
            if each is not None:
                each.publish()


@contextmanager
def _workers(options: SizeOptions, plan: Plan) -> Iterator[Workers]:
    if options.cluster is not None:
        from vsim.sim.goodput.cluster import cluster_workers

        with cluster_workers(options.cluster, plan.traces) as hands:
            yield hands
        return
    with workers(plan.traces, options.processes or processors()) as hands:
        yield hands


def _cache_folder() -> Path:
    """Where runs are kept if nobody says where: beside what is kept of compiled code."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "vsim" / "size"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what goes on, and clear the line at the end."""
    shown = sys.stderr.isatty()
    clear = "\r\x1b[K"

    def tell(doing: str) -> None:
        if shown:
            print(f"{clear}{doing} …", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print(clear, end="", file=sys.stderr, flush=True)
