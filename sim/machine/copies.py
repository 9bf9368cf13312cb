"""What copies cost, many or few, by copy engines or by kernels: a table by route."""

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bandwidth, Bytes, DurationNs

MemoryKind = Literal["hbm", "peer", "lpddr", "host", "cxl", "nvme"]
CopyWay = Literal["engine", "kernel"]


class Pieces(BaseModel):
    """What each piece takes, of so many of a size copied one by one. No run reads it yet."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    size: Annotated[Bytes, Field(ge=1)]
    """Of a piece."""
    count: Annotated[int, Field(ge=1, le=10**6)]
    """How many."""
    each: DurationNs
    """Beside its bytes at the row's bandwidth."""


class CopyRow(BaseModel):
    """Copies of pages on one route: n of them, of b bytes, take first + n · (each + b / bandwidth).

    One GPU's, which nothing else slows. No run reads `bandwidth`, `first`, `each` and `pieces` yet:
    the engine's transfers go by the bandwidths and latencies of links. They are for replay on a GPU
    and the cases it is judged by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    origin: MemoryKind
    """Kind of the tier that is read."""
    target: MemoryKind
    """Kind of the tier that is written; may be the same."""
    way: CopyWay
    """By a copy engine, a call each, or by one kernel for all."""
    bandwidth: Bandwidth
    """Of each piece, once it flows."""
    first: DurationNs
    """Once for all of them."""
    each: DurationNs
    """And for each of them, beside its bytes."""
    pieces: tuple[Pieces, ...] = ()
    """The same by size and number, where that was measured: between two sizes on a line over their
    logarithms, and between two numbers of each; beyond the ends as there. Many pieces of 48 to 150
    KiB take longer than fewer or other ones."""
    weight: float = Field(1.0, ge=1e-3, le=1e3)
    """Share that a copy takes of a busy memory or link, one on other routes counting as 1."""
    hbm_cost: float = Field(1.0, ge=1, le=100)
    """How many times its share of a busy HBM a byte takes: small writes between reads cost it more
    than their bytes."""
    beside_step: float = Field(1.0, ge=1, le=100)
    """How many times as long pages take beside steps that keep HBM busy as alone. A replay's copies
    start with a step and go on beside it and the next ones. No run reads it yet."""
    source: Literal["datasheet", "measurement", "assumption"]
    """Where the row's figures are from."""
    note: Annotated[Text, Field(min_length=1)]
    """A measurement's date, device and driver; the reason of an assumption."""

    @model_validator(mode="after")
    def _check_pieces(self) -> Self:
        found = [(piece.size, piece.count) for piece in self.pieces]
        if found != sorted(set(found)):
            raise ValueError("pieces must rise by size, then by count: write each once, in order")
        return self

    def each_ns(self, size_bytes: int, count: int) -> float:
        """What each of so many pieces takes beside its bytes, nanoseconds."""
        if not self.pieces:
            return float(self.each)
        by_size: dict[int, list[Pieces]] = {}
        for piece in self.pieces:
            by_size.setdefault(piece.size, []).append(piece)
        times = [
            np.interp(
                math.log2(max(count, 1)), [math.log2(piece.count) for piece in some],
                [piece.each for piece in some],
            )
            for some in by_size.values()
        ]  # fmt: skip
        sizes = [math.log2(size) for size in by_size]
        return float(np.interp(math.log2(max(size_bytes, 1)), sizes, times))


def find_copy_row(rows: tuple[CopyRow, ...], origin: str, target: str, way: str) -> CopyRow | None:
    """Find the row of a route and a way; None where there is none."""
    return next((row for row in rows if (row.origin, row.target, row.way) == (origin, target, way)),
                None)  # fmt: skip
