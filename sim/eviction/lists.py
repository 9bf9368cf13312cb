"""Queues of pages: circular doubly linked lists through a sentinel, all O(1).

`next` runs from the page evicted first to the one evicted last. Functions of the eviction kernels
take the arrays that they need, the tier's record `own`, and integers widened to int64.
"""

from typing import Any

from vsim.sim.compiled import borrowing_inline, wide
from vsim.sim.eviction.state import PARKED


@borrowing_inline
def after(links: Any, node: int) -> int:
    """Return the node behind another: of the sentinel, the one evicted first."""
    return wide(links[node]["next"])


@borrowing_inline
def unlink(links: Any, node: int) -> None:
    """Take a node out of its queue."""
    front = links[node]["prev"]
    back = links[node]["next"]
    links[front]["next"] = back
    links[back]["prev"] = front


@borrowing_inline
def link_before(links: Any, anchor: int, node: int) -> None:
    """Put a node in front of another; in front of the sentinel it is evicted last."""
    front = links[anchor]["prev"]
    links[node]["prev"] = front
    links[node]["next"] = anchor
    links[front]["next"] = node
    links[anchor]["prev"] = node


@borrowing_inline
def detach(links: Any, mark: Any, own: Any, slot: int) -> None:
    """Take a page out of its queue, or forget that it is parked."""
    if mark[slot] & PARKED:
        mark[slot] &= ~PARKED
        own["parked"] -= 1
    else:
        unlink(links, slot)


@borrowing_inline
def park(links: Any, mark: Any, own: Any, slot: int) -> None:
    """Take a page in use out of its queue until it is released."""
    unlink(links, slot)
    mark[slot] |= PARKED
    own["parked"] += 1


@borrowing_inline
def unpark(links: Any, mark: Any, own: Any, slot: int, anchor: int) -> None:
    """Put a parked page in front of a node; leave any other page alone."""
    if mark[slot] & PARKED:
        mark[slot] &= ~PARKED
        own["parked"] -= 1
        link_before(links, anchor, slot)


@borrowing_inline
def oldest_free(links: Any, mark: Any, own: Any, ref: Any, sentinel: int) -> int:
    """Return the page at a queue's eviction end, parking those in use; -1 if none is left."""
    slot = after(links, sentinel)
    while slot != sentinel:
        own["examined"] += 1
        if ref[slot] == 0:
            return slot
        park(links, mark, own, slot)
        slot = after(links, sentinel)
    return -1
