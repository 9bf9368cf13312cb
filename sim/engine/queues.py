"""Waiting requests: one queue a scheduling class, and which class goes first."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.class_heaps import (
    least_active_service,
    most_urgent,
    note_active,
    note_waiting,
)
from vsim.sim.engine.class_marks import mark, unmark
from vsim.sim.engine.group_tables import most_units
from vsim.sim.engine.layout import FAIR, LOADING, NEVER, PRIORITY, REJECTED, WAITING, World
from vsim.sim.engine.pages import as_hbm_units, pages_of


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
    count_waiting(w, request, group)


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
    count_waiting(w, request, group)


@borrowing_inline
def count_waiting(w: World, request: int, group: int) -> None:
    """One more request of a class waits."""
    w.g[group].waiting += 1
    w.c[0].waiting += 1
    w.r[request].state = WAITING
    mark(w, group)
    if w.c[0].classes > 1:
        note_waiting(w, group)
        note_active(w, group)


@borrowing_inline
def count_running(w: World, group: int) -> None:
    """One more request of a class runs."""
    w.g[group].running += 1
    if w.c[0].classes > 1:
        note_active(w, group)


@borrowing_kernel
def next_group(w: World) -> int:
    """The class whose head is next: the only one, the most urgent, or the least served.

    Of classes that were served equally, the first. Somebody must wait.
    """
    if w.c[0].classes == 1:
        return 0
    return most_urgent(w)


@borrowing_inline
def pop_head(w: World, group: int) -> int:
    """Take the first waiting request of a class."""
    request = w.g[group].head
    w.g[group].head = w.r[request].next
    w.g[group].waiting -= 1
    w.c[0].waiting -= 1
    if w.g[group].waiting == 0:
        unmark(w, group)
    return int(request)


@borrowing_kernel
def arrive(w: World, request: int, now: int) -> None:
    """A request arrives: it waits, or is refused if it could never fit."""
    w.r[request].arrival = now
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    pages = pages_of(w, w.r[request].prompt + w.r[request].output)
    need = wide(pages)
    whole = wide(0)
    if w.c[0].grouped:
        states = wide(2 if w.c[0].caching else 1)  # one that it goes on from, and its own
        need = most_units(w, wide(w.r[request].prompt + w.r[request].output), states)
        whole = most_units(w, wide(0), states)  # which is nowhere but in HBM
    room = w.t[0].capacity
    if (w.c[0].spill or w.c[0].balanced) and not w.c[0].static:
        for tier in range(1, w.c[0].tiers):
            if w.t[tier].in_place and w.c[0].grouped:
                # where a page of all groups ends, a part of one may be left over in each tier
                room += max(as_hbm_units(w, wide(w.t[tier].capacity)) - 2 * w.c[0].page_units, 0)
            elif w.t[tier].in_place:
                room += w.t[tier].capacity
    if need > room or whole > w.t[0].capacity or pages > w.c[0].longest:
        w.r[request].state = REJECTED
        w.c[0].rejected += 1
        return
    if w.c[0].pipelined and (w.c[0].in_flight or w.c[0].step_open):
        hide(w, request)
        return
    queue(w, request)


@borrowing_inline
def hide(w: World, request: int) -> None:
    """Keep a request that came while the engine was busy until it looks again."""
    w.r[request].next = -1
    if w.c[0].hidden == 0:
        w.c[0].hidden_head = request
    else:
        w.r[w.c[0].hidden_tail].next = request
    w.c[0].hidden_tail = request
    w.c[0].hidden += 1


@borrowing_inline
def is_revealed(w: World) -> bool:
    """Whether the engine sees a request that is hidden, as of the time at which it plans."""
    return bool(w.c[0].hidden > 0 and w.r[w.c[0].hidden_head].arrival <= w.c[0].plan_at)


@borrowing_kernel
def reveal(w: World) -> None:
    """Queue the requests that had come when the engine plans."""
    while is_revealed(w):
        request = wide(w.c[0].hidden_head)
        w.c[0].hidden_head = w.r[request].next
        w.c[0].hidden -= 1
        queue(w, request)


@borrowing_kernel
def queue(w: World, request: int) -> None:
    """A request waits in its class."""
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    group = w.r[request].group
    if w.c[0].scheduler == FAIR and w.g[group].waiting == 0 and w.g[group].running == 0:
        # a tenant that comes back has no credit from its absence (VTC, Sheng et al., OSDI 2024)
        least = least_active_service(w)
        if least > w.g[group].service:
            w.g[group].service = least
    push_back(w, request)


@borrowing_kernel
def arrive_next(w: World, now: int) -> None:
    """All requests arrive whose time in the trace is now; find out when the next ones do.

    Turns that wait for the end of the one before are passed over.
    """
    row = w.c[0].next_row
    while row < w.c[0].requests:
        if not (w.c[0].think and w.turn[row].waits):
            if w.r[row].arrival != now:
                break
            arrive(w, row, now)
        row += 1
    w.c[0].next_row = row
    w.c[0].next_arrival = w.r[row].arrival if row < w.c[0].requests else NEVER


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
def ready_place(w: World, i: int) -> int:
    """Where on the ring the ready request lies that comes after i others."""
    at = w.c[0].ready_head + i
    if at >= w.c[0].ready_room:
        at -= w.c[0].ready_room
    return int(at)


@borrowing_inline
def push_ready(w: World, request: int) -> None:
    """A request's pages have all come."""
    w.ready[ready_place(w, w.c[0].ready)] = request
    w.c[0].ready += 1
    w.r[request].state = LOADING


@borrowing_inline
def pop_ready(w: World) -> None:
    """Take the first ready request off the ring."""
    w.c[0].ready_head += 1
    if w.c[0].ready_head == w.c[0].ready_room:
        w.c[0].ready_head = 0
    w.c[0].ready -= 1
