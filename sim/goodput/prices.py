"""Prices: what GPUs and memories cost, each with its source, on a day that the file names."""

from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.words import Text, Word
from vsim.sim.inputs.yaml_input import load_yaml, parse_yaml
from vsim.sim.machine.machine import Machine
from vsim.traces.faults import Fault, InputError

DEFAULT: Final = "prices.yaml"
HOURS_PER_MONTH: Final = 730.0
"""A year's hours over twelve."""
_GB: Final = 1e9
_NOT_BOUGHT: Final = ("hbm", "peer")

MemoryKind = Literal["lpddr", "host", "cxl", "nvme", "network"]


class _Part(BaseModel):
    """A part of a price file: no unknown keys, no changes after it was built, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Sourced(_Part):
    source: Annotated[Text, Field(min_length=1)]
    """Where the price is from: a public page and its day, or `assumption` and why."""


class GpuPrice(_Sourced):
    """What a GPU costs, with the server around it, but without memory for KV."""

    name: Word
    """The GPU's name in the machine file."""
    usd_per_hour: float = Field(gt=0, le=1e6)
    """Dollars an hour, of one GPU."""


class MemoryPrice(_Sourced):
    """What a memory costs that holds KV."""

    kind: MemoryKind
    """The kind of tier."""
    usd_per_gb_month: float = Field(ge=0, le=1e6)
    """Dollars a month for 10^9 bytes; of bought memory, its price over the months it serves."""
    drive_writes_per_day: float | None = Field(default=None, gt=0, le=1e4)
    """How often a day it may be written from end to end; left out where it does not wear."""


def _day(value: object) -> object:
    """Read a day as it is written, since a file is otherwise read strictly."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value[:40]!r} is no day; write it like 2026-05-31") from None
    return value


class Prices(_Part):
    """A dated list of prices."""

    date: Annotated[date, BeforeValidator(_day)]
    """The day that they were looked up."""
    note: Text = ""
    """What holds for all of them."""
    gpus: tuple[GpuPrice, ...] = Field(min_length=1, max_length=1000)
    """GPUs by name."""
    memories: tuple[MemoryPrice, ...] = Field(default=(), max_length=16)
    """Memories by kind of tier. HBM is in the GPU's price, a peer tier is a further GPU."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        found: list[tuple[Place, str]] = []
        gpus: list[str] = [each.name for each in self.gpus]
        kinds: list[str] = [each.kind for each in self.memories]
        for field, key, names in (("gpus", "name", gpus), ("memories", "kind", kinds)):
            found += [
                ((field, at, key), f"'{name}' has a price already; keep one of them")
                for at, name in enumerate(names)
                if names.index(name) != at
            ]
        if found:
            raise FieldsError(found)
        return self

    def gpu(self, name: str) -> GpuPrice | None:
        """The price of a GPU by its name in the machine file."""
        return next((each for each in self.gpus if each.name == name), None)

    def memory(self, kind: str) -> MemoryPrice | None:
        """The price of a kind of memory."""
        return next((each for each in self.memories if each.kind == kind), None)


def load_prices(path: str | None) -> tuple[Prices, str]:
    """Read a price file, or the one that comes along; return it with the name that faults give.

    Raises:
        InputError: with every fault of the file.
    """
    if path is not None:
        return load_yaml(Path(path), Prices), path
    text = files("vsim.sim.goodput").joinpath(DEFAULT).read_text(encoding="utf-8")
    return parse_yaml(text, DEFAULT, Prices), DEFAULT


def check_prices(prices: Prices, file: str, machine: Machine, tiers: tuple[str, ...]) -> None:
    """Refuse prices that lack a GPU or a tier of a run.

    Args:
        prices: the prices.
        file: the name that faults give.
        machine: what runs.
        tiers: names of its tiers in use.

    Raises:
        InputError: with each price that is missing.
    """
    faults = []
    where = "add it" if file != DEFAULT else "write a price file with it, and name it with --prices"
    if prices.gpu(machine.gpu.name) is None:
        message = f"has no price of '{machine.gpu.name}'; {where}"
        faults.append(
            Fault(file, f"{message}, as {{name: …, usd_per_hour: 3, source: …}}", place="gpus")
        )
    kinds = dict.fromkeys(machine.tier(name).kind for name in tiers)
    for kind in kinds:
        if kind not in _NOT_BOUGHT and prices.memory(kind) is None:
            message = f"has no price of {kind}; {where}"
            shape = f"{{kind: {kind}, usd_per_gb_month: 0.3, source: …}}"
            faults.append(Fault(file, f"{message}, as {shape}", place="memories"))
    if faults:
        raise InputError(faults)


def usd_per_byte_s(price: MemoryPrice) -> float:
    """What one byte costs a second."""
    return price.usd_per_gb_month / (_GB * HOURS_PER_MONTH * 3600)
