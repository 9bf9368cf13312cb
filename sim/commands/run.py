"""What `vsim run` does: read, simulate, write."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from vsim.sim.inputs.yaml_input import YamlDocument, read_yaml
from vsim.sim.results.output import RESULT, Result
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.traces.arrow_io import kind_of
from vsim.traces.faults import Fault, InputError, one_line, refuse
from vsim.traces.reading import read_requests
from vsim.traces.trace_file import open_trace
from vsim.traces.writing import FreshFolder, fresh_folder

Progress = Callable[[int, int], None]
"""Is told how many requests are done, and of how many."""


def run_scenario(
    path: str,
    *,
    trace: str | None,
    overrides: Sequence[str],
    out: str | None,
    bound: str | None = None,
) -> Mapping[str, Any]:
    """Simulate a scenario file and return its summary, written to `out` if that is given.

    Args:
        path: the scenario file.
        trace: a trace of requests or of attention to use instead of what the scenario names.
        overrides: `key=value`, on top of the file.
        out: a folder to write to, new or a former result.
        bound: how prefix hits are bounded: quick, as if left out, or tight.

    Raises:
        InputError: with every fault, each at its position in the file where it has one.
    """
    if bound not in (None, "quick", "tight"):
        refuse("--bound", f"'{bound}' is unknown; write quick or tight")
    given = [path] if trace is None else [path, trace]
    folder = (
        nullcontext() if out is None else fresh_folder(out, RESULT, inputs=given, option="--out")
    )
    with folder as fresh:  # begun before the work, so that no run is lost to a wrong name
        result = _simulated(path, trace, overrides, fresh, tight=bound == "tight")
        return result.summary


def _simulated(
    path: str,
    trace: str | None,
    overrides: Sequence[str],
    fresh: FreshFolder | None,
    *,
    tight: bool,
) -> Result:
    document = read_yaml(path, overrides)
    scenario = document.validate(Scenario).read_with(overrides)
    if fresh is not None:
        fresh.protect(_files_of(scenario, Path(path).parent))
    requests = None
    base = Path(path).parent
    with ExitStack() as stack:
        if trace is not None:
            file = stack.enter_context(open_trace(trace))  # kept: a pipe can be read only once
            if kind_of(file) == "attention":
                scenario = scenario.with_attention(str(Path(file.path).absolute()))
            else:
                scenario = scenario.with_trace(str(Path(file.path).absolute()))
                requests = read_requests(file, scenario.seed)
        try:
            with _progress() as progress:
                result = simulate(
                    scenario,
                    requests=requests,
                    progress=progress,
                    base=base,
                    out=fresh,
                    steps=False,
                    tight_bound=tight,
                )
        except InputError as error:
            raise InputError(located(fault, document) for fault in error.faults) from None
    name = trace or scenario.workload.trace
    for note in result.summary.get("source_notes", ()):
        print(one_line(f"{name}: note: {note}"), file=sys.stderr)
    return result


def _files_of(scenario: Scenario, base: Path) -> Iterator[Path]:
    """Every file that a scenario names; a name out of a catalogue is none."""
    workload = scenario.workload
    traces = () if workload.trace is None else (workload.trace,)
    for name in (*traces, *(workload.attention or ()), scenario.machine, scenario.model):
        if (base / name).is_file():
            yield base / name


def located(fault: Fault, document: YamlDocument) -> Fault:
    """Give a fault of a scenario's field its position in the file."""
    if fault.file in ("machine", "model") and fault.place is None:  # a name that is unknown
        return document.fault((fault.file,), fault.message)
    if fault.file != "scenario" or fault.place is None:
        return fault
    place = tuple(int(key) if key.isdecimal() else key for key in fault.place.split("."))
    return document.fault(place, fault.message)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Show a bar on standard error while the block runs, if a person is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("requests"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
