"""The working set: different blocks used in the last τ seconds, and the faults of keeping these.

W(t, τ) is the number of different blocks used in (t − τ, t] (Denning, Communications of the ACM
11(5), 1968). A block is in it from each use on for τ, or until it is used again; so the mean size
and the faults of a cache that holds exactly the working set follow from the times between uses, and
these from runs. Blocks nearer to the root were used no less recently, so that what is in the set of
a prompt is its beginning. The mean is taken from the first arrival to the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsim.traces.prefix_reuse import PrefixReuse

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """What was used in the last τ.

    Args:
        window_s: τ.
        mean_blocks: its size, over time.
        hit_ratio: references to blocks in it, over all.
        lru_hit_ratio: the same of an LRU cache of that size, rounded to whole blocks.
    """

    window_s: float
    mean_blocks: float
    hit_ratio: float
    lru_hit_ratio: float


def working_sets(
    reuse: PrefixReuse, arrival_ns: _Ints, lengths: _Ints, windows_s: Sequence[float]
) -> tuple[WorkingSet, ...]:
    """Measure working sets.

    Args:
        reuse: the trace's runs.
        arrival_ns: int64[requests], when each used its blocks.
        lengths: int64[requests], blocks of each.
        windows_s: above 0 each.
    """
    span_ns = int(arrival_ns[-1] - arrival_ns[0])
    gap_ns = arrival_ns[reuse.request] - arrival_ns[reuse.last_use]
    used_again = np.bincount(reuse.last_use, weights=reuse.count, minlength=len(lengths))
    last_uses = lengths - used_again
    left_ns = arrival_ns[-1] - arrival_ns
    found = []
    for window_s in windows_s:
        window_ns = window_s * 1e9
        held = float((np.minimum(gap_ns, window_ns) * reuse.count).sum())
        held += float((np.minimum(left_ns, window_ns) * last_uses).sum())
        mean = held / span_ns if span_ns else float(used_again.sum() + last_uses.sum())
        hits = int(reuse.count[gap_ns < window_ns].sum())
        lru = int(reuse.lru_hits(np.array([round(mean)]))[0])
        blocks = max(reuse.blocks, 1)
        found.append(WorkingSet(window_s, mean, hits / blocks, lru / blocks))
    return tuple(found)
