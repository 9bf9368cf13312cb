"""The error table: predicted beside measured times, by class of operation (signed, relative)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.replay.plan import Planned
from vsim.traces.units import format_bytes

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """Operations of one class.

    Args:
        name: what they have in common.
        operations: how many there are.
        predicted_us: the median of their predicted times.
        measured_us: the median of their measured times.
        spread: the median, over operations, of (most - least) / median of the repeats; None where
            each was carried out once.
        median, p95, worst: of the signed error measured to predicted, (predicted - measured) /
            measured; p95 and worst are those of the largest size, with their sign.
    """

    name: str
    operations: int
    predicted_us: float
    measured_us: float
    spread: float | None
    median: float
    p95: float
    worst: float

    def as_json(self) -> dict[str, Any]:
        """The same for summary.json."""
        return {name: getattr(self, name) for name in self.__slots__}


def class_of(planned: Planned, tiers: Sequence[str], page_bytes: int) -> str:
    """Name an operation's class: what it does, and its size by powers of two."""
    operation = planned.operation
    if operation.kind == "copy":
        size = format_bytes(_power(operation.size_bytes))
        ways = f"{tiers[operation.source_tier]} → {tiers[operation.target_tier]}"
        return f"copy {ways}, up to {size}"
    below = sorted({tiers[read.tier] for read in planned.reads if read.tier > 0})
    where = f", reads {' and '.join(below)}" if below else ""
    batch = operation.batch
    if batch is None or planned.compute_bytes < 0:  # recorded attention
        return f"step{where}"
    requests = "request" if len(batch) == 1 else "requests"
    chunks = int(batch.new_tokens[batch.new_tokens > 1].sum())
    if chunks:
        return f"step with a chunk, up to {_power(chunks):,} tokens{where}"
    return f"step of decodes, up to {_power(len(batch)):,} {requests}{where}"


def format_us(us: float) -> str:
    """Write microseconds, from 1,000 on as milliseconds."""
    return f"{us / 1e3:,.3f} ms" if us >= 1e3 else f"{us:.1f} us"


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def errors_by_class(
    names: Sequence[str], predicted_ns: Floats, measured_ns: Floats
) -> tuple[list[ClassErrors], ClassErrors]:
    """Compare predicted operations with what was measured.

    Args:
        names: each operation's class.
        predicted_ns: float64[n].
        measured_ns: float64[repeats, n].

    Returns:
        The classes, those that take the most time first; and all operations as one.
    """
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows_of.setdefault(name, []).append(row)
    totals = {name: float(predicted_ns[rows].sum()) for name, rows in rows_of.items()}
    order = sorted(rows_of, key=lambda name: (-totals[name], name))
    classes = [_errors(name, predicted_ns[rows_of[name]], measured_ns[:, rows_of[name]])
               for name in order]  # fmt: skip
    return classes, _errors("all", predicted_ns, measured_ns)


def _errors(name: str, predicted: Floats, repeats: Floats) -> ClassErrors:
    """Compare n operations with their repeats, float64[repeats, n], in ns."""
    measured = np.median(repeats, axis=0)
    unknown = np.where(predicted > 0, np.inf, 0.0)  # of what took no time at all
    errors = np.divide(predicted - measured, measured, out=unknown, where=measured > 0)
    by_size = errors[np.argsort(np.abs(errors), kind="stable")]
    spread = None
    if len(repeats) > 1:
        ranges = repeats.max(axis=0) - repeats.min(axis=0)
        known = measured > 0
        spread = float(np.median(ranges[known] / measured[known])) if known.any() else 0.0
    return ClassErrors(
        name=name,
        operations=len(predicted),
        predicted_us=float(np.median(predicted)) / 1e3,
        measured_us=float(np.median(measured)) / 1e3,
        spread=spread,
        median=float(np.median(errors)),
        p95=float(by_size[-(-95 * len(by_size) // 100) - 1]),
        worst=float(by_size[-1]),
    )
