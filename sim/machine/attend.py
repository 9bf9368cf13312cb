"""Attend: what attention takes over several tiers at once."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vsim.sim.inputs.model_faults import FieldsError, Place
from vsim.sim.inputs.yaml_input import Bandwidth
from vsim.sim.machine.quantity import Part, Quantity
from vsim.sim.machine.tier import TierKind


class InPlace(Part):
    """Attention that reads a kind of tier where it is, beside HBM and others."""

    kind: Literal["peer", "lpddr", "host", "cxl", "nvme", "network"]
    """Of the tier."""
    read: Quantity[Bandwidth] | None = None
    """What one GPU's attention reads there, if it reads nothing else: links may give copies less,
    or more. Left out: what the memory and the links to it give."""
    waits: Quantity[Annotated[float, Field(ge=0, le=1)]]
    """Share of the time of all other parts by which this part of an attend gets longer."""
    hbm_waits: Quantity[Annotated[float, Field(ge=0, le=1)]]
    """Share of the time of this part by which HBM's gets longer."""


class Attend(Part):
    """How an attend over several tiers adds up (p-norm), and its weight against copies."""

    exponent: Quantity[Annotated[float, Field(ge=1, le=1000)] | None]
    """p of T = (Σ (bytes/bandwidth)^p)^(1/p); null for p → ∞, the slowest tier alone."""
    in_place: tuple[InPlace, ...] = Field(default=(), max_length=7)
    """How fast parts are read, and how much longer they get beside others; left out: not at all."""
    beside_prefill: Quantity[Annotated[float, Field(ge=1, le=10)]] | None = None
    """How many times as long the attention of decodes takes in a step that also computes parts of
    prompts; left out: as long."""
    copy_weight: Quantity[Annotated[float, Field(ge=1e-3, le=1e3)]]
    """Share that an attend's flow takes of a busy link or memory, a copy counting as 1."""
    hbm_weight: Quantity[Annotated[float, Field(ge=1e-3, le=1e3)]] | None = None
    """The same of its flow from HBM, which has far more requests under way than any copy; left out:
    as `copy_weight`."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        kinds = [each.kind for each in self.in_place]
        faults: list[tuple[Place, str]] = [
            (("in_place", index, "kind"), f"'{kind}' has a row already; keep one of them")
            for index, kind in enumerate(kinds)
            if kinds.index(kind) != index
        ]
        if faults:
            raise FieldsError(faults)
        return self

    def beside(self, kind: TierKind) -> InPlace | None:
        """How a kind of tier is read beside others; None where nothing is known of it."""
        return next((each for each in self.in_place if each.kind == kind), None)
