"""Attention of prompts: N new tokens, each over the keys up to itself, P query-key pairs in all.

Bound: 4 · heads · head_dim · P FLOPs over the rate of the KV's precision; queries, outputs and the
keys and values read over the bandwidth. Shapes, and which are near,
are those of `head_shapes`; the axes are prompts and tokens of each, and every measured prompt
starts from nothing, so P = prompts · L (L + 1) / 2.

N and P say which prompts those are: of equal ones from nothing, L = 2 P / N - 1 tokens each, N / L
of them. Where that is less than one whole prompt, the N tokens are a chunk behind a prefix, and are
timed as the last slice of a prompt of L tokens (the same mean keys a query): their share, by pairs,
of what it takes beyond the least prompt's time t0,

    t = t0 + max(flops · (t(1, L) - t0) / flops(1, L), bytes / 0.8)

and no less than as many tokens from nothing; it counts as a tile of 128 query rows at least (heads
that share a KV head fill one together). Held against FlashAttention 2 on an H200 (PyTorch 2.11,
2026-11-26, 32 and 8 heads, 1 and 4 chunks of 256 to 4,096 tokens behind 128 to 65,536): 3 and 8 %
median error, 20 and 34 % at p95; chunks of 16 to 128 tokens, 20 and 13 %. Taking the efficiency of
N tokens from nothing instead errs by 16 and 25 %. Published tables have no chunks behind prefixes;
where a calibration has measured some, they are looked up instead (`prefix_attention`).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import KernelTables
from vsim.sim.timing.efficiency import Surface, surface
from vsim.sim.timing.head_shapes import NEAREST_HEADS, HeadShape, attention_curves, head_places
from vsim.sim.timing.prefix_attention import prefix_attention_ns
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks, weight_bytes

_TILE_ROWS = 128  # queries that FlashAttention computes together
_KV_READ_EFFICIENCY = 0.8  # as decode attention on Hopper reads it


def causal_pairs(tokens: ArrayLike, window: int = 0) -> Floats:
    """Query-key pairs of a prompt from nothing: each token sees itself and those before it."""
    length = np.asarray(tokens, dtype=np.float64)
    near = np.minimum(length, window) if window else length
    return near * (near + 1) / 2 + (length - near) * near


def prefill_attention_bound(
    peaks: Peaks,
    kv_precision: str,
    new_tokens: ArrayLike,
    pairs: ArrayLike,
    shape: HeadShape,
) -> Bound:
    """What the attention of one layer takes at least.

    Args:
        peaks: the GPU's.
        kv_precision: of the KV cache.
        new_tokens: tokens computed, of all prompts.
        pairs: query-key pairs, of all prompts, those outside a window left out.
        shape: its heads on this GPU.
    """
    tokens, all_pairs = _broadcast(new_tokens, pairs)
    each = all_pairs / np.maximum(tokens, 1.0)
    # A chunk behind a prefix reads more keys than it has: its mean ones and half of its own.
    keys = np.maximum(tokens, np.where(each > tokens, each + tokens / 2, 0.0))
    moved = tokens * (2 * shape.heads * shape.head_dim * ACTIVATION_BYTES) + keys * (
        shape.cached_numbers * weight_bytes(kv_precision)
    )
    flops = all_pairs * shape.pair_flops
    return peaks.bound(moved, flops, kv_precision)


def prefill_attention_surface(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    shape: HeadShape,
) -> Surface:
    """The efficiency of a head shape over prompts and their tokens. Arguments as in the bound."""
    curves = attention_curves(tables, "prefill_attention", kv_precision, shape.window)
    own = curves.precision

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        one = HeadShape(*measured.tolist())
        pairs = first * causal_pairs(second, one.window)
        return prefill_attention_bound(peaks, own, first * second, pairs, one).ns

    wanted = head_places(shape.in_curves(curves))[0]
    return surface(curves, head_places(curves.shapes), wanted, bound_ns, NEAREST_HEADS)


def prefill_attention_ns(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    new_tokens: ArrayLike,
    pairs: ArrayLike,
    shape: HeadShape,
    known: Surface | None = None,
    behind: Surface | None = None,
) -> Floats:
    """Time of one layer's attention, nanoseconds; 0 for no tokens.

    Args:
        tables: of this GPU.
        peaks: the GPU's.
        kv_precision: of the KV cache.
        new_tokens: tokens computed, of all prompts.
        pairs: query-key pairs, of all prompts, those outside a window left out.
        shape: its heads on this GPU.
        known: its `prefill_attention_surface`, where that was made before.
        behind: its `prefix_attention_surface`, where prefixes were measured.
    """
    if known is None:
        known = prefill_attention_surface(tables, peaks, kv_precision, shape)
    tokens, all_pairs = _broadcast(new_tokens, pairs)
    n, p = np.maximum(tokens.ravel(), 1.0), np.maximum(all_pairs.ravel(), 1.0)
    back = shape.window if known.variant == "window" else 0
    length = np.minimum(_prompt_tokens(p / n, back), np.maximum(n, known.second[-1]))
    whole = length <= n
    wanted = prefill_attention_bound(peaks, kv_precision, n, p, shape)
    time = known.time_ns(wanted.ns, np.where(whole, n / length, 1.0), length)
    if behind is not None and not whole.all():
        own = causal_pairs(n)
        first_ns = known.time_ns(
            prefill_attention_bound(peaks, kv_precision, n, own, shape).ns, np.ones(len(n)), n
        )
        prefix = np.maximum(p - own, 0.0) / n
        later_ns = first_ns + prefix_attention_ns(behind, peaks, kv_precision, n, prefix, shape)
        time = np.where(whole, time, later_ns)
    elif not whole.all():
        prompt = prefill_attention_bound(
            peaks, kv_precision, length, causal_pairs(length, back), shape
        )
        prompt_ns = known.time_ns(prompt.ns, np.ones(len(n)), length)
        rows = np.maximum(n, np.minimum(_TILE_ROWS * shape.kv_heads / shape.heads, length))
        least_ns = _least_ns(known, peaks, kv_precision, shape)
        beyond = np.maximum(prompt_ns - least_ns, 0.0)
        computed = (rows / n) * beyond * (wanted.flops_ns / prompt.flops_ns)
        read = wanted.bytes_ns / _KV_READ_EFFICIENCY
        first = prefill_attention_bound(
            peaks, kv_precision, n, causal_pairs(n, shape.window), shape
        )
        first_ns = known.time_ns(first.ns, np.ones(len(n)), n)
        later_ns = np.maximum(least_ns + np.maximum(computed, read), first_ns)
        time = np.where(whole, time, later_ns)
    return np.where(tokens > 0, time.reshape(tokens.shape), 0.0)


def _least_ns(known: Surface, peaks: Peaks, kv_precision: str, shape: HeadShape) -> Floats:
    """Time of the shortest prompt that was measured, float64[1]."""
    shortest, one = known.second[:1], np.ones(1)
    bound = prefill_attention_bound(peaks, kv_precision, shortest, causal_pairs(shortest), shape)
    return known.time_ns(bound.ns, one, shortest)


def _prompt_tokens(keys: Floats, window: int) -> Floats:
    """Tokens of a prompt from nothing whose queries see that many keys on average.

    Without a window L = 2·keys - 1. Behind a window w, w·(w + 1)/2 + (L - w)·w = L·keys.
    """
    length = np.maximum(2 * keys - 1, 1.0)
    if not window:
        return length
    beyond = length > window
    gap = np.maximum(window - keys, 1e-9)
    return np.where(beyond, np.maximum(window * (window - 1) / 2 / gap, length), length)


def _broadcast(new_tokens: ArrayLike, pairs: ArrayLike) -> tuple[Floats, Floats]:
    one, other = np.broadcast_arrays(
        np.asarray(new_tokens, dtype=np.float64), np.asarray(pairs, dtype=np.float64)
    )
    return one, other
