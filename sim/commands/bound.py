"""What `vsim bound` does: read a scenario, compare policies on each of its cases, write."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsim.sim.commands.schedule_folder import ScheduleFolder
from vsim.sim.inputs.yaml_input import YamlDocument, read_text
from vsim.sim.placement.applicability import refuse_what_cannot_act
from vsim.sim.placement.bounding import BoundedCase, bounded_cases
from vsim.sim.placement.scenario import PlacementScenario
from vsim.traces.arrow_io import Provenance, write_table
from vsim.traces.faults import Fault, InputError, refuse

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
        refuse_what_cannot_act(described)
        results = _run(described, Path(scenario).parent if scenario else Path(), out)
    except InputError as error:
        raise InputError(_as_options(fault, document) for fault in error.faults) from None
    if json_file is not None:
        _write_json(results, json_file)


def _run(scenario: PlacementScenario, base: Path, out: str | None) -> list[dict[str, Any]]:
    folder = None if out is None else ScheduleFolder(out)
    results = []
    for case in bounded_cases(scenario, base=base, progress=_progress()):
        print(case.text(), end="\n\n")
        results.append(case.as_json())
        if folder is not None:
            _write_schedules(folder, case)
    if folder is not None:
        folder.finish(_document(results))
    return results


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


def _write_schedules(folder: ScheduleFolder, case: BoundedCase) -> None:
    parts = [f"hbm{case.hbm_share * 100:g}"]
    if case.sparsity is not None:
        parts.insert(0, f"sparsity{case.sparsity * 100:g}")
    for policy, table in case.schedules():
        source = f"placement of {case.comparison.case.reads.source} by {policy}"
        name = "-".join([*parts, policy]) + ".arrow"
        write_table(table, folder.path / name, "operations", Provenance(source))


def _document(results: list[dict[str, Any]]) -> str:
    """One case stands at the top; several are listed under `cases`."""
    content = results[0] if len(results) == 1 else {"cases": results}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _write_json(results: list[dict[str, Any]], file: str) -> None:
    target = Path(file)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(_document(results))
        os.replace(temporary, target)
    except OSError as error:
        refuse(file, f"cannot be written: {os.strerror(error.errno or 0)}; name another place")
    finally:
        temporary.unlink(missing_ok=True)
