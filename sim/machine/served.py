"""Served: what kernels take within a server's steps where tables, which time them alone, are off.

A table's kernel runs again and again on the same inputs, which the cache then holds in part; in a
step each layer reads its own.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text
from vsim.sim.inputs.yaml_input import DurationNs
from vsim.sim.machine.quantity import Part, Quantity, Source

Count = Annotated[int, Field(ge=1, le=1 << 30)]


class ServedAttention(Part):
    """The least that decode attention of heads of one width over bf16 keys and values takes.

    A floor by its tiles, one for each request and KV head, and the reading of its keys and values
    from memory. Between two counts the floor is a straight line, beyond the last it stays.
    """

    head_dim: Annotated[int, Field(ge=1, le=4096)]
    """Width of the heads."""
    tiles: tuple[Count, ...] = Field(min_length=1, max_length=64)
    """Requests times KV heads."""
    floor: tuple[DurationNs, ...] = Field(min_length=1, max_length=64)
    """What so many take without any context."""
    hbm_efficiency: Annotated[float, Field(ge=0.001, le=1)]
    """Share of HBM's bandwidth that they are read at."""
    source: Source
    """Where the numbers are from."""
    note: Annotated[Text, Field(min_length=1)]
    """A measurement's date, device and driver; the reason of an assumption."""

    @model_validator(mode="after")
    def _one_floor_each(self) -> Self:
        faults: list[tuple[Place, str]] = []
        if list(self.tiles) != sorted(set(self.tiles)):
            message = "goes down or holds a number twice; write it from small to large"
            faults.append((("tiles",), message))
        if len(self.floor) != len(self.tiles):
            message = f"has {len(self.floor)} values beside {len(self.tiles)} tiles; write one each"
            faults.append((("floor",), message))
        if faults:
            raise FieldsError(faults)
        return self


class ServedExperts(Part):
    """A layer's experts of few tokens, which a stack computes without sorting tokens by expert.

    It does so where tokens times the experts that each goes to, times `spread`, are no more than
    the layer's experts, and no experts are dealt to GPUs. Its tables have the sorting.
    """

    spread: Annotated[int, Field(ge=1, le=1 << 20)]
    """How many experts there have to be for each choice of one."""
    saves: DurationNs
    """By how much less than in the tables they then take."""
    source: Source
    """Where the numbers are from."""
    note: Annotated[Text, Field(min_length=1)]
    """A measurement's date, device and driver; the reason of an assumption."""


class Served(Part):
    """What a stack's kernels take within steps where its tables are off."""

    decode_attention: tuple[ServedAttention, ...] = Field(default=(), max_length=16)
    """By width of the heads; other widths take what the tables say."""
    experts: ServedExperts | None = None
    """Left out: what the tables say."""
    slowdown: Quantity[Annotated[float, Field(ge=0.8, le=2)]] | None = None
    """How many times as long this machine's kernels take as those of the GPU that was timed, since
    equal cards differ by some percent; left out: as long. Not of exchanges between GPUs."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        widths = [each.head_dim for each in self.decode_attention]
        faults: list[tuple[Place, str]] = [
            (("decode_attention", index, "head_dim"), f"{width} has a row already; keep one")
            for index, width in enumerate(widths)
            if widths.index(width) != index
        ]
        if faults:
            raise FieldsError(faults)
        return self

    def attention_of(self, head_dim: int) -> ServedAttention | None:
        """The row of a width; None where the tables hold."""
        return next((each for each in self.decode_attention if each.head_dim == head_dim), None)
