"""`HeadShape`: heads of attention on one GPU, and which measured ones are near.

Measured shapes are (heads, KV heads, head_dim, window). Distances are taken between (log2 of heads
a KV head, 2·log2 of KV heads, 8·log2 of head_dim, log2 of the window), and the two nearest count:
stacks call another kernel for another head size, and the size of the KV tells more than how many
queries share it.

A window is looked up among windowed shapes where one within a factor of 4 was measured, else as a
context of that length.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsim.sim.machine.kernel_tables import Curves, KernelTables
from vsim.sim.timing.roofline import Floats

KV_STAND_INS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",),
    "fp8": ("fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "int4": ("int4", "fp8", "bf16"),
    "fp8_scaled": ("fp8", "bf16"),
    "mxfp4": ("int4", "fp8", "bf16"),
    "nvfp4": ("int4", "fp8", "bf16"),
}
"""Whose efficiency KV of each precision takes, in order."""

NEAREST_HEADS = 2
"""Head shapes that one is predicted from."""
_WINDOWS_APART = 2.0  # octaves between a window and a measured one that may stand in


class HeadShape(NamedTuple):
    """Heads of one layer's attention on one GPU.

    Args:
        heads: query heads.
        kv_heads: KV heads.
        head_dim: numbers of one head.
        window: how far back it sees, tokens; 0 for all.
        cached: numbers that one token keeps for a KV head; 0: a key and a value of head_dim.
        multiplied: multiply-adds of a head for a query and a key; 0: 2 · head_dim.
        value: numbers of a value where heads attend to latents, or keys made of them; 0 elsewhere.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0
    cached: int = 0
    multiplied: int = 0
    value: int = 0

    @property
    def latent(self) -> bool:
        """Whether its kernels are those of attention over latents."""
        return self.value > 0

    @property
    def cached_numbers(self) -> int:
        """Numbers that one token keeps for all KV heads."""
        return self.kv_heads * (self.cached or 2 * self.head_dim)

    @property
    def pair_flops(self) -> float:
        """FLOPs of all heads for one query token and one key token."""
        return 2.0 * self.heads * (self.multiplied or 2 * self.head_dim)

    def in_curves(self, curves: Curves) -> NDArray[np.int64]:
        """The shape as it is looked up, int64[1, 4]: no window among shapes that have none."""
        window = self.window if curves.variant == "window" else 0
        return np.array([[self.heads, self.kv_heads, self.head_dim, window]], dtype=np.int64)


def attention_curves(tables: KernelTables, kernel: str, kv_precision: str, window: int) -> Curves:
    """Windowed curves for a window near a measured one; others for none, and where there is none.

    A kernel's efficiency over a window of 128 says nothing of one over 8,192.
    """
    full = tables.find(kernel, KV_STAND_INS[kv_precision], ("full", "window"))
    if not window:
        return full
    windowed = tables.find(kernel, KV_STAND_INS[kv_precision], ("window", "full"))
    apart = np.abs(np.log2(np.maximum(windowed.shapes[:, 3], 1)) - np.log2(window))
    return windowed if apart.min() <= _WINDOWS_APART else full


def head_places(shapes: NDArray[np.int64]) -> Floats:
    """Where head shapes [S, 4] lie, float64[S, 4]; a window of 0 lies at 0."""
    heads, kv_heads, head_dim, window = shapes.T.astype(np.float64)
    return np.stack(
        [
            np.log2(heads / kv_heads),
            2 * np.log2(kv_heads),
            8 * np.log2(head_dim),
            np.log2(np.maximum(window, 1.0)),
        ],
        axis=1,
    )
