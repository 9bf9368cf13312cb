"""What the next step does: its batch, its pages, its copies; see `deciding`."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.admission import chunk_tokens
from vsim.sim.engine.calls import come_in
from vsim.sim.engine.class_marks import next_marked
from vsim.sim.engine.demand import account_idle
from vsim.sim.engine.group_tables import lacking_units, take_groups
from vsim.sim.engine.layout import CAPACITY, RUNNING, WRITE_BACK, World
from vsim.sim.engine.pages import (
    append_run,
    close_copy,
    pages_of,
    pages_within_reach,
)
from vsim.sim.engine.queues import (
    count_running,
    next_group,
    pop_head,
    pop_ready,
    preemption_victim,
    push_front,
    ready_place,
)
from vsim.sim.engine.refusals import (
    REFUSED,
    RUNS,
    begin_wait,
    end_wait,
    still_refused,
    wait_for_pages,
)
from vsim.sim.engine.runs import owe_pages, release_pages
from vsim.sim.engine.swapping import swap_out

RESUMES, AGAIN, WAITS = 0, 1, 2


@borrowing_inline
def note_idle(w: World, now: int) -> None:
    """Nothing to compute: remember since when and why, and book the time before another reason."""
    cause = 0
    if w.c[0].running + w.c[0].loading + w.c[0].ready + w.c[0].waiting > 0:
        cause = 1 if w.c[0].flows + w.c[0].out > 0 else 2
    if w.c[0].idle_from >= 0 and w.c[0].idle_cause != cause:
        account_idle(w, now)
    if w.c[0].idle_from < 0:
        w.c[0].idle_from = now
        w.c[0].idle_cause = cause


@borrowing_kernel
def close_copies(w: World) -> None:
    """Put this step's write-backs, one transfer a pair of tiers, into the outbox."""
    for path in range(w.c[0].paths):
        close_copy(w, path, w.c[0].page_bytes)


@borrowing_inline
def chunk_pages(w: World, request: int, tokens: int) -> int:
    """Room, in units, that a request lacks to compute `tokens` more."""
    if w.c[0].grouped:
        return lacking_units(w, request, tokens)
    return int(pages_of(w, w.r[request].computed + tokens) - w.r[request].held)


@borrowing_kernel
def take_pages(w: World, request: int, tokens: int) -> bool:
    """Give a request the pages for its next `tokens`; what it got stays when this fails."""
    if w.c[0].grouped:
        return take_groups(w, request, tokens)
    need = chunk_pages(w, request, tokens)
    while need > 0:
        taken = append_run(w, request, need)
        if taken == 0:
            return False
        need -= taken
    return True


@borrowing_kernel
def grow_running(w: World, now: int) -> bool:
    """Pages for the running requests, in order. Says whether one had to give way.

    A request that finds no page stalls while pages are on their way out; when nothing is, the
    last admitted of the least urgent class is preempted.
    """
    preempted = False
    budget = w.c[0].token_budget
    i = wide(0)
    while i < w.c[0].running:
        request = w.run[i]
        tokens = chunk_tokens(w, request, budget)
        if tokens < 0 or (budget <= 0 and w.c[0].chunked):
            tokens = 0
        here = True
        while tokens > 0 and not take_pages(w, request, tokens):
            if w.c[0].fail_cause == WRITE_BACK:
                tokens = 0
                w.c[0].stalls += 1
                begin_wait(w, request, now)
                break
            preempted = True
            index = preemption_victim(w)
            victim = w.run[index]
            if index < i:
                budget += w.share[index]
                i -= 1
            leave_running(w, index)
            preempt(w, victim)
            if victim == request:
                here = False
                break
        if not here:
            continue
        if tokens > 0:
            end_wait(w, request, now)
        w.share[i] = tokens
        budget -= tokens
        i += 1
    w.c[0].budget_left = budget
    return preempted


@borrowing_inline
def leave_running(w: World, index: int) -> None:
    """Close the gap a request leaves in the batch."""
    w.g[w.r[w.run[index]].group].running -= 1
    for i in range(index, w.c[0].running - 1):
        w.run[i] = w.run[i + 1]
        w.share[i] = w.share[i + 1]
    w.c[0].running -= 1


@borrowing_kernel
def preempt(w: World, request: int) -> None:
    """Take a request's pages away: swapped out if that can be done, else recomputed later."""
    w.r[request].preemptions += 1
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    w.r[request].wait_from = -1
    if w.c[0].swap and swap_out(w, request):
        w.r[request].swapped = 1
        w.c[0].swapped += 1
    else:
        forget_computed(w, request)
        w.c[0].recomputed += 1
    push_front(w, request)


@borrowing_inline
def join_running(w: World, request: int, tokens: int, now: int) -> None:
    """Add a request to the batch."""
    i = w.c[0].running
    w.run[i] = request
    w.share[i] = tokens
    w.c[0].running = i + 1
    w.c[0].joined += 1
    count_running(w, w.r[request].group)
    w.r[request].state = RUNNING
    if w.r[request].admitted < 0:
        w.r[request].admitted = now
    if i + 1 > w.c[0].peak_running:
        w.c[0].peak_running = i + 1


@borrowing_kernel
def admit_requests(w: World, now: int) -> None:
    """Fill what is left of the batch: loaded requests first, then waiting ones by class."""
    budget = w.c[0].budget_left
    while budget > 0 and w.c[0].running + w.c[0].finishing < w.c[0].max_running:
        if w.c[0].ready > 0:
            request = wide(w.ready[w.c[0].ready_head])
            tokens = chunk_tokens(w, request, budget)
            got = resume_ready(w, request, tokens, now)
            if got == WAITS:
                return
            if got == AGAIN:
                continue
        elif w.c[0].waiting > 0:
            group = next_group(w)
            request = w.g[group].head
            if still_refused(w, request):
                w.c[0].blocked = 1
                return
            got = come_in(w, request, budget, now)
            if got == REFUSED:
                if make_way(w, request):
                    continue
                return
            pop_head(w, group)
            if got != RUNS:
                continue
            tokens = first_tokens(w, request, budget, now)
        else:
            return
        join_running(w, request, tokens, now)
        budget -= tokens


@borrowing_kernel
def resume_ready(w: World, request: int, tokens: int, now: int) -> int:
    """Pages for the first of the loaded requests to compute `tokens`, and it leaves their queue.

    Else it waits for pages, or says that one gave way and that it is to be tried again.
    """
    if pages_within_reach(w) < chunk_pages(w, request, tokens):
        w.c[0].fail_cause = CAPACITY
    elif take_pages(w, request, tokens):
        end_wait(w, request, now)
        pop_ready(w)
        return RESUMES
    if make_way(w, request):
        return AGAIN
    wait_for_pages(w, request, now)
    return WAITS


@borrowing_kernel
def first_tokens(w: World, request: int, budget: int, now: int) -> int:
    """How many tokens a request that came in computes at once: none while it waits for pages."""
    tokens = chunk_tokens(w, request, budget)
    if take_pages(w, request, tokens):
        return tokens
    begin_wait(w, request, now)
    return 0


@borrowing_kernel
def make_way(w: World, needy: int) -> bool:
    """When nothing runs and requests that hold pages block one another, one gives its pages back.

    The youngest that was loaded, else the last that was swapped out, but never the needy one.
    """
    if w.c[0].running > 0:
        return False
    if w.c[0].ready >= 2:
        w.c[0].ready -= 1
        youngest = wide(w.ready[ready_place(w, w.c[0].ready)])
        give_back(w, youngest)
        push_front(w, youngest)
        return True
    if w.c[0].loading + w.c[0].flows + w.c[0].out + w.c[0].pending > 0:
        return False
    if not w.c[0].swap:
        return False
    last = wide(-1)
    group = next_marked(w, wide(0))
    while group >= 0:
        request = w.g[group].head
        while request >= 0:
            if w.r[request].swapped and request != needy:
                last = request
            request = w.r[request].next
        group = next_marked(w, group + 1)
    if last < 0:
        return False
    w.r[last].swapped = 0
    give_back(w, last)
    return True


@borrowing_inline
def give_back(w: World, request: int) -> None:
    """Take a request's pages from it; it computes again what it does not find again."""
    w.c[0].unstuck += 1
    w.r[request].wait_from = -1
    forget_computed(w, request)


@borrowing_inline
def forget_computed(w: World, request: int) -> None:
    """Take a request's pages; what it computes once more is counted as recomputed."""
    if w.c[0].holds_back and w.c[0].step_open:
        owe_pages(w, request)
    else:
        release_pages(w, request)
    w.r[request].furthest = max(w.r[request].furthest, w.r[request].computed)
    w.r[request].computed = 0
