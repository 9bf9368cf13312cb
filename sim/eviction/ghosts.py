"""Ghosts: queues of keys that a tier evicted, which tell 2Q, ARC and S3-FIFO what came back.

A key has one node a tier, so it is in one ghost queue at most. All O(1).
"""

from typing import Any

from vsim.sim.compiled import borrowing_inline, wide
from vsim.sim.eviction.lists import after, link_before, unlink


@borrowing_inline
def ghost_queue(ghosts: Any, own: Any, key: int) -> int:
    """Return the ghost queue (1 or 2) that a key is in, or 0."""
    queue = 0
    if key >= 0:
        queue = wide(ghosts[own["ghost_base"] + key]["tag"])
    return queue


@borrowing_inline
def ghost_size(ghosts: Any, own: Any, queue: int) -> int:
    """Return how many keys a ghost queue (1 or 2) holds."""
    return wide(ghosts[own["ghost_sentinel"] + queue - 1]["tag"])


@borrowing_inline
def forget(ghosts: Any, own: Any, key: int, queue: int) -> None:
    """Take a key out of the ghost queue that it is in."""
    node = own["ghost_base"] + key
    unlink(ghosts, node)
    ghosts[node]["tag"] = 0
    ghosts[own["ghost_sentinel"] + queue - 1]["tag"] -= 1


@borrowing_inline
def forget_oldest(ghosts: Any, own: Any, queue: int) -> None:
    """Drop the key that was evicted longest ago from a ghost queue that is not empty."""
    sentinel = own["ghost_sentinel"] + queue - 1
    node = after(ghosts, sentinel)
    unlink(ghosts, node)
    ghosts[node]["tag"] = 0
    ghosts[sentinel]["tag"] -= 1


@borrowing_inline
def remember(ghosts: Any, own: Any, key: int, queue: int) -> None:
    """Put an evicted key at the young end of a ghost queue; a page without a key leaves none."""
    if key < 0:
        return
    before = ghost_queue(ghosts, own, key)
    if before != 0:  # another page of the same content was evicted earlier
        forget(ghosts, own, key, before)
    sentinel = own["ghost_sentinel"] + queue - 1
    node = own["ghost_base"] + key
    link_before(ghosts, sentinel, node)
    ghosts[node]["tag"] = queue
    ghosts[sentinel]["tag"] += 1


class GhostQueue:
    """The twin's ghost queue: keys, oldest first."""

    def __init__(self) -> None:
        self.keys: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: int) -> bool:
        return key in self.keys

    def discard(self, key: int) -> None:
        """Take a key out, if it is here."""
        self.keys.pop(key, None)

    def drop_oldest(self) -> None:
        """Drop the key evicted longest ago."""
        del self.keys[next(iter(self.keys))]

    def append(self, key: int) -> None:
        """Put a key at the young end; a page without a key leaves none."""
        if key >= 0:
            self.discard(key)
            self.keys[key] = None
