"""Two scores of a page, made while the model attends: its attention mass and Quest's bound."""

import numpy as np
from numpy.typing import NDArray

from vsim.traces.recorders.model import F32, AttentionRead


def page_count(tokens: int, page_tokens: int) -> int:
    """Count the pages that hold this many tokens; the last may be partly filled."""
    return -(-tokens // page_tokens)


def page_mass(read: AttentionRead, page_tokens: int) -> F32:
    """Sum attention over each page's tokens, mean over the query heads of a KV head's group.

    Returns [kv_heads, T, pages]; each row sums to one.
    """
    starts = np.arange(0, read.probabilities.shape[-1], page_tokens)
    mean = read.probabilities.mean(axis=1)
    return np.add.reduceat(mean, starts, axis=-1)


class QuestBounds:
    """Scores one layer's pages by Quest's upper bound on any query-key product in them.

    Quest (Tang et al., ICML 2024, algorithm 1) keeps the minimum m and maximum M of each channel
    of a page's keys and bounds q·k by sum(max(q·m, q·M)). Its ranking is that of one query head;
    for a group that shares a KV head, the bounds of each query head are turned into a softmax over
    pages and averaged, so that the score has the unit and the scale of `page_mass`. The bound of a
    token on its own page leaves out the keys of later tokens.

    Mutable: the minima and maxima of pages that are full are kept from call to call, so an object
    serves one growing context.
    """

    def __init__(self, page_tokens: int) -> None:
        self._page_tokens = page_tokens
        self._low: F32 | None = None
        self._high: F32 | None = None

    def mass(self, read: AttentionRead) -> F32:
        """Return [kv_heads, T, pages]; each row sums to one over the pages up to its token's."""
        size, count = read.query.shape[-1], read.query.shape[2]
        tokens = read.keys.shape[1]
        first = tokens - count
        low, high = self._channels(read.keys)
        rising, falling = np.maximum(read.query, 0), np.minimum(read.query, 0)
        bound = np.matmul(rising, high[:, None].swapaxes(-1, -2))
        bound += np.matmul(falling, low[:, None].swapaxes(-1, -2))
        for row in range(count):
            own = (first + row) // self._page_tokens
            seen = read.keys[:, own * self._page_tokens : first + row + 1]
            bound[:, :, row, own] = np.einsum(
                "hgd,hd->hg", rising[:, :, row], seen.max(axis=1)
            ) + np.einsum("hgd,hd->hg", falling[:, :, row], seen.min(axis=1))
        own_page = (first + np.arange(count)) // self._page_tokens
        bound[:, :, np.arange(low.shape[1])[None, :] > own_page[:, None]] = -np.inf
        bound -= bound.max(axis=-1, keepdims=True)
        weight = np.exp(bound / np.float32(np.sqrt(size)))
        weight /= weight.sum(axis=-1, keepdims=True)
        return np.asarray(weight.mean(axis=1), dtype=np.float32)

    def _channels(self, keys: F32) -> tuple[F32, F32]:
        """Minimum and maximum of each channel, [kv_heads, pages, head_size] each."""
        full = keys.shape[1] // self._page_tokens
        known = 0 if self._low is None else self._low.shape[1]
        rest = keys[:, known * self._page_tokens :]
        starts = np.arange(0, rest.shape[1], self._page_tokens)
        low, high = np.minimum.reduceat(rest, starts, 1), np.maximum.reduceat(rest, starts, 1)
        if self._low is not None and self._high is not None:
            low = np.concatenate([self._low, low], axis=1)
            high = np.concatenate([self._high, high], axis=1)
        if full > known:
            self._low, self._high = low[:, :full], high[:, :full]
        return low, high


def page_mask(keep: NDArray[np.bool_], tokens: int, page_tokens: int) -> NDArray[np.bool_]:
    """Spread a choice of pages [kv_heads, T, pages] over their tokens [kv_heads, T, tokens]."""
    return np.repeat(keep, page_tokens, axis=-1)[..., :tokens]
