"""Azure LLM inference traces: CSV with `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`.

The 2023 files write times in UTC without an offset, the 2024 ones with it. Other spellings of the
column names (`context_tokens`, `Num Context Tokens`) are accepted.
Source: Azure/AzurePublicDataset.
"""

from typing import Final

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
from vsim.traces.importers.values import parse_count, parse_time_ns
from vsim.traces.trace_file import TraceFile

_COLUMNS: Final = {
    "timestamp": "TIMESTAMP",
    "contexttokens": "ContextTokens",
    "numcontexttokens": "ContextTokens",
    "generatedtokens": "GeneratedTokens",
    "numgeneratedtokens": "GeneratedTokens",
}
COLUMN_NAMES: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def places_of(header: list[str]) -> dict[str, int]:
    """Return where each of our columns stands in a header, whatever its spelling."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        plain = "".join(letter for letter in name.lower() if letter.isalnum())
        if plain in _COLUMNS:
            places.setdefault(_COLUMNS[plain], place)
    return places


def import_azure(file: TraceFile, options: ImportOptions) -> Imported:
    """Import an Azure trace. Raises InputError that names each wrong line."""
    faults = Faults(file.name)
    rows = Rows()
    table = CsvRows(file, faults)
    places = places_of(table.header)
    for name in COLUMN_NAMES:
        if name not in places:
            message = f"column is missing; the header is {','.join(COLUMN_NAMES)}"
            faults.add(message, line=1, place=name)
    spelled = [name for name in table.header if places_of([name])]
    if len(spelled) > len(places):
        message = f"columns {', '.join(spelled)} name one thing twice; keep one of each"
        faults.add(message, line=1)
    faults.settle()
    time_at, context_at, generated_at = (places[name] for name in COLUMN_NAMES)
    before = None
    for line, cells in table:
        time_ns = table.parsed(line, cells, time_at, parse_time_ns)
        context = table.parsed(line, cells, context_at, parse_count)
        generated = table.parsed(line, cells, generated_at, parse_count)
        if time_ns is None or context is None or generated is None:
            continue
        if before is not None and time_ns < before and not options.sort:
            message = f"{cells[time_at]} is before the line above's; {SORT}"
            faults.add(message, line=line, place="TIMESTAMP")
        before = time_ns
        rows.line.append(line)
        rows.arrival_ns.append(time_ns)
        rows.prompt_tokens.append(context)
        rows.output_tokens.append(generated)
    faults.settle()
    notes = unread_note(set(table.header) - {"", *spelled}, "columns")
    requests = make_requests(
        file.name,
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        notes=notes,
        source=options.source or f"Azure LLM inference trace {file.stem}",
        sort=options.sort,
        lines=rows.line,
    )
    return Imported(requests, options.licence or "not stated")
