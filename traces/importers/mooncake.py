"""Mooncake traces: one JSON object a line.

`timestamp` (ms), `input_length`, `output_length`, `hash_ids` (one id a block of 512 tokens, the
partial last block included; each id stands for its whole prefix). Source: kvcache-ai/Mooncake.
"""

import json
from pathlib import Path
from typing import Final

from vsim.traces.importers.imported import (
    Imported,
    ImportOptions,
    Rows,
    make_requests,
    offsets_of,
)
from vsim.traces.importers.lines import Faults, json_cause, text_lines

BLOCK_TOKENS: Final = 512
LARGEST: Final = 2**53
_LENGTHS: Final = ("input_length", "output_length")
_EXAMPLE: Final = '{"timestamp": 0, "input_length": 6, "output_length": 5, "hash_ids": [0]}'
_MISSING: Final = f"is missing; a line looks like {_EXAMPLE}"


def _count_fault(value: object) -> str | None:
    """Say what is wrong with a count, or None."""
    if type(value) is not int:
        return f"{json.dumps(value)[:40]} is no whole number; write one like 512"
    if not 0 <= value < LARGEST:
        return f"{value} is out of range; write 0 or more"
    return None


def _row_faults(row: dict[str, object]) -> list[tuple[str, str]]:
    """Return the fields of a row that are wrong, with what is wrong."""
    found: list[tuple[str, str]] = []
    names = ("timestamp", *_LENGTHS, "hash_ids")
    found.extend((name, _MISSING) for name in names if name not in row)
    time = row.get("timestamp", 0)
    if type(time) not in (int, float) or not 0 <= time < LARGEST:  # type: ignore[operator] # the type is tested before
        found.append(("timestamp", f"{json.dumps(time)[:40]} is no time in ms; write 0 or more"))
    for name in _LENGTHS:
        fault = _count_fault(row.get(name, 0))
        if fault:
            found.append((name, fault))
    ids = row.get("hash_ids", [])
    if not isinstance(ids, list):
        found.append(("hash_ids", f"{json.dumps(ids)[:40]} is no list; write ids like [0, 1]"))
    else:
        for value in ids:
            fault = _count_fault(value)
            if fault:
                found.append(("hash_ids", fault))
                break
    return found


def import_mooncake(path: str | Path, options: ImportOptions) -> Imported:
    """Import a Mooncake trace. Raises InputError that names each wrong line."""
    faults = Faults(str(path))
    rows = Rows()
    decode = json.JSONDecoder().decode
    before = 0
    for line, text in enumerate(text_lines(path), 1):
        try:
            row = decode(text.rstrip())
        except (ValueError, RecursionError) as error:
            if text.strip():
                message = f"is not JSON ({json_cause(error)}); a line looks like {_EXAMPLE}"
                faults.add(message, line=line)
            continue
        if not isinstance(row, dict):
            faults.add(f"is no JSON object; a line looks like {_EXAMPLE}", line=line)
            continue
        wrong = _row_faults(row)
        for place, message in wrong:
            faults.add(message, line=line, place=place)
        if wrong:
            continue
        time_ns = round(row["timestamp"] * 1_000_000)
        if time_ns < before and not options.sort:
            message = (
                f"{row['timestamp']} is before the line above's; sort the lines or pass --sort"
            )
            faults.add(message, line=line, place="timestamp")
        before = time_ns
        rows.line.append(line)
        rows.arrival_ns.append(time_ns)
        rows.prompt_tokens.append(row["input_length"])
        rows.output_tokens.append(row["output_length"])
        rows.prefix.append(len(row["hash_ids"]))
        rows.prefix_ids.extend(row["hash_ids"])
    faults.settle()
    notes: list[str] = []
    requests = make_requests(
        str(path),
        arrival_ns=rows.arrival_ns,
        prompt_tokens=rows.prompt_tokens,
        output_tokens=rows.output_tokens,
        prefix_offsets=offsets_of(rows.prefix),
        prefix_ids=rows.prefix_ids,
        block_tokens=options.block_tokens or BLOCK_TOKENS,
        notes=notes,
        source=options.source or f"Mooncake trace {Path(path).name}",
        sort=options.sort,
        lines=rows.line,
    )
    return Imported(requests, tuple(notes), options.licence or "not stated")
