"""Rows of JSON with block ids, as Mooncake and Bailian write them: checked field by field."""

import math
from collections.abc import Callable, Collection
from typing import Any, Final

from vsim.traces.importers.id_column import IdColumn
from vsim.traces.importers.imported import SORT, Rows
from vsim.traces.importers.json_rows import JsonValue, json_values, shown
from vsim.traces.importers.lines import Faults
from vsim.traces.importers.values import LARGEST, LATEST_NS
from vsim.traces.limits import MOST_TOKENS
from vsim.traces.request_limits import tokens_message
from vsim.traces.trace_file import TraceFile

LENGTHS: Final = ("input_length", "output_length")
IDS: Final = "hash_ids"


def count_fault(value: object) -> str | None:
    """Say what is wrong with a count, or None."""
    if type(value) is not int:
        return f"{shown(value)} is no whole number; write one like 512"
    if value < 0:
        return f"{shown(value)} is out of range; write 0 or more"
    if value >= LARGEST:
        return f"{shown(value)} is too large; write at most {MOST_TOKENS:,}"
    return None


def ids_fault(ids: object) -> str | None:
    """Say what is wrong with a list of block ids, or None."""
    if not isinstance(ids, list):
        return f"{shown(ids)} is no list; write ids like [0, 1]"
    if not ids:
        return None
    if set(map(type, ids)) != {int}:
        wrong = next(value for value in ids if type(value) is not int)
        return f"{shown(wrong)} is no whole number; write one like 512"
    low, high = min(ids), max(ids)
    if low < -(2**63) or high >= 2**64:
        return f"{shown(low if low < -(2**63) else high)} is out of range; write ids of 64 bits"
    if low < 0 and -1 in ids:
        return "-1 is out of range: it stands for no block; leave it out"
    return None


def time_fault(value: object, unit: str, factor: int) -> str | None:
    """Say what is wrong with a time in a unit of `factor` ns, or None."""
    # `type`, since true is no time; NaN and infinities fail both tests of size
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator] # see above
        return f"{shown(value)} is no time in {unit}; write 0 or more"
    latest = LATEST_NS // factor
    if value >= latest:  # type: ignore[operator] # a number by now
        return (
            f"{shown(value)} is too late; write less than {latest:,} {unit}, or another time unit"
        )
    return None


class BlockRows:
    """Rows as they are read; state: growing columns, and which keys were met.

    Args:
        file: the file.
        unit: the unit of `timestamp`, and how many ns it has.
        known: keys that are read.
        example: what a row looks like.
        needed: keys that each row must have.
    """

    def __init__(
        self,
        file: TraceFile,
        unit: tuple[str, int],
        known: Collection[str],
        example: str,
        needed: Collection[str] = ("timestamp", *LENGTHS, IDS),
    ) -> None:
        self.file = file
        self.faults = Faults(file.name)
        self.rows = Rows()
        self.ids = IdColumn()
        self.in_lines = True
        self.fractional = 0
        self._unit, self._factor = unit
        self._known = frozenset(known)
        self._needed = needed
        self._missing = f"is missing; a line looks like {example}"
        self._example = f"; a line looks like {example}"
        self._shapes: set[tuple[str, ...]] = set()

    def read(self, sort: bool, keep: Callable[[dict[str, Any], JsonValue], None]) -> None:
        """Read all rows; `keep` takes further fields of each good one. Raises InputError."""
        before = 0
        faults = self.faults
        for number, value in enumerate(json_values(self.file, faults, self._example)):
            row, line = value.value, value.line
            self.in_lines = line is not None
            if not isinstance(row, dict):
                faults.add(f"is no JSON object{self._example}", line=line, place=value.place)
                continue
            wrong = self._wrong(row)
            for name, message in wrong:
                faults.add(message, line=line, place=value.field(name))
            if wrong:
                continue
            self._shapes.add(tuple(row))
            time = row["timestamp"]
            time_ns = round(time * self._factor)
            if time_ns < before and not sort:
                message = f"{time} is before the line above's; {SORT}"
                faults.add(message, line=line, place=value.field("timestamp"))
            before = time_ns
            if type(time) is float and not time.is_integer():
                self.fractional += 1
            try:
                self.ids.add(row.get(IDS) or ())
            except ValueError as error:
                faults.add(str(error), line=line, place=value.field(IDS))
                continue
            self.rows.line.append(number if line is None else line)
            self.rows.arrival_ns.append(time_ns)
            self.rows.prompt_tokens.append(row["input_length"])
            self.rows.output_tokens.append(row["output_length"])
            keep(row, value)
        faults.settle()

    def _wrong(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the fields of a row that are wrong, with what is wrong."""
        found = [(name, self._missing) for name in self._needed if name not in row]
        fault = time_fault(row.get("timestamp", 0), self._unit, self._factor)
        if fault:
            found.append(("timestamp", fault))
        for name in LENGTHS:
            fault = count_fault(row.get(name, 0))
            if fault:
                found.append((name, fault))
        if not found:
            prompt, output = (int(row[name]) for name in LENGTHS)
            if prompt + output > MOST_TOKENS:
                found.append(("input_length", tokens_message(prompt, output)))
        fault = ids_fault(row.get(IDS, []))
        if fault:
            found.append((IDS, fault))
        return found

    def unread(self) -> set[str]:
        """Return the keys of the file that are not read."""
        return {name for shape in self._shapes for name in shape} - self._known
