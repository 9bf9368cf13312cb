"""The rows of a table whose columns were named: of CSV, of Parquet, of flat JSON objects.

Each is a dict of our columns, None where a value was wrong, and its place for a fault; what stands
in front of a place, a line or a row, is added to `places`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from vsim.traces.faults import refuse
from vsim.traces.importers.column_parsers import Parser
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.json_rows import json_values
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import row_place
from vsim.traces.importers.values import shown_value
from vsim.traces.trace_file import TraceFile


def csv_rows(
    table: CsvRows, columns: Mapping[str, str], parsers: Mapping[str, Parser], places: list[int]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Read the rows of a CSV table."""
    at = {ours: table.header.index(theirs) for ours, theirs in columns.items()}
    for line, cells in table:
        places.append(line)
        yield (
            {ours: table.parsed(line, cells, at[ours], parse) for ours, parse in parsers.items()},
            f"line {line}",
        )


def parquet_rows(
    table: pa.Table,
    columns: Mapping[str, str],
    parsers: Mapping[str, Parser],
    faults: Faults,
    places: list[int],
) -> Iterator[tuple[dict[str, Any], str]]:
    """Read the rows of a Parquet table."""
    theirs = {
        ours: _values_of(table.column(name), name, faults.file) for ours, name in columns.items()
    }
    for row in range(table.num_rows):
        places.append(row)
        values: dict[str, Any] = {}
        for ours, parse in parsers.items():
            try:
                values[ours] = parse(theirs[ours][row])
            except ValueError as error:
                faults.add(str(error), place=row_place(row, columns[ours]))
                values[ours] = None
        yield values, row_place(row, columns.get("arrival", ""))


def json_rows(
    file: TraceFile,
    columns: Mapping[str, str],
    parsers: Mapping[str, Parser],
    faults: Faults,
    places: list[int],
) -> Iterator[tuple[dict[str, Any], str]]:
    """Read the rows of flat JSON objects, one a line or in a list."""
    for number, value in enumerate(json_values(file, faults)):
        row = value.value
        if not isinstance(row, dict):
            message = f"{shown_value(row)} is no JSON object"
            faults.add(message, line=value.line, place=value.place)
            continue
        places.append(number if value.line is None else value.line)
        found: dict[str, Any] = {}
        for ours, parse in parsers.items():
            try:
                found[ours] = parse(row.get(columns[ours]))
            except ValueError as error:
                faults.add(str(error), line=value.line, place=value.field(columns[ours]))
                found[ours] = None
        yield found, value.field(columns.get("arrival", ""))


def in_nanoseconds(table: pa.Table, file: str) -> tuple[pa.Table, set[str]]:
    """Turn columns of Arrow timestamps and durations into integers in ns; say which they were."""
    kinds = pa.types
    typed = {
        field.name
        for field in table.schema
        if kinds.is_timestamp(field.type) or kinds.is_duration(field.type)
    }
    for name in typed:
        column = table.column(name)
        fine = pa.timestamp("ns") if kinds.is_timestamp(column.type) else pa.duration("ns")
        try:
            whole = column.cast(fine).cast(pa.int64())
        except pa.ArrowInvalid:
            message = f"holds {column.type} beyond what 64 bits of ns hold, the years 1678 to 2262"
            refuse(file, message, place=f"column {name}")
        table = table.set_column(table.column_names.index(name), name, whole)
    return table, typed


def _values_of(column: Any, name: str, file: str) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):  # dates and times beyond Python's
        refuse(file, f"holds {column.type} out of range", place=f"column {name}")
    return values


def json_names(file: TraceFile) -> tuple[list[str], bool]:
    """Return the keys of all objects of a file, and whether each stands on a line."""
    names: dict[str, None] = {}
    in_lines = True
    for value in json_values(file, Faults(file.name)):
        in_lines = value.line is not None
        if isinstance(value.value, dict):
            names.update(dict.fromkeys(value.value))
    return list(names), in_lines
