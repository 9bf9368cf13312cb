"""What no kernel can beat: bytes over the memory's bandwidth, FLOPs over the arithmetic's rate."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.machine import Machine

Floats = NDArray[np.float64]
KernelPrecision = Literal["bf16", "fp8", "fp8_block", "int8", "int4", "mxfp4"]
"""Formats of weights and KV that kernels are timed in; `fp8_block` has a scale every 128 x 128."""

ACTIVATION_BYTES = 2
"""Queries, and what every kernel writes, are bf16."""
_WEIGHT_BYTES: dict[str, float] = {
    "bf16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4 / 128**2,  # a scale of 4 bytes a block
    "int8": 1.0,
    "int4": 0.5 + 2 / 128,  # a scale of 2 bytes every 128 weights
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
    "fp8_scaled": 656 / 576,  # latents of DeepSeek-V3.2: four scales, and 64 rotary numbers in bf16
}
_INPUT_BYTES: dict[str, float] = {
    "bf16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4 / 128,
    "int8": 1.0,
    "int4": 2.0,  # of the weights alone: they are unpacked to bf16
    "mxfp4": 2.0,
    "nvfp4": 2.0,
    "fp8_scaled": 1.0,
}


@dataclass(frozen=True, slots=True)
class Bound:
    """The two times that a kernel takes at least, nanoseconds; it takes the larger one at least.

    Args:
        bytes_ns: its bytes at the memory's peak bandwidth.
        flops_ns: its FLOPs at the peak rate of its precision.
    """

    bytes_ns: Floats
    flops_ns: Floats

    @property
    def ns(self) -> Floats:
        """The larger of the two."""
        return np.maximum(self.bytes_ns, self.flops_ns)


@dataclass(frozen=True, slots=True)
class Peaks:
    """One GPU's peaks.

    Args:
        bytes_per_s: of its memory.
        bf16_flops_per_s: of bf16 products.
        fp8_flops_per_s: of fp8 products; as bf16 where the GPU has none.
        int8_flops_per_s: of int8 products; as bf16 where the GPU has none.
        fp4_flops_per_s: of nvfp4 products; 0 where the GPU has none, and they run as bf16.
    """

    bytes_per_s: float
    bf16_flops_per_s: float
    fp8_flops_per_s: float
    int8_flops_per_s: float
    fp4_flops_per_s: float = 0.0

    @classmethod
    def of(cls, machine: Machine) -> Self:
        """One GPU of a machine, by its file's rates and its HBM's read bandwidth."""
        rates = machine.gpu.flops
        return cls(
            machine.hbm.read.value,
            rates.bf16.value,
            rates.for_weights("fp8").value,
            rates.for_weights("int8").value,
            0.0 if rates.fp4 is None else rates.fp4.value,
        )

    def flops_per_s(self, precision: str) -> float:
        """The rate of products with such weights; other ones of 4 bits are unpacked to bf16."""
        if precision == "nvfp4" and self.fp4_flops_per_s:
            return self.fp4_flops_per_s
        if precision in ("fp8", "fp8_block", "fp8_scaled"):
            return self.fp8_flops_per_s
        return self.int8_flops_per_s if precision == "int8" else self.bf16_flops_per_s

    def bound(self, moved_bytes: ArrayLike, flops: ArrayLike, precision: str) -> Bound:
        """The bound of a kernel that moves these bytes and does these operations."""
        return Bound(
            np.asarray(moved_bytes, dtype=np.float64) / self.bytes_per_s * 1e9,
            np.asarray(flops, dtype=np.float64) / self.flops_per_s(precision) * 1e9,
        )


def weight_bytes(precision: str) -> float:
    """Bytes of one weight, or of one number of KV, its share of the scales included."""
    return _WEIGHT_BYTES[precision]


def input_bytes(precision: str) -> float:
    """Bytes of one number that a product takes in beside its weights."""
    return _INPUT_BYTES[precision]
