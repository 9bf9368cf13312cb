"""Steps between events: starting what was planned, and batches that only decode."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.batch_sums import sum_decodes
from vsim.sim.engine.committing import submit_copies
from vsim.sim.engine.demand import account_pages, account_step, begin_step, open_step
from vsim.sim.engine.emitting import close_step
from vsim.sim.engine.estimates import decay_ratio
from vsim.sim.engine.fluid import advance_service, settle
from vsim.sim.engine.free_slots import hbm, take_free
from vsim.sim.engine.group_tables import ends_below, note_requests_pages, quiet_steps
from vsim.sim.engine.layout import FAIR, IDLE, NEVER, World
from vsim.sim.engine.pages import attach_page, tier_of
from vsim.sim.engine.queues import is_revealed
from vsim.sim.engine.room import reclaim_is_idle


@borrowing_kernel
def log_has_room(w: World) -> bool:
    """Whether the logs can take what one step or one delivery may add."""
    if w.c[0].steps + 1 >= w.c[0].step_room:
        return False
    if w.c[0].exceptions + w.c[0].max_running >= w.c[0].gap_room:
        return False
    if w.c[0].log_transfers == 0:
        return True
    rows = w.c[0].operations + w.c[0].flows + w.c[0].out + w.c[0].tiers + 2
    pages = w.c[0].operation_pages + w.c[0].op_page_reserve
    return bool(rows < w.c[0].op_room and pages < w.c[0].op_page_room)


@borrowing_kernel
def start_planned(w: World, computes: bool, now: int) -> int:
    """Submit what `plan` decided. Returns the end of the step, or IDLE."""
    started = submit_copies(w, now)
    if computes:
        return begin_step(w, now)
    if started or w.c[0].flows > 0:
        settle(w, now)
    return IDLE


@borrowing_inline
def second_comes(w: World, request: int) -> bool:
    """Whether a step to come gives its second token, whose gap is not a step's own length."""
    if w.c[0].pipelined:
        return bool(w.r[request].first < 0)  # one that nobody has seen yet is its first
    return bool(w.r[request].first == w.r[request].last)


@borrowing_kernel
def run_length(w: World, now: int) -> int:
    """How many steps the batch will only decode: nobody joins, leaves or completes a keyed page.

    Zero unless every running request computed its last token in the step that ended just now and
    planning would find nothing else to do.
    """
    n = w.c[0].running
    if w.c[0].pending > 0 or w.c[0].log_steps:
        return 0  # copies that a finished page called for wait to be planned
    if n == 0 or w.c[0].static or n > w.c[0].token_budget:
        return 0
    if not w.c[0].pipelined and w.c[0].previous_end != now:
        return 0
    if w.c[0].pipelined and (not w.c[0].step_open or w.c[0].emitted != n or w.c[0].finishing > 0):
        return 0
    if w.c[0].prefill_first:
        if w.c[0].chunked_request >= 0 or w.c[0].ready > 0:
            return 0
        if w.c[0].waiting > 0 and not w.c[0].full:
            return 0
    elif (
        not w.c[0].blocked
        and n < w.c[0].token_budget
        and n < w.c[0].max_running
        and w.c[0].waiting + w.c[0].ready > 0
    ):
        return 0
    if w.c[0].prefetch_requests > 0 and not w.c[0].prefetch_idle and w.c[0].waiting > 0:
        return 0
    length = NEVER
    page_tokens = w.c[0].page_tokens
    window = w.c[0].window_tokens
    for i in range(n):
        request = w.run[i]
        computed = w.r[request].computed
        if w.r[request].tokens - computed != 1:
            return 0
        if not w.c[0].pipelined and w.r[request].last != now:
            return 0
        if w.r[request].wait_from >= 0:
            return 0
        if w.x[0].first_ns > 0 and second_comes(w, request):
            return 0
        length = min(length, w.r[request].output - w.r[request].generated - 1)
        if w.c[0].caching and not w.c[0].late:
            page = computed // page_tokens
            if page < w.r[request].keys:
                length = min(length, (page + 1) * page_tokens - 1 - computed)
        if window > 0 and w.c[0].chunked_window:
            length = min(length, window - computed % window)
        elif window > 0 and computed < window:
            length = min(length, window - computed)
        if w.c[0].grouped:
            length = min(length, quiet_steps(w, request))
        if w.c[0].lower_attends and w.c[0].grouped:
            if ends_below(w, request):
                return 0
        elif w.c[0].lower_attends and w.r[request].held > 0:
            last = w.table[w.r[request].row * w.c[0].row_pages + w.r[request].held - 1]
            if tier_of(w, last) > 0:
                return 0
    return length


@borrowing_kernel
def decode_run(w: World, now: int, horizon: int) -> int:
    """Advance a batch that only decodes, at a constant cost a step; returns the time reached.

    Does exactly what plan, begin_step and commit would do, for steps that end before the horizon
    and before any transfer does.
    """
    length = run_length(w, now)
    if length < 2:
        return now
    n = w.c[0].running
    page_tokens = w.c[0].page_tokens
    below = 0
    window = w.c[0].window_tokens
    held = 0
    next_page = NEVER
    sum_decodes(w)
    used = w.c[0].decode_context
    w.c[0].prefilling = 0
    for i in range(n):
        request = w.run[i]
        computed = w.r[request].computed
        held += w.r[request].held
        next_page = min(next_page, w.r[request].held * page_tokens - computed)
        if computed < window or w.c[0].chunked_window:
            below += 1
    done = 0
    while done < length and w.c[0].steps + 1 < w.c[0].step_room:
        if not reclaim_is_idle(w) or is_revealed(w) or w.c[0].pending > 0:
            break
        need = 0
        if done == next_page:
            for i in range(n):
                request = w.run[i]
                if w.r[request].held * page_tokens == w.r[request].computed + done:
                    need += 1
            if w.t[0].free < need or w.c[0].balanced:
                break
            account_pages(w, now)
        # what begin_step will see; undone below if the step turns out to end too late
        w.c[0].step_tokens = n
        w.c[0].step_prefill = 0
        w.c[0].step_sampled = n
        w.c[0].step_context = w.c[0].decode_context
        if need > 0:
            held += need
            next_page = NEVER
            for i in range(n):
                request = w.run[i]
                room = w.r[request].held * page_tokens - w.r[request].computed
                if room == done:
                    w.t[0].allocated += 1
                    attach_page(w, request, hbm(), take_free(w, hbm()))
                    room += page_tokens
                next_page = min(next_page, room)
        w.c[0].held_tokens = held * page_tokens
        w.c[0].used_tokens = used
        if done == 0 or need > 0:
            note_requests_pages(w, False)
        end = begin_step(w, now)
        w.c[0].seals = 0
        if w.c[0].prefill_first:
            decay_ratio(w)
        if end >= horizon or end >= w.c[0].next_flow:
            # the step is under way: leave it so, as `advance` would
            break
        if w.c[0].flows > 0:
            advance_service(w, end)
        account_pages(w, end)
        account_step(w, end)
        w.c[0].in_flight = 0
        open_step(w, end, n)
        w.c[0].step_no += 1
        w.c[0].emitted = n
        w.c[0].uniform = 1
        if not w.c[0].pipelined:
            close_step(w, end, n)
        now = end
        done += 1
        used += n
        w.c[0].decode_context += n
        w.c[0].near_decode_context += below
    w.c[0].uniform = 0
    if done > 0:
        for i in range(n):
            request = w.run[i]
            w.emit[i] = request
            w.r[request].computed += done
            w.r[request].tokens += done
            w.r[request].generated += done
            w.r[request].last = w.c[0].previous_end
            if w.c[0].scheduler == FAIR:
                w.g[w.r[request].group].service += done
        w.c[0].fast_steps += done
    if w.c[0].in_flight:
        for i in range(n):
            w.share[i] = 1
    return now
