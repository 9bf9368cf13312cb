"""Attention in float64 by numpy: what the kernels must come near."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import PageLayout

Floats = NDArray[np.float64]


def floats_of_bf16(raw: NDArray[np.uint16]) -> Floats:
    """Widen bf16, given as its bits."""
    return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def bf16_of(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Round to bf16, ties to even, and return the bits. Values must be finite."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def keys_and_values(
    pages: Sequence[NDArray[np.uint8]], layout: PageLayout, tokens: int, layer: int = 0
) -> tuple[Floats, Floats]:
    """Read keys and values `[token][kv_head][head_dim]` of one layer out of raw pages."""
    found = []
    for part in (0, layout.v_offset):
        at = layer * layout.layer_stride + part
        rows = []
        for page in pages:
            raw = page[at : at + layout.v_offset].view(np.uint16)
            if layout.head_major:
                shaped = raw.reshape(layout.kv_heads, layout.page_tokens, -1).transpose(1, 0, 2)
            else:
                shaped = raw.reshape(layout.page_tokens, layout.kv_heads, -1)
            rows.append(shaped)
        found.append(floats_of_bf16(np.concatenate(rows)[:tokens]))
    return found[0], found[1]


def attention(q: Floats, keys: Floats, values: Floats) -> Floats:
    """Attend causally: `q` `[new][heads][head_dim]` are the last tokens of the context.

    Args:
        q: queries.
        keys: `[tokens][kv_heads][head_dim]`.
        values: likewise.
    """
    new, heads, dim = q.shape
    tokens, kv_heads, _ = keys.shape
    grouped = q.reshape(new, kv_heads, heads // kv_heads, dim)
    scores = np.einsum("nhgd,thd->nhgt", grouped, keys) / np.sqrt(dim)
    seen = np.arange(tokens) <= tokens - new + np.arange(new)[:, None]
    scores = np.where(seen[:, None, None, :], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out: Floats = np.einsum("nhgt,thd->nhgd", weights, values).reshape(new, heads, dim)
    return out


def relative_error(found: Floats, wanted: Floats) -> float:
    """Return ‖found − wanted‖ / ‖wanted‖; not a number counts as infinite."""
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    return error if np.isfinite(error) else float("inf")
