"""Sampling of prefix trees: a part of the conversations, whole, that stands for all of them.

Spatial sampling takes references by a hash of what they refer to, so that each thing is sampled
always or never, and scales stack distances by the share sampled (SHARDS, Waldspurger et al., FAST
2015). Single blocks can't be hashed here, for a hit needs all blocks before it; so requests are
taken by a hash of their conversation: of the first block on their path that no more than one
request in ten uses. What lies before that, as a system prompt, is hot. Hot blocks are few, and
each request renews its own, so that they are left out of the sample, as if always found, and are
added to what every cache holds.

The error is that of conversations drawn at random: a sample needs some hundreds of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_chain import dense_codes
from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]
_HOT_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class SampledCurve:
    """An estimate of LRU's hits at every size.

    Args:
        rate: the share of conversations that was asked for.
        requests: sampled.
        share: of the references to blocks that are not hot, sampled.
        hot_blocks: different ones, which every cache is taken to hold.
        hot_hits: references to them but for the first of each.
        references: to all blocks.
        reuse: of the sampled requests, behind their hot blocks.
    """

    rate: float
    requests: int
    share: float
    hot_blocks: int
    hot_hits: int
    references: int
    reuse: PrefixReuse

    def hit_ratios(self, capacities: _Ints) -> NDArray[np.float64]:
        """Hits over all references, of caches of so many blocks."""
        room = np.maximum(capacities - self.hot_blocks, 0) * self.share
        below = np.floor(room).astype(np.int64)
        low, high = self.reuse.lru_hits(below), self.reuse.lru_hits(below + 1)
        found = (low + (high - low) * (room - below)) / max(self.share, 1e-12)
        hot = np.where(capacities >= self.hot_blocks, self.hot_hits, 0)
        return np.asarray((found + hot) / max(self.references, 1), np.float64)


def sampled_curve(
    offsets: _Ints, ids: _Ints | NDArray[np.int32], rate: float, seed: int = 0
) -> SampledCurve:
    """Sample conversations.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        ids: int64[m] or int32[m], each standing for its whole prefix.
        rate: the share of conversations, above 0 and up to 1.
        seed: another one samples others.
    """
    codes, count = dense_codes(ids)
    requests = len(offsets) - 1
    uses = np.bincount(codes, minlength=count)
    hot = uses > max(1.0, _HOT_SHARE * requests)
    if rate == 1.0:
        hot[:] = False
    # on a path uses fall, so that hot blocks come first
    counts = np.concatenate([[0], np.cumsum(hot[codes])])
    ahead = counts[offsets[1:]] - counts[offsets[:-1]]
    lengths = np.diff(offsets)
    has_own = ahead < lengths
    # of the id itself, so that a trace that goes on samples what it did before
    own_id = np.full(requests, -1, np.int64)
    own_id[has_own] = ids[offsets[:-1][has_own] + ahead[has_own]]
    taken = has_own & (_hashed(own_id, seed) < rate)
    rows = np.flatnonzero(taken)
    starts = offsets[:-1][rows] + ahead[rows]
    own = lengths[rows] - ahead[rows]
    moved = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
    index = np.repeat(starts - moved[:-1], own) + np.arange(int(moved[-1]))
    references = len(codes)
    cold = references - int(ahead.sum())
    return SampledCurve(
        rate=rate,
        requests=len(rows),
        share=int(moved[-1]) / cold if cold else 0.0,
        hot_blocks=int(hot.sum()),
        hot_hits=int(ahead.sum()) - int(hot.sum()),
        references=references,
        reuse=PrefixReuse.of(moved, codes[index]),
    )


def _hashed(values: _Ints, seed: int) -> NDArray[np.float64]:
    """A number from 0 to 1 for each value: the finaliser of MurmurHash3."""
    x = values.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ (x >> np.uint64(33))) * np.uint64(multiplier)
    x ^= x >> np.uint64(33)
    return np.asarray((x >> np.uint64(11)) * 2.0**-53, np.float64)
