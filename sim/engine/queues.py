"""Waiting requests: one queue a scheduling class, and which class goes first."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.layout import FAIR, LOADING, PRIORITY, REJECTED, WAITING, World


@borrowing_inline
def push_back(w: World, request: int) -> None:
    """Queue a request behind its class."""
    group = w.r[request].group
    w.r[request].next = -1
    if w.g[group].waiting == 0:
        w.g[group].head = request
    else:
        w.r[w.g[group].tail].next = request
    w.g[group].tail = request
    w.g[group].waiting += 1
    w.c[0].waiting += 1
    w.r[request].state = WAITING


@borrowing_inline
def push_front(w: World, request: int) -> None:
    """Queue a request before its class: it was already served once."""
    group = w.r[request].group
    if w.g[group].waiting == 0:
        w.g[group].tail = request
        w.r[request].next = -1
    else:
        w.r[request].next = w.g[group].head
    w.g[group].head = request
    w.g[group].waiting += 1
    w.c[0].waiting += 1
    w.r[request].state = WAITING


@borrowing_kernel
def next_group(w: World) -> int:
    """The class whose head is next: the only one, the most urgent, or the least served."""
    scheduler = w.c[0].scheduler
    best = -1
    for group in range(w.c[0].classes):
        if w.g[group].waiting == 0:
            continue
        if scheduler != FAIR:
            return group  # classes are numbered by urgency
        if best < 0 or w.g[group].service < w.g[best].service:
            best = group
    return best


@borrowing_inline
def pop_head(w: World, group: int) -> int:
    """Take the first waiting request of a class."""
    request = w.g[group].head
    w.g[group].head = w.r[request].next
    w.g[group].waiting -= 1
    w.c[0].waiting -= 1
    return int(request)


@borrowing_kernel
def arrive(w: World, request: int, now: int) -> None:
    """A request arrives: it waits, or is refused if it could never fit."""
    w.r[request].arrival = now
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    pages = (w.r[request].prompt + w.r[request].output + w.c[0].page_tokens - 1) // w.c[
        0
    ].page_tokens
    room = w.t[0].capacity
    if (w.c[0].spill or w.c[0].balanced) and not w.c[0].static:
        for tier in range(1, w.c[0].tiers):
            if w.t[tier].in_place:
                room += w.t[tier].capacity
    if pages > room or pages > w.c[0].row_pages:
        w.r[request].state = REJECTED
        w.c[0].rejected += 1
        return
    group = w.r[request].group
    if w.c[0].scheduler == FAIR and w.g[group].waiting == 0 and w.g[group].running == 0:
        # a tenant that comes back has no credit from its absence (VTC, Sheng et al., OSDI 2024)
        least = -1
        for other in range(w.c[0].classes):
            if w.g[other].waiting + w.g[other].running > 0 and (
                least < 0 or w.g[other].service < least
            ):
                least = w.g[other].service
        if least > w.g[group].service:
            w.g[group].service = least
    push_back(w, request)


@borrowing_kernel
def preemption_victim(w: World) -> int:
    """Index of the running request to give way: the last admitted of the least urgent class."""
    best = w.c[0].running - 1
    if w.c[0].scheduler == PRIORITY:
        for i in range(w.c[0].running - 1, -1, -1):
            if w.r[w.run[i]].group > w.r[w.run[best]].group:
                best = i
    return int(best)


@borrowing_inline
def push_ready(w: World, request: int) -> None:
    """A request's pages have all come."""
    ring = w.c[0].ready_room
    at = w.c[0].ready_head + w.c[0].ready
    if at >= ring:
        at -= ring
    w.ready[at] = request
    w.c[0].ready += 1
    w.r[request].state = LOADING


@borrowing_inline
def pop_ready(w: World) -> None:
    """Take the first ready request off the ring."""
    w.c[0].ready_head += 1
    if w.c[0].ready_head == w.c[0].ready_room:
        w.c[0].ready_head = 0
    w.c[0].ready -= 1
