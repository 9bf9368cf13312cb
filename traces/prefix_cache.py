"""Prefix hits of a request trace, replayed in arrival order against a cache of blocks.

A request hits the leading blocks that the cache holds, up to the first that it does not. Then all
its blocks are touched, the deepest first, so that of one prompt the last block is the first to be
evicted and a kept block's whole prefix is kept too.
"""

from collections import OrderedDict

import numba
import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_chain import dense_codes

_Ints = NDArray[np.int64]


def lru_hits(offsets: _Ints, ids: _Ints | NDArray[np.int32], capacity: int) -> _Ints:
    """Count each request's hit blocks in an LRU cache of `capacity` blocks.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        ids: int64[m] or int32[m].
        capacity: blocks that the cache holds, 1 or more.

    Returns:
        int64[n].
    """
    codes, count = dense_codes(ids)
    # one width, so that it is compiled once
    hits: _Ints = _lru(offsets, codes.astype(np.int64, copy=False), count, capacity)
    return hits


def lru_hits_plainly(offsets: _Ints, ids: _Ints, capacity: int) -> _Ints:
    """Count as `lru_hits` does, in plain Python: what the compiled one is compared with."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = np.zeros(len(offsets) - 1, dtype=np.int64)
    for row in range(len(hits)):
        blocks = ids[offsets[row] : offsets[row + 1]].tolist()
        for block in blocks:
            if block not in cache:
                break
            hits[row] += 1
        for block in reversed(blocks):
            cache[block] = None
            cache.move_to_end(block)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits


@numba.njit(cache=True)
def _lru(offsets: _Ints, codes: _Ints, count: int, capacity: int) -> _Ints:
    """Replay with a list linked through arrays; element `count` is both its ends."""
    newer = np.full(count + 1, -1, dtype=np.int64)
    older = np.full(count + 1, -1, dtype=np.int64)
    newer[count] = older[count] = count
    held = 0
    hits = np.zeros(len(offsets) - 1, dtype=np.int64)
    for row in range(len(hits)):
        start, end = offsets[row], offsets[row + 1]
        at = start
        while at < end and newer[codes[at]] >= 0:
            at += 1
        hits[row] = at - start
        for at in range(end - 1, start - 1, -1):
            code = codes[at]
            if newer[code] >= 0:
                newer[older[code]] = newer[code]
                older[newer[code]] = older[code]
            else:
                held += 1
            newest = older[count]
            newer[newest] = code
            older[code] = newest
            newer[code] = count
            older[count] = code
            if held > capacity:
                oldest = newer[count]
                newer[count] = newer[oldest]
                older[newer[oldest]] = count
                newer[oldest] = -1
                held -= 1
    return hits
