"""What `vsim bound` does: read a scenario, compare policies on each of its cases, write."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vsim.sim.commands.result_outputs import ResultOutputs, result_outputs
from vsim.sim.inputs.yaml_input import YamlDocument, read_text
from vsim.sim.placement.applicability import long_search, refuse_what_cannot_act
from vsim.sim.placement.bounding import BoundedCase, bounded_cases
from vsim.sim.placement.scenario import PlacementScenario
from vsim.traces.arrow_io import Provenance, put_table
from vsim.traces.faults import Fault, InputError, one_line, refuse
from vsim.traces.writing import (
    FolderKind,
    FreshFolder,
)

RESULTS = "bound"
SCHEDULES = FolderKind(RESULTS, "bound.json")
OPTION_OF_FIELD = {
    "--set memory.hbm_share": "--hbm-share",
    "--set selection.sparsity": "--sparsity",
    "--set memory.hbm_bandwidth": "--hbm-bandwidth",
    "--set memory.slow_bandwidth": "--slow-bandwidth",
    "--set memory.weights": "--weights",
    "--set memory.start": "--start",
    "--set mip_seconds": "--mip-seconds",
}


def run_bound(
    scenario: str | None,
    *,
    attention: Sequence[str],
    policies: Sequence[str],
    overrides: Sequence[str],
    json_file: str | None,
    out: str | None,
) -> None:
    """Compare policies and print a table for each case.

    Args:
        scenario: a placement scenario file, or None: the defaults, with `attention`.
        attention: attention traces, in place of the scenario's.
        policies: policies to run, in place of the scenario's.
        overrides: `key=value`, on top of the file.
        json_file: where to write the results as JSON, or None.
        out: a folder for schedules, or None.

    Raises:
        InputError: with every fault found.
    """
    given = [*attention] if scenario is None else [scenario, *attention]
    # before the work: no run is for nothing
    with result_outputs(json_file, out, given, results=RESULTS, tables=SCHEDULES) as outputs:
        _compare(scenario, attention, policies, overrides, outputs)


def _compare(
    scenario: str | None,
    attention: Sequence[str],
    policies: Sequence[str],
    overrides: Sequence[str],
    outputs: ResultOutputs,
) -> None:
    if scenario is None and not attention:
        refuse("vsim bound", "names no attention trace; write a scenario or --attention T.arrow")
    text, file = "policies: null", "--attention"
    if scenario is not None:
        text, file = read_text(scenario), scenario
    settings = list(overrides)
    if attention:
        paths = [str(Path(path).absolute()) for path in attention]
        settings.insert(0, f"attention={json.dumps(paths)}")
    if policies:
        settings.append(f"policies={json.dumps(list(policies))}")
    document: YamlDocument | None = None
    try:
        document = YamlDocument(text, file, settings)
        described = document.validate(PlacementScenario)
        writes = outputs.json is not None or outputs.folder is not None
        refuse_what_cannot_act(described, writes=writes)
        if search := long_search(described):
            print(one_line(f"{file}: note: {search}"), file=sys.stderr)
        base = Path(scenario).parent if scenario else Path()
        outputs.protect([base / name for name in described.attention or ()])
        results = []
        for case in bounded_cases(described, base=base, progress=_progress()):
            _show(case.text(), outputs)
            results.append(case.as_json())
            if outputs.folder is not None:
                _write_schedules(outputs.folder, case)
    except InputError as error:
        raise InputError(_as_options(fault, document) for fault in error.faults) from None
    # one case stands at the top; several are listed
    outputs.publish(results[0] if len(results) == 1 else {"cases": results})


def _show(text: str, outputs: ResultOutputs) -> None:
    """Print a case. Files that were asked for are still written where nobody reads on."""
    try:
        print(text, end="\n\n", flush=True)
    except BrokenPipeError:
        if outputs.json is None and outputs.folder is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _progress() -> Callable[[str], None] | None:
    """Show on a terminal what runs now; an empty name clears the line."""
    if not sys.stderr.isatty():
        return None

    def tell(name: str) -> None:
        print(f"\r\x1b[K{name} …" if name else "\r\x1b[K", end="", file=sys.stderr, flush=True)

    return tell


def _as_options(fault: Fault, document: YamlDocument | None) -> Fault:
    """Give a fault its place in the scenario file, or the name of the option it was written as."""
    if fault.file == "scenario" and fault.place is not None and document is not None:
        keys = (int(key) if key.isdecimal() else key for key in fault.place.split("."))
        fault = document.fault(tuple(keys), fault.message)
    return replace(fault, file=OPTION_OF_FIELD.get(fault.file, fault.file))


def _write_schedules(folder: FreshFolder, case: BoundedCase) -> None:
    # to 15 digits, so that no two cases have one name
    parts = [f"hbm{case.hbm_share * 100:.15g}"]
    if case.sparsity is not None:
        parts.insert(0, f"sparsity{case.sparsity * 100:.15g}")
    for policy, table in case.schedules():
        source = f"placement of {case.comparison.case.reads.source} by {policy}"
        name = "-".join([*parts, policy]) + ".arrow"
        put_table(table, folder.path / name, "operations", Provenance(source))
