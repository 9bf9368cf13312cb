"""WeightFormat: the precision of a checkpoint's weights, part by part."""

from typing import Annotated, TypeAlias

from pydantic import Field

from vsim.sim.machine.precision import Precision
from vsim.sim.model.parts.matrix import Role
from vsim.sim.model.parts.part import Part

# Bits of a weight in a linear layer. int4: groups of 128 weights share a 16-bit scale and a 4-bit
# zero point (AWQ, arXiv 2306.00978; GPTQ, arXiv 2210.17323). mxfp4: groups of 32 share an 8-bit
# exponent (OCP Microscaling, v1.0). nvfp4: groups of 16 share an 8-bit scale. Scales of fp8 and
# int8 (one a row or a tile of 128 x 128) are under 0.1 % and left out, as is nvfp4's a tensor.
_WEIGHT_BITS: dict[Precision, float] = {
    "bf16": 16.0, "fp8": 8.0, "fp8_scaled": 8.0, "int8": 8.0, "int4": 4 + (16 + 4) / 128,
    "mxfp4": 4 + 8 / 32, "nvfp4": 4 + 8 / 16,
}  # fmt: skip
_UNTOUCHED: tuple[Role, ...] = ("router", "other")


class Stored(Part):
    """How weights are stored."""

    precision: Precision
    """Of the numbers."""
    bits: Annotated[float, Field(gt=0, le=64)] | None = None
    """Bits of a weight, scales and zero points included; left out: as is usual for it."""

    @property
    def weight_bits(self) -> float:
        """Bits of a weight."""
        return _WEIGHT_BITS[self.precision] if self.bits is None else self.bits


class WeightFormat(Part):
    """Precisions of a checkpoint; norms, biases and routers are bf16 in every one."""

    usual: Stored
    """Of all products that are not named below."""
    attention: Stored | None = None
    """Of attention."""
    linear: Stored | None = None
    """Of linear attention and state-space layers."""
    dense: Stored | None = None
    """Of ordinary FFNs."""
    shared: Stored | None = None
    """Of experts that every token meets."""
    experts: Stored | None = None
    """Of routed experts."""
    head: Stored | None = None
    """Of an LM head of its own; left out: bf16."""

    def of(self, role: Role) -> Stored:
        """How the weights of a role are stored."""
        if role in _UNTOUCHED:
            return _BF16
        found: Stored | None = getattr(self, role)
        return found or self.usual


class Declared(Part):
    """What a checkpoint says of its own precisions."""

    weights: WeightFormat | None = None
    """Of its weights; left out: it says nothing, and they are bf16."""
    kv: Precision | None = None
    """Of the KV cache it was made for; left out: it says nothing."""


_BF16 = Stored(precision="bf16")
Weights: TypeAlias = Precision | WeightFormat
"""A precision for all products, or one for each part."""


def stored(weights: Weights, role: Role) -> Stored:
    """How a role's weights are stored."""
    if isinstance(weights, WeightFormat):
        return weights.of(role)
    return _BF16 if role in _UNTOUCHED else Stored(precision=weights)


def head_bits(weights: Weights) -> float:
    """Bits of a weight of an LM head of its own."""
    if isinstance(weights, WeightFormat) and weights.head is not None:
        return weights.head.weight_bits
    return _BF16.weight_bits
