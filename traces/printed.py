"""Figures as tables and summaries print them, so that all commands print them alike.

Sentences, which drop zeros at the end, take `vsim.traces.units.format_bytes` and the like.
"""

import math
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Final

WIDTH: Final = 100
"""Columns that nothing printed passes."""
ABSENT: Final = "–"
"""Stands where there is no figure."""


def digits(value: float) -> str:
    """Print three significant digits, never in exponents, thousands with a comma."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 9.995:
        return f"{value:.1f}"
    if abs(value) >= 1e-4:
        return f"{value:#.3g}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def size(count: float) -> str:
    """Print bytes with a binary unit and three significant digits."""
    for exponent, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(count) >= 1024**exponent:
            return f"{digits(count / 1024**exponent)} {unit}"
    return f"{count:.0f} B" if count == int(count) else f"{digits(count)} B"


def parameters(count: float) -> str:
    """Print a number of parameters with three significant digits: `8.03B`."""
    for one, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if count >= one:
            return f"{digits(count / one)}{unit}"
    return f"{count:,.0f}"


def percent(share: float) -> str:
    """Print a share in percent with one decimal."""
    return f"{100 * share:.1f}%"


def milliseconds(value: float | None) -> str:
    """Print milliseconds, from ten thousand on as seconds, with three significant digits."""
    if value is None:
        return ABSENT
    return f"{digits(value / 1000)} s" if value >= 10_000 else f"{digits(value)} ms"


def duration(ns: float) -> str:
    """Print four digits in the unit that fits."""
    for unit, one in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= one:
            value = ns / one
            return f"{value:.{max(0, 4 - len(str(int(value))))}f} {unit}"
    return f"{ns:.0f} ns"


def seconds(time_s: float) -> str:
    """Print four digits in the largest unit, up to seconds, that leaves one before the point."""
    unit, scale = _unit(time_s)
    return _four(time_s / scale, unit)


def bound(time_s: float) -> str:
    """Print a time as `seconds` does, but none that is above it: a bound stays one."""
    if time_s <= 0:
        return seconds(time_s)
    unit, scale = _unit(time_s)
    down = Context(prec=4, rounding=ROUND_FLOOR)
    return _four(down.multiply(Decimal(time_s), Decimal(round(1 / scale))), unit)


def _unit(time_s: float) -> tuple[str, float]:
    """The largest unit that leaves a digit before the point, and its seconds."""
    units = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
    return next((each for each in units if time_s >= each[1]), ("ns", 1e-9))


def _four(value: float | Decimal, unit: str) -> str:
    text = f"{value:.4g}" if abs(float(value)) < 1000 else f"{value:,.0f}"
    return f"{text} {unit}"
