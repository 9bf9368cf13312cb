"""What copies cost, many or few, by copy engines or by kernels: a table by route."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import Bandwidth, DurationNs

MemoryKind = Literal["hbm", "peer", "lpddr", "host", "cxl"]
CopyWay = Literal["engine", "kernel"]


class CopyRow(BaseModel):
    """Copies of pages on one route: n of them, of b bytes, take first + n · (each + b / bandwidth).

    One GPU's, which nothing else slows. No run reads `bandwidth`, `first` and `each` yet: the
    engine's transfers go by the bandwidths and latencies of links. They are for replay on a GPU and
    the cases it is judged by.
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
    weight: float = Field(1.0, ge=1e-3, le=1e3)
    """Share that a copy takes of a busy memory or link, one on other routes counting as 1."""
    hbm_cost: float = Field(1.0, ge=1, le=100)
    """How many times its share of a busy HBM a byte takes: small writes between reads cost it more
    than their bytes."""
    source: Literal["datasheet", "measurement", "assumption"]
    """Where the row's figures are from."""
    note: Annotated[Text, Field(min_length=1)]
    """A measurement's date, device and driver; the reason of an assumption."""


def find_copy_row(rows: tuple[CopyRow, ...], origin: str, target: str, way: str) -> CopyRow | None:
    """Find the row of a route and a way; None where there is none."""
    return next((row for row in rows if (row.origin, row.target, row.way) == (origin, target, way)),
                None)  # fmt: skip
