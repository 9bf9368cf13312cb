"""Tables of measured requests, CSV or Parquet, in named columns; the README documents them.

A time's unit stands at the end of its column's name: `arrival_s`, `first_token_ms`. What a Parquet
file's metadata says of the server and its settings is read; a CSV file says nothing of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vsim.sim.fidelity.measured import Int64s, MeasuredRun, Origin, Repeat
from vsim.sim.fidelity.settings import settings_of_table
from vsim.traces.faults import refuse
from vsim.traces.importers.columns import import_columns
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.imported import ImportOptions
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import parquet_head, read_parquet, row_place
from vsim.traces.importers.values import UNITS_NS, clock_parser, parse_count
from vsim.traces.trace_file import TraceFile

TIMES: Final = ("arrival", "scheduled", "first_token", "last_token")
COUNTS: Final = ("gpu_hit_tokens", "host_hit_tokens", "preemptions")
_ASKED: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("prompt_tokens",),
    "output": ("output_tokens",),
    "id": ("id",),
    "session": ("session",),
    "parent": ("parent",),
    "think": tuple(f"think_{unit}" for unit in UNITS_NS),
    "prefix": ("prefix", "prefix_blocks"),
    "arrival": tuple(f"arrival_{unit}" for unit in UNITS_NS),
}
_LENGTHS: Final = ("prompt_tokens", "output_tokens")
_NEEDED: Final = ("arrival", "first_token", "last_token")


def header_of(file: TraceFile) -> list[str]:
    """Return a table's column names. Raises InputError where it is damaged."""
    return parquet_head(file).names if file.is_parquet else CsvRows(file, Faults(file.name)).header


def is_requests_table(header: Sequence[str]) -> bool:
    """Say whether a table's columns are those of measured requests."""
    return set(_LENGTHS) <= set(header) and all(_time_column(header, name) for name in _NEEDED)


def read_requests_table(file: TraceFile, origin: Origin) -> MeasuredRun:
    """Read a table of measured requests, whose header `is_requests_table` has taken for one.

    Raises:
        InputError: naming each wrong row or line.
    """
    header = header_of(file)
    metadata = parquet_head(file).metadata if file.is_parquet else {}
    times, counts = _measured(file, header)
    arrival = times["arrival"]
    order = np.argsort(arrival, kind="stable")
    options = ImportOptions(
        columns={
            ours: theirs for ours, names in _ASKED.items() for theirs in names if theirs in header
        },
        sort=bool((np.diff(arrival) < 0).any()),
    )
    requests = import_columns(file, options).requests
    engine, _, version = metadata.get("engine", "").partition(" ")
    repeat = Repeat(
        requests,
        scheduled_ns=times["scheduled"][order],
        first_token_ns=times["first_token"][order],
        last_token_ns=times["last_token"][order],
        gpu_hit_tokens=counts["gpu_hit_tokens"][order],
        host_hit_tokens=counts["host_hit_tokens"][order],
        preemptions=counts["preemptions"][order],
    )
    _refuse_disorder(repeat, file.name)
    name = file.stem.rpartition(".")[0] or file.stem
    return MeasuredRun(
        name=name,
        file=file.name,
        origin=origin,
        engine=engine or "unknown",
        version=version,
        gpu=metadata.get("gpu", ""),
        gpus=_whole(metadata, "gpus", file.name),
        model=metadata.get("model", ""),
        model_shape=None,
        workload=metadata.get("workload", ""),
        settings=settings_of_table(metadata, file.name),
        repeats=(repeat,),
    )


def _whole(metadata: Mapping[str, str], name: str, file: str) -> int:
    text = metadata.get(name, "1")
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) > 0):
        refuse(file, f"{text[:40]!r} is no whole number from 1", place=f"metadata {name}")
    return int(text)


def _time_column(header: Sequence[str], name: str) -> tuple[str, str] | None:
    """The column of a time, and its unit."""
    found = [(f"{name}_{unit}", unit) for unit in UNITS_NS if f"{name}_{unit}" in header]
    return found[0] if found else None


def _or_unknown(parse: Callable[[object], int]) -> Callable[[object], int]:
    def parsed(value: object) -> int:
        return -1 if value is None or value == "" else parse(value)

    return parsed


def _at_least_one(value: object) -> int:
    """A length: an import of a trace would raise 0 to 1, and what was measured is not changed."""
    found = parse_count(value)
    if found < 1:
        raise ValueError(f"{found} is no number of tokens; write 1 or more")
    return found


def _measured(
    file: TraceFile, header: Sequence[str]
) -> tuple[dict[str, Int64s], dict[str, Int64s]]:
    """The measured columns in the file's order, times in ns, -1 where a cell is empty."""
    parsers: dict[str, tuple[str, Callable[[object], int]]] = {}
    for name in TIMES:
        column = _time_column(header, name)
        if column is not None:
            parse = clock_parser(column[1])
            parsers[name] = column[0], parse if name == "arrival" else _or_unknown(parse)
    parsers |= {name: (name, _or_unknown(parse_count)) for name in COUNTS if name in header}
    parsers |= {name: (name, _at_least_one) for name in _LENGTHS}
    faults = Faults(file.name)
    kept: dict[str, list[int]] = {name: [] for name in parsers}
    if file.is_parquet:
        table = read_parquet(file, sorted({theirs for theirs, _ in parsers.values()}))
        rows = table.num_rows
        for name, (theirs, parse) in parsers.items():
            for row, value in enumerate(table.column(theirs).to_pylist()):
                kept[name].append(_parsed(parse, value, faults, row, theirs))
    else:
        csv_rows = CsvRows(file, faults)
        rows = 0
        for line, cells in csv_rows:
            rows += 1
            for name, (theirs, parse) in parsers.items():
                value = csv_rows.parsed(line, cells, csv_rows.header.index(theirs), parse)
                kept[name].append(-1 if value is None else value)
    faults.settle()
    unknown = np.full(rows, -1, np.int64)
    found: dict[str, Int64s] = {
        name: np.array(kept[name], np.int64) if name in kept else unknown
        for name in (*TIMES, *COUNTS)
    }
    return {n: found[n] for n in TIMES}, {n: found[n] for n in COUNTS}


def _parsed(
    parse: Callable[[object], int], value: Any, faults: Faults, row: int, column: str
) -> int:
    try:
        return parse(value)
    except ValueError as error:
        faults.add(str(error), place=row_place(row, column))
        return -1


def _refuse_disorder(repeat: Repeat, file: str) -> None:
    """Refuse a token before its request arrived, or a last one before the first."""
    pairs = (
        ("first_token", repeat.first_token_ns, "arrival", repeat.requests.arrival_ns),
        ("last_token", repeat.last_token_ns, "first_token", repeat.first_token_ns),
    )
    for name, values, before, bounds in pairs:
        bad = (values >= 0) & (values < bounds)
        if bad.any():
            row = int(np.argmax(bad))
            message = f"is {values[row]} ns, before {before} {bounds[row]} ns"
            refuse(file, message, place=f"request {row} by arrival, {name}")
