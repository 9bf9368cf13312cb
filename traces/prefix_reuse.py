"""Reuse of prefix blocks: which earlier request each request shares leading blocks with, and how
far down an LRU stack they lie.

An id stands for its whole prefix. So the blocks that a request shares with earlier ones come first,
and of those the nearer to the root was used no less recently. They fall into runs: blocks in a row
that one earlier request was the last to use. A run is all that a cache has to know of its blocks,
and there are some runs a request where there are hundreds of blocks.

LRU commits a request's blocks the deepest first, so that its stack holds them in order of depth
below those of later requests. A run of c blocks that lies under b others is found, as far as it is,
by caches of b + 1 to b + c blocks and more; its hits grow by one a block of capacity. LRU is a
stack algorithm (Mattson et al., IBM Systems Journal 9(2), 1970): what a cache holds, every larger
one does, and one pass answers for all capacities.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_chain import dense_codes

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PrefixReuse:
    """The runs of a trace, in order of request and depth.

    Args:
        requests: how many requests there are.
        blocks: how many blocks their prompts have.
        request: int64[runs], the request that uses a run again.
        last_use: int64[runs], the request that used it last before.
        depth: int64[runs], how many blocks of the prompt lie before it.
        count: int64[runs], its blocks.
        above: int64[runs], different blocks used since that one's use of the run.
    """

    requests: int
    blocks: int
    request: _Ints
    last_use: _Ints
    depth: _Ints
    count: _Ints
    above: _Ints

    @classmethod
    def of(cls, offsets: _Ints, ids: _Ints | NDArray[np.int32]) -> "PrefixReuse":
        """Find the runs of requests in order.

        Args:
            offsets: int64[n + 1], where each request's ids start, from 0.
            ids: int64[m] or int32[m], each standing for its whole prefix.
        """
        codes, count = dense_codes(ids)
        lengths, rows = np.diff(offsets), np.arange(len(offsets) - 1)
        found = _runs(offsets[:-1], lengths, lengths, rows, codes, count)
        return cls(len(lengths), len(ids), *found)

    @classmethod
    def of_held(
        cls, starts: _Ints, lengths: _Ints, looked_up: _Ints, until: _Ints, codes: NDArray[Any]
    ) -> "PrefixReuse":
        """Find the runs of requests that hold their blocks for a while, in order of admission.

        A block's last use then is the last slot in which a request that came before holds it, its
        own slot where that is still so when it is used again; `above` says nothing.

        Args:
            starts: int64[n], where each request's blocks start in `codes`.
            lengths: int64[n], how many blocks it uses.
            looked_up: int64[n], how many of them it could find.
            until: int64[n], the last slot, from its own on, in which it holds them.
            codes: each block's number, from 0.
        """
        count = int(codes.max()) + 1 if len(codes) else 0
        found = _runs(starts, lengths, looked_up, until, codes, count)
        return cls(len(lengths), int(looked_up.sum()), *found)

    def lru_hits(self, capacities: _Ints) -> _Ints:
        """Blocks found, of all requests, by LRU caches of so many blocks each.

        Returns:
            int64 in the shape of `capacities`.
        """
        blocks, hits = self.lru_curve()
        at = np.minimum(np.searchsorted(blocks, capacities, side="right") - 1, len(blocks) - 2)
        rise, step = np.diff(hits)[at], np.diff(blocks)[at]
        found: _Ints = hits[at] + rise // step * np.minimum(capacities - blocks[at], step)
        return found

    def lru_curve(self) -> tuple[_Ints, _Ints]:
        """Blocks found by an LRU cache, as a function of its capacity.

        Returns:
            int64[k] capacities in blocks from 0 and int64[k] blocks found, k 2 or more. Between two
            neighbours the curve is a line, by as many whole hits for each block; after the last it
            is flat.
        """
        ends = np.concatenate([self.above, self.above + self.count])
        slope = np.concatenate([np.ones(len(self.above)), -np.ones(len(self.above))])
        places, inverse = np.unique(np.append(ends, [0, 1]), return_inverse=True)
        change = np.bincount(inverse[:-2], weights=slope, minlength=len(places)).astype(np.int64)
        hits = np.zeros(len(places), np.int64)
        np.cumsum(np.cumsum(change)[:-1] * np.diff(places), out=hits[1:])
        return places, hits

    def lru_hits_of_requests(self, capacity: int) -> _Ints:
        """Leading blocks that each request finds in an LRU cache of so many blocks: int64[n]."""
        found = np.clip(capacity - self.above, 0, self.count)
        hits = np.bincount(self.request, weights=found, minlength=self.requests)
        return hits.astype(np.int64)


@numba.njit(cache=True)
def _runs(
    starts: _Ints, lengths: _Ints, looked_up: _Ints, until: _Ints, codes: NDArray[Any], count: int
) -> tuple[_Ints, _Ints, _Ints, _Ints, _Ints]:
    """Find request, last use, depth, count and blocks above of each run.

    A tree of partial sums (Fenwick, Software 24(3), 1994) over requests counts the blocks that each
    was the last to use; of a request's own these are its deepest, since whoever uses a block uses
    all before it.
    """
    n = len(starts)
    last = np.full(count, -1, np.int64)
    sums = np.zeros(n + 1, np.int64)
    room = 2 * n + 16
    runs = np.empty((5, room), np.int64)
    size = 0
    held = 0  # different blocks so far
    for row in range(n):
        start, end = starts[row], starts[row] + lengths[row]
        found_end = start + looked_up[row]
        at = start
        while at < end and last[codes[at]] >= 0:
            earlier = last[codes[at]]
            first = at
            while at < end and last[codes[at]] == earlier:
                at += 1
            older = 0  # blocks last used by `earlier` or before
            place = earlier + 1
            while place > 0:
                older += sums[place]
                place -= place & -place
            if first < found_end:
                if size == room:
                    grown = np.empty((5, 2 * room), np.int64)
                    for field in range(5):  # a loop compiles in a tenth of a slice's time
                        for i in range(room):
                            grown[field, i] = runs[field, i]
                    runs = grown
                    room *= 2
                runs[0, size] = row
                runs[1, size] = min(earlier, row)
                runs[2, size] = first - start
                runs[3, size] = min(at, found_end) - first
                runs[4, size] = held - older
                size += 1
            if earlier < until[row]:  # they are this request's now
                place = earlier + 1
                while place <= n:
                    sums[place] -= at - first
                    place += place & -place
                place = until[row] + 1
                while place <= n:
                    sums[place] += at - first
                    place += place & -place
                for i in range(first, at):
                    last[codes[i]] = until[row]
        held += end - at
        place = until[row] + 1
        while place <= n:
            sums[place] += end - at
            place += place & -place
        for i in range(at, end):
            last[codes[i]] = until[row]
    return runs[0, :size], runs[1, :size], runs[2, :size], runs[3, :size], runs[4, :size]
