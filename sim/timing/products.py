"""Matrix products: activations of m tokens by a weight matrix of k inputs and n outputs.

Bound: m·k inputs, n·k weights and m·n outputs of 2 bytes over the bandwidth; 2·m·n·k FLOPs over the
rate of the weights' precision. Measured shapes are (n, k), the axis is m; distances are taken
between (log2 n, log2 k), and the four nearest count.

Times are not monotone in m, and are not smoothed: fp8 kernels of CUTLASS take up to twice as long
with 257 rows as with 512, since a tile that is not full costs more than a full one.

A precision without curves takes another one's efficiency on its own bound, in this order:
fp8 and fp8_block each other's, then bf16's; int8 fp8's, then bf16's; int4, mxfp4 and nvfp4 bf16's,
since they are unpacked to it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.roofline import (
    ACTIVATION_BYTES,
    Bound,
    Floats,
    Peaks,
    input_bytes,
    weight_bytes,
)

STAND_INS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",),
    "fp8": ("fp8", "fp8_block", "bf16"),
    "fp8_block": ("fp8_block", "fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "int4": ("int4", "bf16"),
    "mxfp4": ("mxfp4", "int4", "bf16"),
    "nvfp4": ("nvfp4", "mxfp4", "int4", "bf16"),
    "fp8_scaled": ("fp8", "fp8_block", "bf16"),
}
"""Whose efficiency each precision takes, in order."""


def product_bound(peaks: Peaks, precision: str, m: ArrayLike, n: int, k: int) -> Bound:
    """What a product takes at least.

    Args:
        peaks: the GPU's.
        precision: of the weights.
        m: tokens.
        n: outputs, on this GPU.
        k: inputs, on this GPU.
    """
    tokens = np.asarray(m, dtype=np.float64)
    moved = (
        tokens * k * input_bytes(precision)
        + np.where(tokens > 0, n * k * weight_bytes(precision), 0.0)
        + tokens * n * ACTIVATION_BYTES
    )
    return peaks.bound(moved, 2.0 * tokens * n * k, precision)


def product_surface(tables: KernelTables, peaks: Peaks, precision: str, n: int, k: int) -> Surface:
    """The efficiency of a product's shape over m. Arguments as in `product_bound`."""
    curves = tables.find("products", STAND_INS[precision], ("",))
    own = curves.precision

    def bound_ns(shape: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        return product_bound(peaks, own, first, int(shape[0]), int(shape[1])).ns

    return surface(curves, np.log2(curves.shapes), np.log2([n, k]), bound_ns, nearest=4)


def product_ns(
    tables: KernelTables,
    peaks: Peaks,
    precision: str,
    m: ArrayLike,
    n: int,
    k: int,
    known: Surface | None = None,
) -> Floats:
    """Time of a product, nanoseconds; 0 for no tokens.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        precision: of the weights.
        m: tokens.
        n: outputs, on this GPU.
        k: inputs, on this GPU.
        known: its `product_surface`, where that was made before.
    """
    if known is None:
        known = product_surface(tables, peaks, precision, n, k)
    tokens = np.atleast_1d(np.asarray(m, dtype=np.float64))
    bound = product_bound(peaks, precision, tokens, n, k).ns
    time = known.time_ns(bound, np.maximum(tokens, 1.0))
    return np.where(tokens > 0, time, 0.0).reshape(np.shape(m))
