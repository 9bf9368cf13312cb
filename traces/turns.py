"""Turns of a conversation: when each arrives, and the prefix ids that it shares with the last."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]

# An arrival time must be written before any server is known, so that a turn's stands for a server
# of ordinary speed. Runs that pace turns by think times do not use it.
ESTIMATED_FIRST_TOKEN_NS: Final = 500_000_000
ESTIMATED_NS_PER_OUTPUT_TOKEN: Final = 20_000_000


def answered_after_ns(output_tokens: _Ints) -> _Ints:
    """Estimate how long an answer takes: half a second, then 20 ms a token."""
    return ESTIMATED_FIRST_TOKEN_NS + ESTIMATED_NS_PER_OUTPUT_TOKEN * output_tokens


def sums_before(values: _Ints, firsts: _Ints) -> _Ints:
    """Sum each run's values before each element, the element itself left out.

    Args:
        values: int64[n], runs one after the other.
        firsts: int64[n], the index of the first element of each element's run.
    """
    total = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=total[1:])
    return total[:-1] - total[firsts]


def exceeds(values: _Ints, firsts: _Ints, most: int) -> NDArray[np.bool_]:
    """Mark elements up to which a run's values sum up to more than `most`, also beyond int64.

    Args as of `sums_before`, the element itself included.
    """
    total = np.cumsum(values, dtype=np.float64)
    sums: NDArray[np.float64] = total - total[firsts] + values[firsts]
    return sums > most


def firsts_of(counts: _Ints) -> _Ints:
    """Return, for each element of runs of `counts` elements, the index of its run's first."""
    starts = np.cumsum(counts) - counts
    return np.repeat(starts, counts)


def own_chains(
    session: _Ints, blocks: _Ints, shared: _Ints, shared_group: _Ints
) -> tuple[_Ints, _Ints]:
    """Make prefix ids for turns whose prompts extend one another within a session.

    Args:
        session: int64[n], session of each turn, from 0 without gaps.
        blocks: int64[n], full blocks of each turn's prompt.
        shared: int64[sessions], leading blocks that a session shares with its group.
        shared_group: int64[sessions], the group, from 0.

    Returns:
        Offsets int64[n + 1] and ids int64[m]. A group's shared blocks have the same ids in all
        its sessions; every other id belongs to one session.
    """
    group_blocks = np.zeros(int(shared_group.max()) + 1, dtype=np.int64)
    np.maximum.at(group_blocks, shared_group, shared)
    group_start = np.cumsum(group_blocks) - group_blocks
    deepest = np.zeros(len(shared), dtype=np.int64)
    np.maximum.at(deepest, session, blocks)
    own = np.maximum(deepest - shared, 0)
    own_start = int(group_blocks.sum()) + np.cumsum(own) - own
    offsets = np.zeros(len(blocks) + 1, dtype=np.int64)
    np.cumsum(blocks, out=offsets[1:])
    owner = np.repeat(session, blocks)
    depth = np.arange(int(offsets[-1]), dtype=np.int64) - np.repeat(offsets[:-1], blocks)
    in_shared = depth < shared[owner]
    ids = np.where(
        in_shared,
        group_start[shared_group[owner]] + depth,
        own_start[owner] + depth - shared[owner],
    )
    return offsets, ids
