"""Any CSV or Parquet table, by naming its columns: `arrival=ts,prompt=in_len,output=out_len`.

Ours: `arrival`, `prompt`, `output`, `id`, `session`, `parent` (the parent's id), `think`,
`tenant`, `priority`, `prefix` (in CSV, ids between spaces or semicolons). Only `prompt` and
`output` must be there; names that data sets commonly use are found without being named.
Arrivals that a table has not are drawn as a Poisson process.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrivals import poisson_ns
from vsim.traces.faults import refuse, suggestion
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.imported import Imported, ImportOptions, make_requests, offsets_of
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import (
    PARQUET_MAGIC,
    column_names,
    file_metadata,
    read_parquet,
    row_place,
)
from vsim.traces.importers.values import (
    UNITS_NS,
    clock_parser,
    parse_count,
    parse_name,
    parse_whole,
)
from vsim.traces.prefix_chain import made_global

OURS: Final = (
    "arrival", "prompt", "output", "id", "session", "parent", "think", "tenant", "priority",
    "prefix",
)  # fmt: skip
COMMON: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "arrival": ("arrival_ns", "timestamp_ns", "timestamp_us", "timestamp_ms", "timestamp_s"),
        "prompt": ("input_length", "prompt_tokens", "input_tokens", "num_prefill_tokens"),
        "output": ("output_length", "output_tokens", "num_decode_tokens"),
        "session": ("session_id",),
        "prefix": ("hash_ids",),
    }
)
_EXAMPLE: Final = "--columns arrival=ts,prompt=in_len,output=out_len"
_SUFFIX: Final = re.compile(r"_(ns|us|ms|s)$")

_Ints = NDArray[np.int64]
_Parser = Callable[[object], Any]


def is_parquet(path: str | Path) -> bool:
    """Say whether a file starts as a Parquet file does. Raises InputError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError as error:
        refuse(str(path), f"cannot be read: {os.strerror(error.errno or 0)}")


def named_columns(file: str, there: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column for each of ours: as given, else by the names in common use.

    Raises:
        InputError: a column given is not in the table, or prompt or output is not found.
    """
    faults = Faults(file)
    for ours, theirs in given.items():
        if ours not in OURS:
            faults.add(f"{ours!r} is no column of ours{suggestion(ours, OURS)}", place="--columns")
        elif theirs not in there:
            message = f"{theirs!r} is no column of the table{suggestion(theirs, there)}"
            faults.add(message, place=f"--columns {ours}")
    found = dict(given)
    for ours, common in COMMON.items():
        for theirs in common:
            if ours not in found and theirs in there:
                found[ours] = theirs
    for ours in ("prompt", "output"):
        if ours not in found:
            message = f"no column of {ours} tokens among {', '.join(there)}; name it: {_EXAMPLE}"
            faults.add(message, place="--columns")
    if "parent" in found and "id" not in found:
        faults.add("parent needs id, the column it refers to", place="--columns")
    faults.settle()
    return found


def _clock(
    file: str, columns: Mapping[str, str], options: ImportOptions, ours: str, typed: Collection[str]
) -> _Parser:
    if columns[ours] in typed:
        return clock_parser("ns")
    unit = options.time_unit
    suffix = _SUFFIX.search(columns[ours])
    if unit is None and suffix:
        unit = suffix[1]
    if unit is None:
        refuse(
            file,
            f"the unit of column {columns[ours]!r} is not known; write --time-unit with one of "
            f"{', '.join(UNITS_NS)}, iso",
            place=f"--columns {ours}",
        )
    if unit == "iso" and ours == "think":
        return clock_parser("s")
    return clock_parser(unit)


def _parse_ids(value: object) -> list[int]:
    """Parse prefix ids: a list, or text between spaces, commas or semicolons."""
    if value is None:
        return []
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip(" \t[]()")) if value.strip(" \t[]()") else []
    if not isinstance(value, list):
        raise ValueError(f"{value!r} holds no ids; write them between spaces")
    return [parse_count(item) for item in value]


def _optional(parse: _Parser, default: object) -> _Parser:
    def parse_or_default(value: object) -> object:
        empty = value is None or (isinstance(value, str) and not value.strip())
        return default if empty else parse(value)

    return parse_or_default


def _parsers(
    file: str, columns: Mapping[str, str], options: ImportOptions, typed: Collection[str] = ()
) -> dict[str, _Parser]:
    """Return the parser of each of our columns; times of the columns `typed` are in ns already."""
    parsers: dict[str, _Parser] = {
        "prompt": parse_count,
        "output": parse_count,
        "id": parse_name,
        "session": _optional(parse_name, ""),
        "parent": _optional(parse_name, ""),
        "tenant": _optional(parse_name, ""),
        "priority": _optional(parse_whole, 0),
        "prefix": _parse_ids,
    }
    if "arrival" in columns:
        parsers["arrival"] = _clock(file, columns, options, "arrival", typed)
    if "think" in columns:
        parsers["think"] = _optional(_clock(file, columns, options, "think", typed), -1)
    return {ours: parsers[ours] for ours in columns}


def _csv_values(
    table: CsvRows, columns: Mapping[str, str], parsers: Mapping[str, _Parser], places: list[int]
) -> Iterator[tuple[dict[str, Any], str]]:
    at = {ours: table.header.index(theirs) for ours, theirs in columns.items()}
    for line, cells in table:
        places.append(line)
        yield (
            {ours: table.parsed(line, cells, at[ours], parse) for ours, parse in parsers.items()},
            f"line {line}",
        )


def _nanoseconds(table: pa.Table) -> tuple[pa.Table, set[str]]:
    """Turn columns of Arrow timestamps into integers in ns; say which they were."""
    typed = {field.name for field in table.schema if pa.types.is_timestamp(field.type)}
    for name in typed:
        whole = table.column(name).cast(pa.timestamp("ns")).cast(pa.int64())
        table = table.set_column(table.column_names.index(name), name, whole)
    return table, typed


def _parquet_values(
    table: pa.Table,
    columns: Mapping[str, str],
    parsers: Mapping[str, _Parser],
    faults: Faults,
    places: list[int],
) -> Iterator[tuple[dict[str, Any], str]]:
    theirs = {ours: table.column(name).to_pylist() for ours, name in columns.items()}
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


def import_columns(path: str | Path, options: ImportOptions) -> Imported:
    """Import a table. Raises InputError that names each wrong line or row."""
    file = str(path)
    faults = Faults(file)
    parquet = is_parquet(path)
    metadata = file_metadata(path) if parquet else {}
    places: list[int] = []
    if parquet:
        columns = named_columns(file, column_names(path), options.columns)
        whole, typed = _nanoseconds(read_parquet(path, sorted(set(columns.values()))))
        parsers = _parsers(file, columns, options, typed)
        rows = _parquet_values(whole, columns, parsers, faults, places)
    else:
        table = CsvRows(path, faults)
        columns = named_columns(file, table.header, options.columns)
        parsers = _parsers(file, columns, options)
        rows = _csv_values(table, columns, parsers, places)
    kept: dict[str, list[Any]] = {ours: [] for ours in columns}
    before = None
    for values, place in rows:
        for ours, value in values.items():
            kept[ours].append(value)
        time = values.get("arrival")
        if time is not None:
            if before is not None and time < before and not options.sort:
                message = "arrives before the row above; sort the rows or pass --sort"
                line = None if parquet else places[-1]
                faults.add(message, line=line, place=place if parquet else columns["arrival"])
            before = time
    faults.settle()
    return _assembled(file, kept, columns, places, metadata, options, "row" if parquet else "line")


def _codes(names: list[str]) -> tuple[_Ints, tuple[str, ...]]:
    """Code names in order of first sight."""
    known: dict[str, int] = {}
    codes = [known.setdefault(name, len(known)) for name in names]
    return np.asarray(codes, dtype=np.int64), tuple(known)


def _parent_rows(
    kept: Mapping[str, list[Any]],
    columns: Mapping[str, str],
    places: list[int],
    faults: Faults,
    word: str,
) -> _Ints | None:
    """Return each row's parent as a row, -1 for none; a wrong id or a later parent is a fault."""
    if "id" not in kept:
        return None
    row_of: dict[str, int] = {}

    def fault(row: int, message: str, ours: str) -> None:
        theirs = columns[ours]
        line = places[row] if word == "line" else None
        faults.add(message, line=line, place=theirs if line else row_place(places[row], theirs))

    for row, name in enumerate(kept["id"]):
        if row_of.setdefault(name, row) != row:
            fault(row, f"{name!r} is there before; write unique ids", "id")
    parents = kept.get("parent", [])
    rows = np.full(len(kept["id"]), -1, dtype=np.int64)
    times = kept.get("arrival")
    for row, name in enumerate(parents):
        if not name:
            continue
        above = row_of.get(name)
        if above is None:
            fault(row, f"{name!r} is no row's id", "parent")
        elif (times[above], above) >= (times[row], row) if times else above >= row:
            fault(row, f"{name!r} arrives later; a parent arrives before its child", "parent")
        else:
            rows[row] = above
    return rows


def _assembled(
    file: str,
    kept: Mapping[str, list[Any]],
    columns: Mapping[str, str],
    places: list[int],
    metadata: Mapping[str, str],
    options: ImportOptions,
    word: str,
) -> Imported:
    faults = Faults(file)
    parent = _parent_rows(kept, columns, places, faults, word)
    faults.settle()
    notes: list[str] = []
    count = len(places)
    arrival = kept.get("arrival")
    if arrival is None:
        random = np.random.Generator(np.random.PCG64(options.seed))
        arrival = poisson_ns(random, count, options.session_rate_per_s).tolist()
        notes.append(
            f"{count} arrivals drawn with seed {options.seed} "
            f"at {options.session_rate_per_s:g} requests/s"
        )
    session = None
    if "session" in kept:
        codes, names = _codes(kept["session"])
        nameless = names.index("") if "" in names else -1
        session = np.where(codes == nameless, -1, codes)
    tenant, tenant_names = _codes(kept["tenant"]) if "tenant" in kept else (None, ("",))
    offsets = ids = None
    block_tokens = 0
    if "prefix" in kept:
        written = metadata.get("block_size", "")
        block_tokens = options.block_tokens or (int(written) if written.isdigit() else 0)
        if not block_tokens:
            refuse(file, "has prefix ids of unknown length; say --block-tokens", place="prefix")
        offsets = offsets_of([len(row) for row in kept["prefix"]])
        ids = np.asarray([i for row in kept["prefix"] for i in row], dtype=np.int64)
        if options.local_prefixes:
            if session is None or (session < 0).any():
                refuse(file, "has rows of no session; local prefix ids need one", place="session")
            ids = made_global(offsets, ids, session)
    requests = make_requests(
        file,
        arrival_ns=arrival,
        prompt_tokens=kept["prompt"],
        output_tokens=kept["output"],
        session=session,
        parent=parent,
        think_ns=np.asarray(kept["think"], dtype=np.int64) if "think" in kept else None,
        tenant=tenant,
        tenant_names=tenant_names,
        priority=np.asarray(kept["priority"], dtype=np.int64) if "priority" in kept else None,
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=block_tokens,
        notes=notes,
        source=options.source or metadata.get("source", f"table {Path(file).name}"),
        sort=options.sort,
        lines=places,
        row_word=word,
    )
    return Imported(
        requests, tuple(notes), options.licence or metadata.get("licence", "not stated")
    )


def parse_columns(text: str) -> dict[str, str]:
    """Parse `arrival=ts,prompt=in_len`. Raises InputError."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = part.partition("=")
        if not equals or not ours.strip() or not theirs.strip():
            refuse("--columns", f"{part!r} names no column; write {_EXAMPLE}")
        if ours.strip() in found:
            refuse("--columns", f"{ours.strip()} is there more than once; keep one")
        found[ours.strip()] = theirs.strip()
    return found
