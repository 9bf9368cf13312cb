"""Any CSV or Parquet table, or flat JSON objects, by naming the columns: `arrival=ts,prompt=n`.

Ours: `arrival`, `prompt`, `output`, `id`, `session`, `parent` (the parent's id), `think`,
`tenant`, `priority`, `prefix` (in CSV, ids between spaces or semicolons). Only `prompt` and
`output` must be there; names that data sets commonly use are found without being named.
Arrivals that a table has not are drawn as a Poisson process. A column that looks like arrivals or
prefix ids but is not named, nor of a name in common use, is refused: it may be what was meant.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.traces.arrivals import poisson_ns
from vsim.traces.faults import refuse
from vsim.traces.importers.column_names import named_columns
from vsim.traces.importers.column_parsers import parsers_of
from vsim.traces.importers.column_rows import (
    csv_rows,
    in_nanoseconds,
    json_names,
    json_rows,
    parquet_rows,
)
from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.id_column import IdColumn
from vsim.traces.importers.imported import (
    SORT,
    Imported,
    ImportOptions,
    make_requests,
    refuse_moot,
    unread_note,
)
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.parquet import (
    ParquetHead,
    block_size_of,
    parquet_head,
    read_parquet,
    row_place,
)
from vsim.traces.limits import MOST_TENANTS
from vsim.traces.prefix_chain import made_global
from vsim.traces.trace_file import TraceFile

_Ints = NDArray[np.int64]


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
        whole, typed = in_nanoseconds(whole, file.name)
        parsers = parsers_of(file.name, columns, options, typed)
        rows = parquet_rows(whole, columns, parsers, faults, places)
    elif file.head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        there, in_lines = json_names(file)
        word = "line" if in_lines else "entry"
        columns = named_columns(file.name, there, options.columns)
        parsers = parsers_of(file.name, columns, options)
        rows = json_rows(file, columns, parsers, faults, places)
    else:
        table = CsvRows(file, faults)
        there = table.header
        columns = named_columns(file.name, there, options.columns)
        parsers = parsers_of(file.name, columns, options)
        rows = csv_rows(table, columns, parsers, places)
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
    notes = unread_note(set(there) - {"", *columns.values()}, "columns")
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
