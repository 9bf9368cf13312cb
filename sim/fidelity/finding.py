"""Finding measured runs: in the repository, in a folder, or in one file; each by what it holds."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import vsim.traces
from vsim.sim.fidelity.gpu.recording import CaseRecording, read_cases
from vsim.sim.fidelity.measured import MeasuredRun, MeasuredThroughput, Origin
from vsim.sim.fidelity.recording import read_recording
from vsim.sim.fidelity.requests_table import (
    header_of,
    is_requests_table,
    read_requests_table,
)
from vsim.sim.fidelity.throughput_table import is_throughput_table, read_throughput_table
from vsim.traces.arrow_io import kind_of
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.trace_file import TraceFile, open_trace

VARIABLE: Final = "VSIM_REAL_RUNS"
_SHOWN: Final = 8  # column names in a reason
_LONGEST_NAME: Final = 30
_NO_RUNS: Final = (".md", ".txt", ".py", ".png", ".yaml")
_BESIDE: Final = ("server_steps", "operations", "gpu_samples", "kernel_tables")
"""Kinds that belong to a run, to a plan of cases, or to a machine file."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Args:
        runs: measured runs.
        throughputs: figures of the most that a server gave.
        others: files that hold none of these, each with the reason.
        recordings: cases measured on GPUs.
    """

    runs: tuple[MeasuredRun, ...]
    throughputs: tuple[MeasuredThroughput, ...]
    others: tuple[tuple[str, str], ...]
    recordings: tuple[CaseRecording, ...] = ()


def recorded_folder() -> Path | None:
    """Return the repository's recordings of servers; None in an installed package."""
    return _folder("servers")


def gpu_folder() -> Path | None:
    """Return the repository's recordings of cases on GPUs; None where there are none."""
    folder = _folder("gpu")
    return folder if folder is not None and any(folder.glob("*.arrow")) else None


def _folder(name: str) -> Path | None:
    for root in vsim.traces.__path__:
        folder = Path(root) / "recorded" / name
        if folder.is_dir():
            return folder
    return None


def find_all() -> Found:
    """Find the repository's recordings, and public runs where VSIM_REAL_RUNS names a folder.

    Raises:
        InputError: there are none, or one of them is damaged.
    """
    folder = recorded_folder()
    if folder is None:
        refuse(
            "vsim check",
            "recordings are not part of an installed vsim; name a recording or a folder of them, "
            "such as traces/recorded/servers of its repository",
        )
    found = find(folder, "recorded")
    gpu = gpu_folder()
    if gpu is not None:
        found = replace(found, recordings=find(gpu, "recorded").recordings)
    public = os.environ.get(VARIABLE)
    if not public:
        return found
    if not Path(public).is_dir():
        refuse(VARIABLE, f"{public} is no folder; name one that holds real runs, or unset it")
    more = find(Path(public), "public")
    return Found(
        found.runs + more.runs,
        found.throughputs + more.throughputs,
        found.others + more.others,
        found.recordings + more.recordings,
    )


def find(path: Path, origin: Origin | None = None) -> Found:
    """Find the runs of a file, or of a folder with all its folders.

    Args:
        path: the file or folder.
        origin: whose they are; left out: recorded if they lie with the repository's recordings.

    Raises:
        InputError: with what is wrong in any of them.
    """
    if not path.exists():
        refuse(str(path), "cannot be read: No such file or directory")
    if origin is None:
        own = [folder.resolve() for folder in (recorded_folder(), gpu_folder()) if folder]
        inside = any(path.resolve().is_relative_to(folder) for folder in own)
        origin = "recorded" if inside else "public"
    runs: list[MeasuredRun] = []
    throughputs: list[MeasuredThroughput] = []
    others: list[tuple[str, str]] = []
    recordings: list[CaseRecording] = []
    faults: list[Fault] = []
    for file in _files(path):
        try:
            with open_trace(str(file)) as trace:
                read = _read(trace, origin)
                if isinstance(read, str) and not path.is_dir():
                    refuse(trace.name, f"is no measured run: {read}")
        except InputError as error:
            faults.extend(error.faults)
            continue
        if isinstance(read, MeasuredRun):
            runs.append(read)
        elif isinstance(read, CaseRecording):
            recordings.append(read)
        elif isinstance(read, str):
            others.append((str(file), read))
        else:
            throughputs.extend(read)
    if faults:
        raise InputError(faults)
    if not runs and not throughputs and not recordings:
        refuse(str(path), "holds no measured run; name a recording, a table or a folder of them")
    return Found(tuple(runs), tuple(throughputs), tuple(others), tuple(recordings))


def read_measured(path: str) -> MeasuredRun:
    """Read one measured run of any kind. Raises InputError where it is none."""
    with open_trace(path) as file:
        read = _read(file, "public")
        if isinstance(read, MeasuredRun):
            return read
        refuse(file.name, "is no measured run of requests; the README says which tables are")


def _files(path: Path) -> Iterator[Path]:
    """The files that may hold a run, in order of name; a recording's steps belong to it."""
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and file.suffix not in _NO_RUNS:
            yield file


def _read(
    file: TraceFile, origin: Origin
) -> MeasuredRun | Sequence[MeasuredThroughput] | CaseRecording | str:
    """Read a file by what it holds; a text says why it holds no run."""
    if file.is_arrow:
        kind = kind_of(file)
        if kind == "server_runs":
            return read_recording(file, origin)
        if kind == "gpu_cases":
            return read_cases(file, own=origin == "recorded")
        if kind in _BESIDE:
            return ()
        return f"an Arrow file of {kind or 'no kind of ours'}"
    if not file.is_parquet and file.head.lstrip()[:1] in (b"{", b"["):
        return "JSON, such as a model's; `vsim import vllm` makes a run of a benchmark's result"
    try:
        header = header_of(file)
    except InputError as error:
        return f"no table: {error.faults[0].message}"
    if is_throughput_table(header):
        return read_throughput_table(file)
    if is_requests_table(header):
        return read_requests_table(file, origin)
    names = ", ".join(name[:_LONGEST_NAME] for name in header[:_SHOWN])
    return f"its columns are those of no measured run: {names}"
