"""Attention of requests that decode: one query token each, over its whole context or a window.

Bound: keys and values of min(context, window) tokens, queries and outputs of 2 bytes over the
bandwidth; 4 · heads · head_dim FLOPs a token of context over the bf16 rate. Measured shapes are
(heads, KV heads, head_dim, window) of one GPU, the axes are requests and context. Distances are
taken between (log2 of heads a KV head, 2·log2 of KV heads, 8·log2 of head_dim, log2 of the window),
and the two nearest count: stacks call another kernel for another head size, and the size of the KV
tells more than how many queries share it. `decode_places` has the rest.

Every request of a measured batch has the same context; a batch is looked up by its mean. A window
is looked up among windowed shapes where one within a factor of 4 was measured, else as a context of
that length.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import Curves, KernelTables
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks, weight_bytes

KV_STAND_INS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16",),
    "fp8": ("fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "int4": ("int4", "fp8", "bf16"),
}
"""Whose efficiency KV of each precision takes, in order."""

NEAREST_HEADS = 2
"""Head shapes that one is predicted from."""
_WINDOWS_APART = 2.0  # octaves between a window and a measured one that may stand in


def decode_attention_bound(
    peaks: Peaks,
    kv_precision: str,
    batch: ArrayLike,
    context_tokens_mean: ArrayLike,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
) -> Bound:
    """What the attention of one layer takes at least.

    Args:
        peaks: the GPU's.
        kv_precision: of the KV cache.
        batch: requests.
        context_tokens_mean: tokens that each attends to, on average, before any window.
        heads: query heads, on this GPU.
        kv_heads: KV heads, on this GPU.
        head_dim: numbers of one head.
        window: how far back it sees, tokens; 0 for all.
    """
    requests = np.asarray(batch, dtype=np.float64)
    context = np.asarray(context_tokens_mean, dtype=np.float64)
    if window:
        context = np.minimum(context, window)
    kv = context * (2 * kv_heads * head_dim * weight_bytes(kv_precision))
    moved = requests * (kv + 2 * heads * head_dim * ACTIVATION_BYTES)
    return peaks.bound(moved, requests * context * (4.0 * heads * head_dim), "bf16")


def decode_attention_surface(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
) -> Surface:
    """The efficiency of a head shape over requests and context. Arguments as in the bound."""
    curves = attention_curves(tables, "decode_attention", kv_precision, window)
    own = curves.precision

    def bound_ns(shape: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        return decode_attention_bound(peaks, own, first, second, *shape.tolist()).ns

    wanted = np.array([[heads, kv_heads, head_dim, window_like(curves, window)]])
    return surface(
        curves,
        decode_places(curves.shapes),
        decode_places(wanted)[0],
        bound_ns,
        NEAREST_HEADS,
    )


def decode_attention_ns(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    batch: ArrayLike,
    context_tokens_mean: ArrayLike,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
    known: Surface | None = None,
) -> Floats:
    """Time of one layer's attention, nanoseconds; 0 for no requests.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        kv_precision: of the KV cache.
        batch: requests.
        context_tokens_mean: tokens that each attends to, on average, before any window.
        heads: query heads, on this GPU.
        kv_heads: KV heads, on this GPU.
        head_dim: numbers of one head.
        window: how far back it sees, tokens; 0 for all.
        known: its `decode_attention_surface`, where that was made before.
    """
    shape = heads, kv_heads, head_dim, window
    if known is None:
        known = decode_attention_surface(tables, peaks, kv_precision, *shape)
    requests, context = np.broadcast_arrays(
        np.asarray(batch, dtype=np.float64), np.asarray(context_tokens_mean, dtype=np.float64)
    )
    bound = decode_attention_bound(peaks, kv_precision, requests, context, *shape).ns
    if window and known.variant != "window":
        context = np.minimum(context, window)
    time = known.time_ns(
        bound.ravel(), np.maximum(requests.ravel(), 1.0), np.maximum(context.ravel(), 1.0)
    )
    return np.where(requests > 0, time.reshape(requests.shape), 0.0)


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


def decode_places(shapes: NDArray[np.int64]) -> Floats:
    """Where head shapes [S, 4] lie for decode attention, float64[S, 4].

    As `head_places`, with a gap between heads that share no KV head and those that do, and another
    before 64 heads a KV head: FlashAttention 2 and TensorRT-LLM call other kernels there, up to
    five times as fast or slow.
    """
    places = head_places(shapes)
    group = shapes[:, 0] / shapes[:, 1]
    places[:, 0] += 2.0 * (group > 1) + 3.0 * (group >= 64)
    return places


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


def window_like(curves: Curves, window: int) -> int:
    """The window as it is looked up: none among shapes that have none."""
    return window if curves.variant == "window" else 0
