"""How the values of each of our columns are parsed, whatever table they are from."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from vsim.traces.faults import refuse
from vsim.traces.importers.imported import ImportOptions
from vsim.traces.importers.values import (
    UNITS_NS,
    clock_parser,
    parse_count,
    parse_id,
    parse_name,
    parse_whole,
    shown_value,
)
from vsim.traces.limits import LARGEST_PRIORITY

_SUFFIX: Final = re.compile(r"_(ns|us|ms|s)$")

Parser = Callable[[object], Any]


def parsers_of(
    file: str, columns: Mapping[str, str], options: ImportOptions, typed: Collection[str] = ()
) -> dict[str, Parser]:
    """Return the parser of each of our columns; times of the columns `typed` are in ns already."""
    parsers: dict[str, Parser] = {
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


def _clock(
    file: str, columns: Mapping[str, str], options: ImportOptions, ours: str, typed: Collection[str]
) -> Parser:
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


def _optional(parse: Parser, default: object) -> Parser:
    def parse_or_default(value: object) -> object:
        empty = value is None or (isinstance(value, str) and not value.strip())
        return default if empty else parse(value)

    return parse_or_default
