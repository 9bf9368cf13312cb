"""Values of a JSON file in any of its layouts: one a line, one list, or whole documents.

Each comes with its line, or with `entry 3` where several lines, or one, hold all.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from vsim.traces.faults import repeated
from vsim.traces.importers.lines import Faults, json_cause
from vsim.traces.importers.values import shown_value
from vsim.traces.trace_file import TraceFile

_BETWEEN: Final = re.compile(r"\s*")
_UNREADABLE: Final = (ValueError, RecursionError)


class DuplicateKeyError(ValueError):
    """An object has one key twice, of which the standard reader would drop one."""


@dataclass(frozen=True, slots=True)
class JsonValue:
    """One value of a file, and what a fault in it is to name."""

    value: Any
    line: int | None
    place: str | None = None

    def field(self, name: str) -> str:
        """Name a field of it."""
        return name if self.place is None else f"{self.place}: {name}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        again = repeated(name for name, _ in pairs)[0]
        raise DuplicateKeyError(f"has the key {again!r} more than once; keep one")
    return made


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once)


def shown(value: object) -> str:
    """Show a value of a JSON file in a few characters."""
    return shown_value(value, json.dumps)


def _fault(error: Exception, example: str) -> str:
    if isinstance(error, DuplicateKeyError):
        return str(error)
    return f"is not JSON ({json_cause(error)}){example}"


def json_values(file: TraceFile, faults: Faults, example: str = "") -> Iterator[JsonValue]:
    """Yield the values of a file; what is not JSON is a fault and left out.

    Args:
        file: the file.
        faults: where what is wrong is kept.
        example: what to add to a fault, such as `; a line looks like {}`.
    """
    lines = file.text_lines()
    first = next((text for text in lines if text.strip()), "").strip()
    lines.close()  # type: ignore[attr-defined] # a generator; the next reader starts afresh
    if first.startswith("["):
        yield from _listed(file, faults, example)
    elif first.startswith("{") and not first.endswith("}") and not _parses(first):
        yield from _documents(file, faults, example)
    else:
        yield from _lines(file, faults, example)


def _parses(text: str) -> bool:
    try:
        _DECODER.decode(text)
    except _UNREADABLE:
        return False
    return True


def _lines(file: TraceFile, faults: Faults, example: str) -> Iterator[JsonValue]:
    for line, text in enumerate(file.text_lines(), 1):
        stripped = text.strip()
        if not stripped:
            continue
        try:
            value = _DECODER.decode(stripped)
        except _UNREADABLE as error:
            faults.add(_fault(error, example), line=line)
            continue
        yield JsonValue(value, line)


def _documents(file: TraceFile, faults: Faults, example: str) -> Iterator[JsonValue]:
    """Yield whole documents, one after the other."""
    text = file.text()
    at = _skip(text, 0)
    number = 0
    while at < len(text):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except _UNREADABLE as error:
            faults.add(_fault(error, example), line=_line(text, error, at))
            return
        yield JsonValue(value, None, f"entry {number}")
        number += 1
        at = _skip(text, at)


def _listed(file: TraceFile, faults: Faults, example: str) -> Iterator[JsonValue]:
    """Yield the elements of one list, without holding more than one of them."""
    text = file.text()
    at = _skip(text, text.index("[") + 1)
    number = 0
    while text[at : at + 1] != "]":
        try:
            value, at = _DECODER.raw_decode(text, at)
        except _UNREADABLE as error:
            faults.add(_fault(error, example), line=_line(text, error, at))
            return
        yield JsonValue(value, None, f"entry {number}")
        number += 1
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] == "]":
                faults.add(f"is not JSON (a comma before the end){example}", line=_at(text, at))
                return
        elif text[at : at + 1] != "]":
            faults.add(f"is not JSON (a list that does not end){example}", line=_at(text, at))
            return
    rest = _skip(text, at + 1)
    if rest < len(text):
        faults.add(f"is not JSON (something after the list){example}", line=_at(text, rest))


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def _at(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _line(text: str, error: Exception, at: int) -> int:
    return error.lineno if isinstance(error, json.JSONDecodeError) else _at(text, at)
