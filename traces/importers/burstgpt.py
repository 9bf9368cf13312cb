"""BurstGPT traces: CSV, one call a line.

`Timestamp` (s), `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type`; later
files add `Session ID` and `Elapsed time`. A call without response tokens failed: it is dropped and
counted. The log type, API or conversation, becomes the tenant. A session is kept, but not which
call continues which, since the file does not say whether a prompt holds the earlier turns.
Source: HPMLL/BurstGPT.
"""

from pathlib import Path
from typing import Final

import numpy as np

from vsim.traces.importers.csv_rows import CsvRows
from vsim.traces.importers.imported import Imported, ImportOptions, Rows, make_requests
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.values import clock_parser, parse_count

COLUMN_NAMES: Final = ("Timestamp", "Request tokens", "Response tokens", "Log Type")


def import_burstgpt(path: str | Path, options: ImportOptions) -> Imported:
    """Import a BurstGPT trace. Raises InputError that names each wrong line."""
    faults = Faults(str(path))
    rows = Rows()
    table = CsvRows(path, faults)
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
            message = f"{cells[time_at]} is before the line above's; sort the lines or pass --sort"
            faults.add(message, line=line, place="Timestamp")
        before = time_ns
        if response == 0:
            failed += 1
            continue
        rows.line.append(line)
        rows.arrival_ns.append(time_ns)
        rows.prompt_tokens.append(request)
        rows.output_tokens.append(response)
        tenant.append(tenants.setdefault(cells[log_at].strip(), len(tenants)))
        name = "" if session_at is None else cells[session_at].strip()
        session.append(sessions.setdefault(name, len(sessions)) if name else -1)
    faults.settle()
    notes = [f"{failed} calls had no response tokens: failures, dropped"] if failed else []
    requests = make_requests(
        str(path),
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        session=np.asarray(session, dtype=np.int64),
        tenant=np.asarray(tenant, dtype=np.int64),
        tenant_names=tuple(tenants),
        notes=notes,
        source=options.source or f"BurstGPT trace {Path(path).name}",
        sort=options.sort,
        lines=rows.line,
    )
    return Imported(requests, tuple(notes), options.licence or "not stated")
