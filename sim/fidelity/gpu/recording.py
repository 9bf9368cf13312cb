"""Recordings of kind `gpu_cases`: cases, what each took again and again, and on what machine."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import pyarrow as pa

from vsim.sim.fidelity.gpu.case_json import case_of, case_text
from vsim.sim.fidelity.gpu.cases import GpuCase
from vsim.traces.arrow_io import Provenance, metadata_of, read_table, write_table
from vsim.traces.faults import Fault, InputError
from vsim.traces.schema import schema_of
from vsim.traces.trace_file import TraceFile
from vsim.traces.writing import FreshFile, Name

KIND: Final = "gpu_cases"
_NEEDED: Final = ("machine", "device", "gpus", "driver", "date")


@dataclass(frozen=True, slots=True)
class Measured:
    """A case and what it took.

    Args:
        case: what was done.
        repeats_ns: one or more, as they came.
    """

    case: GpuCase
    repeats_ns: tuple[int, ...]

    @property
    def median_ns(self) -> float:
        """The figure."""
        return float(median(self.repeats_ns))

    @property
    def spread(self) -> float:
        """The most less the least of the repeats, as a share of the median."""
        return (max(self.repeats_ns) - min(self.repeats_ns)) / self.median_ns


@dataclass(frozen=True, slots=True)
class CaseRecording:
    """Cases measured on one machine.

    Args:
        file: the name that faults give.
        machine: the machine file that predicts it: a name of the catalogue, or a path.
        device: the GPU's name as its driver says it.
        gpus: how many were there.
        driver: its version.
        date: of the measurement.
        measured: in the order in which they were.
        calibration_hash: of the machine file that it was measured for; empty where unknown.
        command: what measured it.
        failed: cases that failed there, each with the error.
        skipped: cases that needed what was not there, each with what.
        own: whether it is one of this repository's, which tolerances are taken of.
    """

    file: str
    machine: str
    device: str
    gpus: int
    driver: str
    date: str
    measured: tuple[Measured, ...]
    calibration_hash: str = ""
    command: str = ""
    failed: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    own: bool = False


def read_cases(path: str | Path | TraceFile, *, own: bool = False) -> CaseRecording:
    """Read a recording.

    Args:
        path: its file.
        own: whether it is one of this repository's.

    Raises:
        InputError: with everything that is wrong, by row and column.
    """
    table = read_table(path, KIND)
    file = path.name if isinstance(path, TraceFile) else str(path)
    about = metadata_of(table)
    faults = [
        Fault(file, "is missing; record the cases again", place=f"vsim.{name}")
        for name in _NEEDED
        if not about.get(name)
    ]
    gpus = about.get("gpus", "1")
    if not (gpus.isascii() and gpus.isdigit() and 0 < int(gpus[:4]) <= 1024):
        message = f"is {gpus[:20]!r}; write a whole number from 1"
        faults.append(Fault(file, message, place="vsim.gpus"))
    reasons = {}
    for key in ("failed", "skipped"):
        try:
            reasons[key] = _reasons(about.get(key, "{}"))
        except ValueError:
            message = "is no JSON object of texts; record the cases again"
            faults.append(Fault(file, message, place=f"vsim.{key}"))
    measured: list[Measured] = []
    for row, found in enumerate(table.to_pylist()):
        try:
            case = case_of(found["case"])
        except ValueError as error:
            faults.append(Fault(file, str(error), place=f"row {row}, column case"))
            continue
        for column, wanted in (("name", case.name), ("class", case.of_class)):
            if found[column] != wanted:
                message = f"is {found[column]!r}, and the case's is {wanted!r}; write that"
                faults.append(Fault(file, message, place=f"row {row}, column {column}"))
        measured.append(Measured(case, tuple(found["repeats_ns"])))
    if faults:
        raise InputError(faults)
    return CaseRecording(
        file,
        about["machine"],
        about["device"],
        int(gpus),
        about["driver"],
        about["date"],
        tuple(measured),
        about.get("calibration_hash", ""),
        about.get("command", ""),
        **reasons,
        own=own,
    )


def _reasons(text: str) -> tuple[tuple[str, str], ...]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ValueError
    return tuple(found.items())


def write_cases(
    path: Name | FreshFile,
    measured: Iterable[Measured],
    about: Mapping[str, str],
    *,
    calibration_hash: str | None = None,
) -> None:
    """Write a recording; see `CaseRecording` for what `about` must name.

    Raises:
        InputError: the file cannot be written there.
        KeyError: `about` lacks the machine, device, gpus, driver or date.
    """
    rows = [
        {
            "name": each.case.name,
            "class": each.case.of_class,
            "case": case_text(each.case),
            "repeats_ns": list(each.repeats_ns),
        }
        for each in measured
    ]
    table = pa.Table.from_pylist(rows, schema=schema_of(KIND))
    lacking = [name for name in _NEEDED if name not in about]
    if lacking:
        raise KeyError(lacking[0])
    provenance = Provenance(
        f"{about['gpus']} x {about['device']}, driver {about['driver']}, {about['date']}",
        "Apache-2.0",
        about["machine"],
        calibration_hash,
        extra={name: value for name, value in about.items() if name != "machine"},
    )
    write_table(table, path, KIND, provenance)
