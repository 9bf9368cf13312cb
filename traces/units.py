"""Sizes, durations and bandwidths as people write them: `80GiB`, `12us`, `3.35TB/s`."""

import math
import re
from decimal import Decimal

_NUMBER = re.compile(
    r"^\s*([+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-zµ/]*)\s*$"
)

_BYTES = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50,
}  # fmt: skip
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9,
    "min": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_FLOPS = {"GFLOP/s": 10**9, "TFLOP/s": 10**12, "PFLOP/s": 10**15}


def _parse(text: object, units: dict[str, int], kind: str, example: str) -> float:
    hint = f"{text!r} is not {kind}; write it like {example}"
    if not isinstance(text, str):
        raise ValueError(hint)
    match = _NUMBER.match(text)
    if match is None or match[2] not in units:
        raise ValueError(hint)
    value = float(match[1]) * units[match[2]]
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{text!r} must be finite and not negative; write it like {example}")
    return value


def parse_bytes(text: object) -> int:
    """Parse a size such as `80GiB` into bytes. Raises ValueError that says what to write."""
    value = _parse(text, _BYTES, "a size", "80GiB")
    if value >= 2**63:
        raise ValueError(f"{text!r} is larger than any memory; write it like 80GiB")
    return round(value)


def parse_duration_ns(text: object) -> int:
    """Parse a duration such as `12us` into nanoseconds. Raises ValueError saying what to write."""
    value = _parse(text, _NANOSECONDS, "a duration", "12us")
    if value >= 2**62:
        raise ValueError(f"{text!r} is longer than this clock can count; write it like 12us")
    return round(value)


def parse_bandwidth(text: object) -> float:
    """Parse a bandwidth such as `3.35TB/s` into bytes per second."""
    return _parse(text, {f"{u}/s": f for u, f in _BYTES.items()}, "a bandwidth", "3.35TB/s")


def parse_flops(text: object) -> float:
    """Parse an arithmetic rate such as `989TFLOP/s` into operations per second."""
    return _parse(text, _FLOPS, "an arithmetic rate", "989TFLOP/s")


def format_bytes(count: float) -> str:
    """Print a size with a binary unit, three significant digits: `1.5 GiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if abs(count) >= _BYTES[unit]:
            return f"{short(count / _BYTES[unit])} {unit}"
    return f"{count:.0f} B"


def format_bandwidth(bytes_per_s: float) -> str:
    """Print a bandwidth with a decimal unit, three significant digits: `3.35 TB/s`."""
    for unit in ("TB", "GB", "MB", "kB"):
        if abs(bytes_per_s) >= _BYTES[unit]:
            return f"{short(bytes_per_s / _BYTES[unit])} {unit}/s"
    return f"{bytes_per_s:.0f} B/s"


def format_duration(ns: float) -> str:
    """Print a duration with the unit that fits it, three significant digits: `12 us`."""
    for unit in ("s", "ms", "us"):
        if abs(ns) >= _NANOSECONDS[unit]:
            return f"{short(ns / _NANOSECONDS[unit])} {unit}"
    return f"{ns:.0f} ns"


def short(value: float) -> str:
    """Three significant digits without zeros at the end, and never in exponents."""
    return f"{Decimal(f'{value:.3g}'):f}" if abs(value) < 999.5 else f"{value:,.0f}"
