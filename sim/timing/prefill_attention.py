"""Attention of prompts: N new tokens, each over the keys up to itself, P query-key pairs in all.

Bound: 4 · heads · head_dim · P FLOPs over the rate of the KV's precision; queries, outputs and the
keys and values read over the bandwidth. Shapes and distances are those of
`decode_attention`; the axes are prompts and tokens of each, and every measured prompt starts from
nothing, so P = prompts · L (L + 1) / 2.

N and P say which prompts those are: of equal ones from nothing, L = 2 P / N - 1 tokens each, N / L
of them. Where that is less than one whole prompt, the N tokens are a chunk behind a prefix, and are
timed as the last slice of a prompt of L tokens (the same mean keys a query): their share of what it
takes beyond the floor, by pairs,

    t = floor + max(flops · (t(1, L) - floor) / flops(1, L), bytes / 0.8)

where the chunk counts as a tile of 128 query rows at least (heads that share a KV head fill one
together). Held against FlashAttention 2 on an H200 (PyTorch 2.11, 2026-11-26, 32 and 8 heads, 1 and
4 chunks of 256 to 4,096 tokens behind 128 to 65,536): 3 and 8 % median error, 22 and 34 % at p95;
chunks of 16 to 128 tokens, 21 and 14 %. Taking the efficiency of N tokens from nothing instead errs
by 16 and 25 %. Tables of chunks behind prefixes there are none.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vsim.sim.machine.kernel_tables import Curves, KernelTables
from vsim.sim.timing.decode_attention import attention_curves, head_places, window_like
from vsim.sim.timing.efficiency import log_efficiency
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
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
) -> Bound:
    """What the attention of one layer takes at least.

    Args:
        peaks: the GPU's.
        kv_precision: of the KV cache.
        new_tokens: tokens computed, of all prompts.
        pairs: query-key pairs, of all prompts, those outside a window left out.
        heads: query heads, on this GPU.
        kv_heads: KV heads, on this GPU.
        head_dim: numbers of one head.
        window: how far back it sees, tokens; 0 for all.
    """
    tokens, all_pairs = _broadcast(new_tokens, pairs)
    each = all_pairs / np.maximum(tokens, 1.0)
    # A chunk behind a prefix reads more keys than it has: its mean ones and half of its own.
    keys = np.maximum(tokens, np.where(each > tokens, each + tokens / 2, 0.0))
    moved = tokens * (2 * heads * head_dim * ACTIVATION_BYTES) + keys * (
        2 * kv_heads * head_dim * weight_bytes(kv_precision)
    )
    return peaks.bound(moved, all_pairs * (4.0 * heads * head_dim), kv_precision)


def prefill_attention_ns(
    tables: KernelTables,
    peaks: Peaks,
    kv_precision: str,
    new_tokens: ArrayLike,
    pairs: ArrayLike,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
) -> Floats:
    """Time of one layer's attention, nanoseconds; 0 for no tokens. Arguments as in the bound."""
    tokens, all_pairs = _broadcast(new_tokens, pairs)
    n, p = np.maximum(tokens.ravel(), 1.0), np.maximum(all_pairs.ravel(), 1.0)
    curves = attention_curves(tables, "prefill_attention", kv_precision, window)
    shape = heads, kv_heads, head_dim
    length = np.minimum(_prompt_tokens(p / n, window), np.maximum(n, curves.second[-1]))
    whole = length <= n
    prompts = np.where(whole, n / length, 1.0)
    efficiency = _log_efficiency(curves, peaks, shape, window, prompts, length)
    wanted = prefill_attention_bound(peaks, kv_precision, n, p, *shape, window)
    time = (wanted.ns + curves.floor_ns) * np.exp(-efficiency)
    if not whole.all():
        slice_ns = _slice_ns(peaks, kv_precision, n, p, length, shape, window, curves, efficiency)
        time = np.where(whole, time, slice_ns)
    return np.where(tokens > 0, time.reshape(tokens.shape), 0.0)


def _slice_ns(
    peaks: Peaks,
    kv_precision: str,
    tokens: Floats,
    pairs: Floats,
    length: Floats,
    shape: tuple[int, int, int],
    window: int,
    curves: Curves,
    efficiency: Floats,
) -> Floats:
    """A chunk's time, as the last slice of a prompt of `length` tokens; see the file."""
    heads, kv_heads, _ = shape
    prompt = prefill_attention_bound(
        peaks, kv_precision, length, causal_pairs(length, window), *shape, window
    )
    beyond_floor = (prompt.ns + curves.floor_ns) * np.exp(-efficiency) - curves.floor_ns
    chunk = prefill_attention_bound(peaks, kv_precision, tokens, pairs, *shape, window)
    rows = np.maximum(tokens, np.minimum(_TILE_ROWS * kv_heads / heads, length))
    computed = chunk.flops_ns * (rows / tokens) * (beyond_floor / prompt.flops_ns)
    return curves.floor_ns + np.maximum(computed, chunk.bytes_ns / _KV_READ_EFFICIENCY)


def _log_efficiency(
    curves: Curves,
    peaks: Peaks,
    shape: tuple[int, int, int],
    window: int,
    prompts: Floats,
    length: Floats,
) -> Floats:
    own = curves.precision

    def bound_ns(measured: NDArray[np.int64], first: Floats, second: Floats) -> Floats:
        heads, kv_heads, head_dim, back = measured.tolist()
        pairs = first * causal_pairs(second, back)
        return prefill_attention_bound(
            peaks, own, first * second, pairs, heads, kv_heads, head_dim, back
        ).ns

    wanted = np.array([[*shape, window_like(curves, window)]])
    return log_efficiency(
        curves, head_places(curves.shapes), head_places(wanted)[0], bound_ns, prompts, length
    )


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
