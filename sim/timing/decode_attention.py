"""Attention of requests that decode: one query token each, over its whole context or a window.

Bound: keys and values of min(context, window) tokens, queries and outputs of 2 bytes over the
bandwidth; 4 · heads · head_dim FLOPs a token of context over the bf16 rate (of latents, fewer: see
`attention_terms`). Shapes, and which are
near, are those of `head_shapes`, with gaps of their own (`decode_places`); the axes are requests
and context. Every request of a measured batch has the same context; a batch is looked up by its
mean.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.head_shapes import NEAREST_HEADS, HeadShape, attention_curves, head_places
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks, weight_bytes


def decode_attention_bound(
    peaks: Peaks,
    kv_precision: str,
    batch: ArrayLike,
    context_tokens_mean: ArrayLike,
    shape: HeadShape,
) -> Bound:
    """What the attention of one layer takes at least.

    Args:
        peaks: the GPU's.
        kv_precision: of the KV cache.
        batch: requests.
        context_tokens_mean: tokens that each attends to, on average, before any window.
        shape: its heads on this GPU.
    """
    requests = np.asarray(batch, dtype=np.float64)
    context = np.asarray(context_tokens_mean, dtype=np.float64)
    if shape.window:
        context = np.minimum(context, shape.window)
    kv = context * (shape.cached_numbers * weight_bytes(kv_precision))
    moved = requests * (kv + 2 * shape.heads * shape.head_dim * ACTIVATION_BYTES)
    flops = requests * context * shape.pair_flops
    return peaks.bound(moved, flops, "bf16")


def decode_attention_surface(
    tables: KernelTables, peaks: Peaks, kv_precision: str, shape: HeadShape
) -> Surface:
    """The efficiency of a head shape over requests and context. Arguments as in the bound."""
    curves = attention_curves(tables, "decode_attention", kv_precision, shape.window)
    own = curves.precision

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        return decode_attention_bound(peaks, own, first, second, HeadShape(*measured.tolist())).ns

    wanted = decode_places(shape.in_curves(curves))[0]
    return surface(curves, decode_places(curves.shapes), wanted, bound_ns, NEAREST_HEADS)


def decode_attention_ns(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    batch: ArrayLike,
    context_tokens_mean: ArrayLike,
    shape: HeadShape,
    known: Surface | None = None,
) -> Floats:
    """Time of one layer's attention, nanoseconds; 0 for no requests.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        kv_precision: of the KV cache.
        batch: requests.
        context_tokens_mean: tokens that each attends to, on average, before any window.
        shape: its heads on this GPU.
        known: its `decode_attention_surface`, where that was made before.
    """
    if known is None:
        known = decode_attention_surface(tables, peaks, kv_precision, shape)
    requests, context = np.broadcast_arrays(
        np.asarray(batch, dtype=np.float64), np.asarray(context_tokens_mean, dtype=np.float64)
    )
    bound = decode_attention_bound(peaks, kv_precision, requests, context, shape).ns
    if shape.window and known.variant != "window":
        context = np.minimum(context, shape.window)
    time = known.time_ns(
        bound.ravel(), np.maximum(requests.ravel(), 1.0), np.maximum(context.ravel(), 1.0)
    )
    return np.where(requests > 0, time.reshape(requests.shape), 0.0)


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
