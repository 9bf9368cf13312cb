"""Two scores of a page, made while the model attends: its attention mass and Quest's bound."""

import numpy as np
from numpy.typing import NDArray

from vsim.traces.recorders.model import F32, AttentionRead


def page_count(tokens: int, page_tokens: int) -> int:
    """Count the pages that hold this many tokens; the last may be partly filled."""
    return -(-tokens // page_tokens)


def page_mass(read: AttentionRead, page_tokens: int) -> F32:
    """Sum attention over each page's tokens and over the query heads of a KV head's group.

    Returns [kv_heads, T, pages]; each row sums to the size of the group.
    """
    tokens = read.probabilities.shape[-1]
    starts = np.arange(0, tokens, page_tokens)
    summed = read.probabilities.sum(axis=1)
    return np.add.reduceat(summed, starts, axis=-1)


def quest_mass(read: AttentionRead, page_tokens: int) -> F32:
    """Score pages by Quest's upper bound on any query-key product in them, as a softmax.

    Quest (Tang et al., ICML 2024, algorithm 1) keeps the minimum m and maximum M of each channel
    of a page's keys and bounds q·k by sum(max(q·m, q·M)). Its ranking is that of one query head;
    for a group that shares a KV head, the bounds of each query head are turned into a softmax over
    pages and summed, so that the score has the unit and the scale of `page_mass`. A token's bound
    counts the pages up to its own; keys of later tokens on its own page are left out.

    Returns [kv_heads, T, pages]; each row sums to the size of the group.
    """
    kv_heads, group, count, size = read.query.shape
    tokens = read.keys.shape[1]
    pages = page_count(tokens, page_tokens)
    first = tokens - count
    scale = np.float32(1 / np.sqrt(size))
    starts = np.arange(0, tokens, page_tokens)
    low = np.minimum.reduceat(read.keys, starts, axis=1)
    high = np.maximum.reduceat(read.keys, starts, axis=1)
    rising, falling = np.maximum(read.query, 0), np.minimum(read.query, 0)
    bound = (
        np.matmul(rising, high[:, None].swapaxes(-1, -2))
        + np.matmul(falling, low[:, None].swapaxes(-1, -2))
    ) * scale
    for row in range(count):
        own = (first + row) // page_tokens
        seen = read.keys[:, own * page_tokens : first + row + 1]
        bound[:, :, row, own] = scale * (
            np.einsum("hgd,hd->hg", rising[:, :, row], seen.max(axis=1))
            + np.einsum("hgd,hd->hg", falling[:, :, row], seen.min(axis=1))
        )
    later = np.arange(pages)[None, :] > (first + np.arange(count))[:, None] // page_tokens
    bound[:, :, later] = -np.inf
    bound -= bound.max(axis=-1, keepdims=True)
    weight = np.exp(bound)
    weight /= weight.sum(axis=-1, keepdims=True)
    return np.asarray(weight.sum(axis=1), dtype=np.float32)


def page_mask(keep: NDArray[np.bool_], tokens: int, page_tokens: int) -> NDArray[np.bool_]:
    """Spread a choice of pages [kv_heads, T, pages] over their tokens [kv_heads, T, tokens]."""
    return np.repeat(keep, page_tokens, axis=-1)[..., :tokens]
