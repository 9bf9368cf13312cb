"""What a waiting request is told, and waiting for pages: since when, why, and what would end it."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.demand import book_wait
from vsim.sim.engine.layout import World
from vsim.sim.engine.pages import flows_are_full, hbm_within_reach, pages_within_reach

REFUSED, RUNS, LOADS = 0, 1, 2


@borrowing_inline
def begin_wait(w: World, request: int, now: int) -> None:
    """A request finds no page; remember since when, and why."""
    if w.r[request].wait_from < 0:
        w.r[request].wait_from = now
        w.r[request].wait_cause = w.c[0].fail_cause


@borrowing_inline
def wait_for_pages(w: World, request: int, now: int) -> None:
    """The head cannot have its pages now."""
    w.c[0].blocked = 1
    begin_wait(w, request, now)


@borrowing_inline
def end_wait(w: World, request: int, now: int) -> None:
    """A request that waited for pages goes on: one fault, with its cause."""
    if w.r[request].wait_from >= 0:
        cause = w.r[request].wait_cause
        w.wait[2 * cause] += 1
        book_wait(w, cause, now - w.r[request].wait_from)
        w.r[request].faults += 1
        w.r[request].fault_wait += now - w.r[request].wait_from
        w.r[request].wait_from = -1


@borrowing_inline
def loads_are_full(w: World) -> bool:
    """Whether no further request may load pages now."""
    return bool(w.c[0].loading >= w.c[0].max_loading or flows_are_full(w))


@borrowing_inline
def remember_refusal(w: World, request: int, key: int, need: int, loads: bool) -> None:
    """Note why a request was refused, so that its prefix need not be looked up before that changes.

    Args:
        w: the world.
        request: who was refused.
        key: of the first page of its prefix that was not found; -1 if all were.
        need: pages that it needs; -1 where too many requests were loading.
        loads: whether it has to load pages, for which only HBM counts.
    """
    w.c[0].refused = request
    w.c[0].refused_key = key
    w.c[0].refused_need = need
    w.c[0].refused_hbm = loads


@borrowing_kernel
def still_refused(w: World, request: int) -> bool:
    """Whether a request was refused before and nothing has changed that could help it."""
    if w.c[0].refused != request or w.c[0].running == 0:
        return False
    if w.c[0].refused_need < 0:
        return loads_are_full(w)
    reach = hbm_within_reach(w) if w.c[0].refused_hbm else pages_within_reach(w)
    return bool(reach < w.c[0].refused_need)
