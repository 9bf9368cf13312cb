"""`plan`: what the next step does, by the rules of the engine."""

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.batch_sums import sum_step
from vsim.sim.engine.calls import plan_batches, reclaim
from vsim.sim.engine.demand import account_pages
from vsim.sim.engine.emitting import emit
from vsim.sim.engine.incoming import prefetch
from vsim.sim.engine.layout import World
from vsim.sim.engine.planning import admit_requests, close_copies, grow_running, note_idle
from vsim.sim.engine.queues import reveal
from vsim.sim.engine.static_batch import plan_batch


@borrowing_kernel
def plan(w: World, now: int) -> bool:
    """Decide the next step; False when there is nothing to compute. Copies go to the outbox.

    A pipelined engine decides as of `plan_at`, when it last saw tokens. Where it finds nothing to
    do then, it waits for those of the last step and decides again.
    """
    if not w.c[0].step_open:
        w.c[0].plan_at = max(w.c[0].plan_at, now)
    computes = plan_once(w, now)
    if not computes and w.c[0].step_open:
        emit(w, now)
        w.c[0].plan_at = now
        computes = plan_once(w, now)
    if not computes:
        if w.c[0].running + w.c[0].waiting + w.c[0].ready + w.c[0].loading == 0:
            w.x[0].token_ratio = w.x[0].ratio_first
        note_idle(w, now)
    return computes


@borrowing_kernel
def plan_once(w: World, now: int) -> bool:
    """See `plan`."""
    account_pages(w, now)
    reclaim(w)
    reveal(w)
    if w.c[0].static:
        computes = plan_batch(w, now)
    elif w.c[0].prefill_first:
        plan_batches(w, now)
        if w.c[0].prefetch_requests > 0 and not w.c[0].prefetch_idle and w.c[0].waiting > 0:
            prefetch(w, now)
        computes = sum_step(w)
    else:
        preempted = grow_running(w, now)
        if not w.c[0].blocked and (not preempted or w.c[0].running == 0):
            admit_requests(w, now)
        if w.c[0].prefetch_requests > 0 and not w.c[0].prefetch_idle and w.c[0].waiting > 0:
            prefetch(w, now)
        computes = sum_step(w)
    close_copies(w)
    return computes
