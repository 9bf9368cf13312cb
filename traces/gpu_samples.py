"""Samples of micro-benchmarks on a GPU: what a file of kind `gpu_samples` holds, point by point.

Whoever measures writes them, whoever fits a machine to them reads them: either may be elsewhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from vsim.traces.arrow_io import Provenance, metadata_of, read_table, write_table
from vsim.traces.faults import refuse
from vsim.traces.schema import schema_of
from vsim.traces.writing import FreshFile, Name

KIND: Final = "gpu_samples"


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure.

    Args:
        probe: one of `schema.PROBES`.
        variant: of what: a place, a direction, a call.
        sizes: names and whole numbers, sorted by name; `point` makes them from keywords.
    """

    probe: str
    variant: str
    sizes: tuple[tuple[str, int], ...]

    def __getitem__(self, name: str) -> int:
        """One of its sizes. Raises KeyError where it has none of this name."""
        return dict(self.sizes)[name]

    def get(self, name: str, default: int = 0) -> int:
        """One of its sizes, or another number where it has none of this name."""
        return dict(self.sizes).get(name, default)

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={value:,}" for name, value in self.sizes)
        return f"{self.probe} {self.variant} {sizes}".strip()


def point(probe: str, variant: str, **sizes: int) -> Point:
    """Make a point of keywords."""
    return Point(probe, variant, tuple(sorted(sizes.items())))


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was measured at a point.

    Args:
        point: which.
        bytes: what one of it moves at least; 0 where it moves none.
        samples: as they came, one or more, of 24 bits each: events on a GPU tell no more, and files
            of them are small.
        unit: of the samples.
    """

    point: Point
    bytes: int
    samples: tuple[float, ...]
    unit: str = "us"

    def __post_init__(self) -> None:
        kept = np.array(self.samples, np.float32).tolist()
        object.__setattr__(self, "samples", tuple(kept))

    @property
    def median(self) -> float:
        """The figure."""
        return median(self.samples)

    @property
    def spread(self) -> float:
        """The most less the least, as a share of the median."""
        return (max(self.samples) - min(self.samples)) / self.median if self.median > 0 else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Bytes over the median."""
        return self.bytes / self.median * 1e6


@dataclass(frozen=True, slots=True)
class GpuSamples:
    """All that was measured on one machine.

    Args:
        facts: what the machine says of itself: date, driver, cuda, gpus, peers.
        rows: by point, in the order measured.
        left_out: points that were not measured, and why.
        file: the name that faults give.
    """

    facts: Mapping[str, Any]
    rows: tuple[Sampled, ...]
    left_out: tuple[str, ...] = ()
    file: str = "samples"

    def of(self, probe: str, variant: str | None = None) -> Sequence[Sampled]:
        """Those of one probe, and of one variant of it where that is named."""
        return [
            row
            for row in self.rows
            if row.point.probe == probe and variant in (None, row.point.variant)
        ]

    def at(self, wanted: Point) -> Sampled | None:
        """What was measured at a point; None where nothing was."""
        return next((row for row in self.rows if row.point == wanted), None)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file. Raises InputError for each thing wrong."""
        file = str(path)
        table = read_table(file, KIND)
        metadata = metadata_of(table)
        facts, left_out = (_json(file, metadata, name) for name in ("facts", "left_out"))
        if not isinstance(facts, dict) or not isinstance(left_out, list):
            refuse(file, "is not what `vsim calibrate` wrote; measure again", place="vsim.facts")
        rows = tuple(
            Sampled(
                Point(row["probe"], row["variant"], tuple(json.loads(row["sizes"]).items())),
                row["bytes"],
                tuple(row["samples"]),
                row["unit"],
            )
            for row in table.to_pylist()
        )
        return cls(facts, rows, tuple(map(str, left_out)), file)

    def write(self, path: Name | FreshFile, source: str) -> None:
        """Write a file; the same samples give the same bytes. Raises InputError."""
        extra = {"facts": _text(self.facts), "left_out": _text(list(self.left_out))}
        names = ", ".join(sorted({str(gpu["name"]) for gpu in self.facts.get("gpus", ())}))
        provenance = Provenance(source, machine=names or "unknown", extra=extra)
        write_table(arrow_rows(self.rows), path, KIND, provenance, zstd_level=19)


def arrow_rows(rows: Iterable[Sampled]) -> pa.Table:
    """Make the Arrow table of samples."""
    columns: dict[str, list[Any]] = {name: [] for name in schema_of(KIND).names}
    for row in rows:
        columns["probe"].append(row.point.probe)
        columns["variant"].append(row.point.variant)
        columns["sizes"].append(_text(dict(row.point.sizes)))
        columns["bytes"].append(row.bytes)
        columns["unit"].append(row.unit)
        columns["samples"].append(list(row.samples))
    return pa.table(columns, schema=schema_of(KIND))


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _json(file: str, metadata: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError):
        refuse(file, "is missing or no JSON; measure again", place=f"vsim.{name}")
