"""Any CSV or Parquet table, or flat JSON objects, by naming the columns: `arrival=ts,prompt=n`.

Ours: `arrival`, `prompt`, `output`, `id`, `session`, `parent` (the parent's id), `think`,
`tenant`, `priority`, `prefix` (in CSV, ids between spaces or semicolons). Only `prompt` and
`output` must be there; names that data sets commonly use are found without being named.
Arrivals that a table has not are drawn as a Poisson process. A column that looks like arrivals or
prefix ids but is not named, nor of a name in common use, is refused: it may be what was meant.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrivals import poisson_ns
from vsim.traces.faults import refuse, suggestion
from vsim.traces.importers.block_rows import unread_note
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.id_column import IdColumn
from vsim.traces.importers.imported import (
    SORT,
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
)
from vsim.traces.importers.json_rows import json_values
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import (
    ParquetHead,
    block_size_of,
    parquet_head,
    read_parquet,
    row_place,
)
from vsim.traces.importers.values import (
    UNITS_NS,
    clock_parser,
    parse_count,
    parse_id,
    parse_name,
    parse_whole,
    shown_value,
)
from vsim.traces.limits import LARGEST_PRIORITY, MOST_TENANTS
from vsim.traces.prefix_chain import made_global
from vsim.traces.trace_file import TraceFile

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
LIKE_ARRIVALS: Final = frozenset(
    {"ts", "time", "timestamp", "arrival", "arrivals", "arrival_time", "arrived", "arrived_at",
     "start", "start_time", "started", "started_at", "request_time", "created", "created_at",
     "datetime", "date", "arrival_s", "arrival_ms", "arrival_us"}
)  # fmt: skip
LIKE_PREFIXES: Final = frozenset(
    {"block_hashes", "block_ids", "block_keys", "blocks", "cache_key", "cache_keys", "hash_id",
     "hashes", "keys", "key", "kv_hashes", "prefix", "prefix_hash", "prefix_hashes", "prefix_id",
     "prefix_ids", "prefix_keys", "token_hashes"}
)  # fmt: skip
_EXAMPLE: Final = "`vsim trace import --columns arrival=ts,prompt=in_len,output=out_len`"
_SHOWN: Final = 30  # column names in a fault
_SUFFIX: Final = re.compile(r"_(ns|us|ms|s)$")

_Ints = NDArray[np.int64]
_Parser = Callable[[object], Any]


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
            some = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "")
            message = f"no column of {ours} tokens among {some}; name it: {_EXAMPLE}"
            faults.add(message, place="--columns")
    if "parent" in found and "id" not in found:
        faults.add("parent needs id, the column it refers to", place="--columns")
    if not given:
        for ours, names in (("arrival", LIKE_ARRIVALS), ("prefix", LIKE_PREFIXES)):
            like = [name for name in there if name.lower().replace(" ", "_") in names]
            if ours not in found and like:
                message = (
                    f"looks like {ours}, but says neither its unit nor what it is; name it with "
                    f"`vsim trace import --columns {ours}={like[0]},…`, or all columns but it"
                )
                faults.add(message, place=f"column {like[0]}")
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
            f"the unit of column {columns[ours]!r} is not known; write --time-unit of "
            f"`vsim trace import` with one of {', '.join(UNITS_NS)}, iso",
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
        raise ValueError(f"{shown_value(value)} holds no ids; write them between spaces")
    return [parse_id(item) for item in value]


def _parse_priority(value: object) -> int:
    """Parse a priority. Raises ValueError."""
    found = parse_whole(value)
    if abs(found) > LARGEST_PRIORITY:
        raise ValueError(f"{found} is no priority; write one within ±{LARGEST_PRIORITY}")
    return found


def _flat(value: object) -> object:
    """Refuse a list or an object where a single value belongs."""
    if isinstance(value, list | dict):
        raise ValueError(f"{shown_value(value)} is no single value")
    return value


def _parse_single_name(value: object) -> str:
    return parse_name(_flat(value))


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
        "id": _parse_single_name,
        "session": _optional(_parse_single_name, ""),
        "parent": _optional(_parse_single_name, ""),
        "tenant": _optional(_parse_single_name, ""),
        "priority": _optional(_parse_priority, 0),
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


def _nanoseconds(table: pa.Table, file: str) -> tuple[pa.Table, set[str]]:
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


def _parquet_values(
    table: pa.Table,
    columns: Mapping[str, str],
    parsers: Mapping[str, _Parser],
    faults: Faults,
    places: list[int],
) -> Iterator[tuple[dict[str, Any], str]]:
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


def _json_values(
    file: TraceFile,
    columns: Mapping[str, str],
    parsers: Mapping[str, _Parser],
    faults: Faults,
    places: list[int],
) -> Iterator[tuple[dict[str, Any], str]]:
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


def _json_names(file: TraceFile) -> tuple[list[str], bool]:
    """Return the keys of all objects of a file, and whether each stands on a line."""
    names: dict[str, None] = {}
    in_lines = True
    for value in json_values(file, Faults(file.name)):
        in_lines = value.line is not None
        if isinstance(value.value, dict):
            names.update(dict.fromkeys(value.value))
    return list(names), in_lines


def import_columns(file: TraceFile, options: ImportOptions) -> Imported:
    """Import a table. Raises InputError that names each wrong line or row."""
    faults = Faults(file.name)
    head = ParquetHead([], {})
    places: list[int] = []
    typed: set[str] = set()
    word = "line"
    if file.is_parquet:
        word = "row"
        head = parquet_head(file)
        there = head.names
        columns = named_columns(file.name, there, options.columns)
        whole = read_parquet(file, sorted(set(columns.values())))
        whole, typed = _nanoseconds(whole, file.name)
        parsers = _parsers(file.name, columns, options, typed)
        rows = _parquet_values(whole, columns, parsers, faults, places)
    elif file.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        there, in_lines = _json_names(file)
        word = "line" if in_lines else "entry"
        columns = named_columns(file.name, there, options.columns)
        parsers = _parsers(file.name, columns, options)
        rows = _json_values(file, columns, parsers, faults, places)
    else:
        table = CsvRows(file, faults)
        there = table.header
        columns = named_columns(file.name, there, options.columns)
        parsers = _parsers(file.name, columns, options)
        rows = _csv_values(table, columns, parsers, places)
    _refuse_moot(options, columns, typed)
    kept: dict[str, list[Any]] = {ours: [] for ours in columns}
    before = None
    for values, place in rows:
        for ours, value in values.items():
            kept[ours].append(value)
        time = values.get("arrival")
        if time is not None:
            if before is not None and time < before and not options.sort:
                message = f"arrives before the row above; {SORT}"
                line = places[-1] if word == "line" else None
                faults.add(message, line=line, place=columns["arrival"] if line else place)
            before = time
    faults.settle()
    notes = unread_note(sorted(set(there) - {"", *columns.values()}), "columns")
    return _assembled(file, kept, columns, places, head.metadata, options, word, notes)


def _refuse_moot(
    options: ImportOptions, columns: Mapping[str, str], typed: Collection[str]
) -> None:
    """Refuse options that this table leaves nothing to do."""
    moot: dict[str, str] = {}
    if "arrival" in columns:
        why = f"arrivals are in column {columns['arrival']}"
        moot |= {"seed": why, "session_rate_per_s": why}
    else:
        moot["sort"] = "arrivals are drawn, in order"
    times = [columns[ours] for ours in ("arrival", "think") if ours in columns]
    if not times:
        moot["time_unit"] = "no column is named that holds times"
    elif set(times) <= set(typed):
        moot["time_unit"] = f"column {times[0]} says its unit itself"
    if "prefix" not in columns:
        why = "no column holds prefix ids"
        moot |= {"block_tokens": why, "local_prefixes": why}
    refuse_moot(options, moot)


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
    file: TraceFile,
    kept: Mapping[str, list[Any]],
    columns: Mapping[str, str],
    places: list[int],
    metadata: Mapping[str, str],
    options: ImportOptions,
    word: str,
    notes: list[str],
) -> Imported:
    faults = Faults(file.name)
    parent = _parent_rows(kept, columns, places, faults, word)
    faults.settle()
    count = len(places)
    arrival = kept.get("arrival")
    if arrival is None:
        random = np.random.Generator(np.random.PCG64(options.drawing_seed))
        arrival = poisson_ns(random, count, options.drawing_rate_per_s).tolist()
        notes.insert(
            0,
            f"{count} arrivals drawn with seed {options.drawing_seed} "
            f"at {options.drawing_rate_per_s:g} requests/s",
        )
    session = None
    if "session" in kept:
        codes, names = _codes(kept["session"])
        nameless = names.index("") if "" in names else -1
        session = np.where(codes == nameless, -1, codes)
    tenant, tenant_names = _codes(kept["tenant"]) if "tenant" in kept else (None, ("",))
    if len(tenant_names) > MOST_TENANTS:
        message = f"holds {len(tenant_names):,} tenants; at most {MOST_TENANTS:,}"
        refuse(file.name, message, place=columns["tenant"])
    offsets = ids = None
    block_tokens = 0
    if "prefix" in kept:
        written = block_size_of(metadata, file.name)
        if options.block_tokens is not None and written not in (None, options.block_tokens):
            refuse("--block-tokens", f"is {options.block_tokens}, but the file says {written}")
        block_tokens = options.block_tokens or written or 0
        if not block_tokens:
            message = "has prefix ids of unknown length; say `vsim trace import --block-tokens`"
            refuse(file.name, message, place="prefix")
        column = IdColumn()
        for row, listed in enumerate(kept["prefix"]):
            try:
                column.add(listed)
            except ValueError as error:
                line = places[row] if word == "line" else None
                place = columns["prefix"]
                faults.add(
                    str(error), line=line, place=place if line else row_place(places[row], place)
                )
        faults.settle()
        offsets, ids = column.offsets(), column.ids(notes)
        if options.local_prefixes:
            if session is None or (session < 0).any():
                refuse(
                    file.name, "has rows of no session; local prefix ids need one", place="session"
                )
            ids = made_global(offsets, ids, session)
    requests = make_requests(
        file.name,
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
        source=options.source or metadata.get("source", f"table {file.stem}"),
        sort=options.sort,
        drawn="arrival" not in kept,
        seeded="arrival" not in kept and count > 1,
        lines=places,
        row_word=word,
    )
    licence = options.licence or metadata.get("licence", "not stated")
    return Imported(requests, licence)


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
