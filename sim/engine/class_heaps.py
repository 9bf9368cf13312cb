"""Which scheduling class comes first, of any number: two binary heaps over the classes.

One heap holds the classes with waiting requests, the other those with waiting or running ones. Each
is ordered by (service, number), as it was when a class was put in. Service only grows, so a class
that has been served since stands too far in front, never too far behind: it is looked at once more
when it comes to the front. A class that has left is taken out there, too. So the front is exactly
what a search through all classes finds, at O(log classes) a change.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.layout import FAIR, World


@borrowing_inline
def precedes(w: World, i: int, j: int) -> bool:
    """Whether entry i is in front of entry j."""
    if w.urgent[i].service != w.urgent[j].service:
        return bool(w.urgent[i].service < w.urgent[j].service)
    return bool(w.urgent[i].group < w.urgent[j].group)


@borrowing_inline
def swap_entries(w: World, i: int, j: int) -> None:
    """Exchange two entries."""
    service, group = w.urgent[i].service, w.urgent[i].group
    w.urgent[i].service, w.urgent[i].group = w.urgent[j].service, w.urgent[j].group
    w.urgent[j].service, w.urgent[j].group = service, group


@borrowing_kernel
def add_entry(w: World, base: int, size: int, group: int) -> None:
    """Put a class into the heap of `size` entries from `base` on."""
    at = size
    w.urgent[base + at].service = w.g[group].service
    w.urgent[base + at].group = group
    while at > 0:
        above = (at - 1) >> 1
        if not precedes(w, base + at, base + above):
            return
        swap_entries(w, base + at, base + above)
        at = above


@borrowing_kernel
def settle_front(w: World, base: int, size: int) -> None:
    """Move the front entry to its place."""
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and precedes(w, base + below + 1, base + below):
            below += 1
        if not precedes(w, base + below, base + at):
            return
        swap_entries(w, base + at, base + below)
        at = below


@borrowing_inline
def refresh_front(w: World, base: int, size: int) -> bool:
    """Look at the front class once more; True if it was where it belongs."""
    group = w.urgent[base].group
    if w.urgent[base].service == w.g[group].service:
        return True
    w.urgent[base].service = w.g[group].service
    settle_front(w, base, size)
    return False


@borrowing_inline
def drop_front(w: World, base: int, size: int) -> None:
    """Take the front entry out."""
    swap_entries(w, base, base + size - 1)
    settle_front(w, base, size - 1)


@borrowing_inline
def note_waiting(w: World, group: int) -> None:
    """A class has waiting requests."""
    if not w.g[group].in_waiting:
        w.g[group].in_waiting = 1
        add_entry(w, wide(0), w.c[0].waiting_heap, group)
        w.c[0].waiting_heap += 1


@borrowing_inline
def note_active(w: World, group: int) -> None:
    """A class has requests that wait or run; only its service matters, so only under `fair`."""
    if w.c[0].scheduler == FAIR and not w.g[group].in_active:
        w.g[group].in_active = 1
        add_entry(w, w.c[0].classes, w.c[0].active_heap, group)
        w.c[0].active_heap += 1


@borrowing_kernel
def most_urgent(w: World) -> int:
    """The least served of the classes with waiting requests, there being one; of equals the first.

    Under other schedulers than `fair` no service is counted, and classes are numbered by urgency.
    """
    base = wide(0)
    while True:
        group = w.urgent[base].group
        if w.g[group].waiting == 0:
            w.g[group].in_waiting = 0
            drop_front(w, base, w.c[0].waiting_heap)
            w.c[0].waiting_heap -= 1
        elif refresh_front(w, base, w.c[0].waiting_heap):
            return int(group)


@borrowing_kernel
def least_active_service(w: World) -> int:
    """The least service of a class with requests that wait or run; -1 if there is none."""
    base = w.c[0].classes
    while w.c[0].active_heap > 0:
        group = w.urgent[base].group
        if w.g[group].waiting + w.g[group].running == 0:
            w.g[group].in_active = 0
            drop_front(w, base, w.c[0].active_heap)
            w.c[0].active_heap -= 1
        elif refresh_front(w, base, w.c[0].active_heap):
            return int(w.g[group].service)
    return -1
