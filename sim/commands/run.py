"""What `vsim run` does: read, simulate, write."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsim.sim.inputs.yaml_input import YamlDocument, read_yaml
from vsim.sim.results.output import check_target
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.traces.arrow_io import kind_of
from vsim.traces.faults import Fault, InputError
from vsim.traces.reading import read_requests

Progress = Callable[[int, int], None]
"""Is told how many requests are done, and of how many."""


def run_scenario(
    path: str, *, trace: str | None, overrides: Sequence[str], out: str | None
) -> Mapping[str, Any]:
    """Simulate a scenario file and return its summary, written to `out` if that is given.

    Args:
        path: the scenario file.
        trace: a trace of requests or of attention to use instead of what the scenario names.
        overrides: `key=value`, on top of the file.
        out: a folder to write to, new or a former result.

    Raises:
        InputError: with every fault, each at its position in the file where it has one.
    """
    if out is not None:
        check_target(out)
    document = read_yaml(path, overrides)
    scenario = document.validate(Scenario)
    requests = None
    if trace is not None and kind_of(trace) == "attention":
        scenario = scenario.with_attention(str(Path(trace).absolute()))
    elif trace is not None:
        scenario = scenario.with_trace(str(Path(trace).absolute()))
        requests = read_requests(trace, scenario.seed)
    try:
        with _progress() as progress:
            result = simulate(
                scenario,
                requests=requests,
                progress=progress,
                base=Path(path).parent,
                out=out,
                steps=False,
            )
    except InputError as error:
        raise InputError(_located(fault, document) for fault in error.faults) from None
    return result.summary


def _located(fault: Fault, document: YamlDocument) -> Fault:
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
