"""BurstGPT traces: CSV, one call a line.

`Timestamp` (s), `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type`; later
files add `Session ID` and `Elapsed time`. A call without response tokens failed: it is dropped and
counted. The log type, API or conversation, becomes the tenant. A session is kept, but not which
call continues which, since the file does not say whether a prompt holds the earlier turns.
Source: HPMLL/BurstGPT.
"""

from typing import Final

import numpy as np

from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.imported import (
    SORT,
    Imported,
    ImportOptions,
    Rows,
    make_requests,
    unread_note,
)
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.values import clock_parser, parse_count, parse_name
from vsim.traces.trace_file import TraceFile

COLUMN_NAMES: Final = ("Timestamp", "Request tokens", "Response tokens", "Log Type")
_IGNORED: Final = ("", "Session ID", "Elapsed time", "Model", "Total tokens")


def _name(value: object) -> str:
    """Parse a name that may be empty."""
    return parse_name(value) if str(value).strip() else ""


def import_burstgpt(file: TraceFile, options: ImportOptions) -> Imported:
    """Import a BurstGPT trace. Raises InputError that names each wrong line."""
    faults = Faults(file.name)
    rows = Rows()
    table = CsvRows(file, faults)
    for name in COLUMN_NAMES:
        if name not in table.header:
            message = f"column is missing; the header holds {', '.join(COLUMN_NAMES)}"
            faults.add(message, line=1, place=name)
    faults.settle()
    time_at, request_at, response_at, log_at = map(table.header.index, COLUMN_NAMES)
    session_at = table.header.index("Session ID") if "Session ID" in table.header else None
    parse_seconds = clock_parser("s")
    tenants: dict[str, int] = {}
    sessions: dict[str, int] = {}
    tenant: list[int] = []
    session: list[int] = []
    failed = 0
    before = 0
    for line, cells in table:
        time_ns = table.parsed(line, cells, time_at, parse_seconds)
        request = table.parsed(line, cells, request_at, parse_count)
        response = table.parsed(line, cells, response_at, parse_count)
        if time_ns is None or request is None or response is None:
            continue
        if time_ns < before and not options.sort:
            message = f"{cells[time_at]} is before the line above's; {SORT}"
            faults.add(message, line=line, place="Timestamp")
        before = time_ns
        if response == 0:
            failed += 1
            continue
        log = table.parsed(line, cells, log_at, _name)
        found = None if session_at is None else table.parsed(line, cells, session_at, _name)
        rows.line.append(line)
        rows.arrival_ns.append(time_ns)
        rows.prompt_tokens.append(request)
        rows.output_tokens.append(response)
        tenant.append(tenants.setdefault(log or "", len(tenants)))
        session.append(sessions.setdefault(found, len(sessions)) if found else -1)
    faults.settle()
    notes = [f"{failed} calls had no response tokens: failures, dropped"] if failed else []
    notes.extend(unread_note(set(table.header) - {*COLUMN_NAMES, *_IGNORED}, "columns"))
    requests = make_requests(
        file.name,
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        session=np.asarray(session, dtype=np.int64),
        tenant=np.asarray(tenant, dtype=np.int64),
        tenant_names=tuple(tenants),
        notes=notes,
        source=options.source or f"BurstGPT trace {file.stem}",
        sort=options.sort,
        lines=rows.line,
    )
    return Imported(requests, options.licence or "not stated")
