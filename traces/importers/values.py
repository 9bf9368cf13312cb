"""Single values as trace files write them; each parser's ValueError says what to write."""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from vsim.traces.limits import MOST_TOKENS

_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_LONGEST_NUMBER: Final = 400  # characters; more than any number that a float holds
UNITS_NS: Final = MappingProxyType({"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9})
LARGEST: Final = 2**53  # beyond it a float is no longer exact, and no count of tokens is meant
LATEST_NS: Final = 2**62  # so that the difference of two times is an int64; the year 2116


def shown_value(value: object, written: Callable[[object], str] = repr) -> str:
    """Show a value in at most 40 characters, `written` as Python or another language has it."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    try:
        text = written(value)
    except ValueError:  # more digits than the interpreter prints
        return "a number of too many digits"
    return text if len(text) <= 40 else text[:37] + "..."


def parse_count(value: object) -> int:
    """Parse a count: a whole number, 0 or more, also written as `12.0`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    if type(value) is int and 0 <= value < LARGEST:
        return value
    number = _number(value)
    if number is not None and number >= LARGEST:
        raise ValueError(f"{shown_value(value)} is too large; write at most {MOST_TOKENS:,}")
    if number is None or number < 0 or number != int(number):
        raise ValueError(f"{shown_value(value)} is no count; write a whole number, 0 or more")
    return int(number)


def parse_whole(value: object) -> int:
    """Parse a whole number of either sign."""
    number = value if type(value) is int else _number(value)
    if number is None or abs(number) >= LARGEST or number != int(number):
        raise ValueError(f"{shown_value(value)} is no whole number; write one like 0")
    return int(number)


def parse_id(value: object) -> int:
    """Parse the id of a block: any whole number of 64 bits but -1, which stands for no block."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        return parse_count(value)  # a table may hold ids as 12.0
    if not -(2**63) <= value < 2**64 or value == -1:
        raise ValueError(f"{shown_value(value)} is no id; write a whole number of 64 bits")
    return value


def _number(value: object) -> int | float | None:
    """Return a finite number, or None."""
    if isinstance(value, str):
        text = value.strip()
        fits = len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text)
        value = float(text) if fits else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**70 else None  # math.isfinite fails on larger ones
    return value if math.isfinite(value) else None


@lru_cache(maxsize=4)  # rows of one second stand side by side
def _second_ns(text: str, zone: str | None) -> int:
    moment = datetime.fromisoformat(text + ("+00:00" if zone in (None, "Z") else str(zone)))
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9


def parse_time_ns(value: object) -> int:
    """Parse a time of day, with or without an offset, into ns since 1970 UTC.

    `2023-11-16 18:15:46.6805900` without an offset is taken as UTC.
    """
    found = None
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        found = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    elif isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        if match:
            with suppress(ValueError, OverflowError):  # a month 13: said as for any other text
                found = _second_ns(match[1], match[3]) + int((match[2] or "0").ljust(9, "0"))
    if found is None:
        shown = value.isoformat() if isinstance(value, date) else value
        message = f"{shown_value(shown)} is no time; write it like 2023-11-16 18:15:46.680590"
        raise ValueError(message)
    if abs(found) >= LATEST_NS:
        shown = value.isoformat() if isinstance(value, date) else value
        raise ValueError(f"{shown_value(shown)} is not between the years 1824 and 2116")
    return found


def _latest(unit: str) -> str:
    return f"write less than {LATEST_NS // UNITS_NS[unit]:,} {unit}, or another time unit"


def clock_parser(unit: str) -> Callable[[object], int]:
    """Return a parser of times in `unit` (a key of UNITS_NS, or `iso`) into ns."""
    if unit == "iso":
        return parse_time_ns
    factor = UNITS_NS[unit]

    def parse(value: object) -> int:
        if type(value) is int and 0 <= value < LATEST_NS // factor:
            return value * factor
        number = _number(value)
        if number is not None and number >= LATEST_NS / factor:
            raise ValueError(f"{shown_value(value)} is too late; {_latest(unit)}")
        if number is None or number < 0:
            raise ValueError(
                f"{shown_value(value)} is no time in {unit}; write a number, 0 or more"
            )
        # A float holds no nanoseconds since 1970, text does.
        exact = Decimal(value.strip()) if isinstance(value, str) else Decimal(number)
        return min(round(exact * factor), LATEST_NS - 1)

    return parse


def parse_name(value: object) -> str:
    """Parse a name: text or a number, not empty."""
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError("is empty; write a name")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"{shown_value(text)} is no UTF-8 text; save the file as UTF-8"
            ) from None
    return text
