"""Single values as trace files write them; each parser's ValueError says what to write."""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
UNITS_NS: Final = MappingProxyType({"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9})
LARGEST: Final = 2**53  # beyond it a JSON number or a float is no longer exact


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def parse_count(value: object) -> int:
    """Parse a count: a whole number, 0 or more, also written as `12.0`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    if type(value) is int and 0 <= value < LARGEST:
        return value
    number = _number(value)
    if number is None or not 0 <= number < LARGEST or number != int(number):
        raise ValueError(f"{_shown(value)} is no count; write a whole number, 0 or more")
    return int(number)


def parse_whole(value: object) -> int:
    """Parse a whole number of either sign."""
    number = value if type(value) is int else _number(value)
    if number is None or abs(number) >= LARGEST or number != int(number):
        raise ValueError(f"{_shown(value)} is no whole number; write one like 0")
    return int(number)


def _number(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


@lru_cache(maxsize=4)  # rows of one second stand side by side
def _second_ns(text: str, zone: str | None) -> int:
    moment = datetime.fromisoformat(text + ("+00:00" if zone in (None, "Z") else str(zone)))
    return (moment - _EPOCH) // timedelta(seconds=1) * 10**9


def parse_time_ns(value: object) -> int:
    """Parse a time of day, with or without an offset, into ns since 1970 UTC.

    `2023-11-16 18:15:46.6805900` without an offset is taken as UTC.
    """
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    if isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        if match:
            try:
                return _second_ns(match[1], match[3]) + int((match[2] or "0").ljust(9, "0"))
            except ValueError:
                pass  # a month 13: say it as for any other text
    shown = value.isoformat() if isinstance(value, date) else value
    raise ValueError(f"{_shown(shown)} is no time; write it like 2023-11-16 18:15:46.680590")


def clock_parser(unit: str) -> Callable[[object], int]:
    """Return a parser of times in `unit` (a key of UNITS_NS, or `iso`) into ns."""
    if unit == "iso":
        return parse_time_ns
    factor = UNITS_NS[unit]

    def parse(value: object) -> int:
        if type(value) is int and 0 <= value < 2**62 // factor:
            return value * factor
        number = _number(value)
        if number is None or not 0 <= number < 2**62 / factor:
            raise ValueError(f"{_shown(value)} is no time in {unit}; write a number, 0 or more")
        # A float holds no nanoseconds since 1970, text does.
        exact = Decimal(value.strip()) if isinstance(value, str) else Decimal(number)
        return round(exact * factor)

    return parse


def parse_name(value: object) -> str:
    """Parse a name: text or a number, not empty."""
    text = "" if value is None else str(value).strip()
    if not text:
        raise ValueError("is empty; write a name")
    return text
