"""Prompts before answers: a step computes prompts alone as long as any comes in, else it decodes.

The scheduler of SGLang 0.5.23 without mixed chunks (`get_next_batch_to_run`, `PrefillAdder`,
`update_running_batch`, `retract_decode`):

- A step of prompts goes on with the one prompt that was cut, then takes waiting requests in order,
  up to the token budget; the last one is cut. Nobody decodes meanwhile.
- A request comes in if the estimate has room for it (`estimates`). Once one does not, nobody is
  tried again until a request leaves the batch (`full`; the engine's `batch_is_full`).
- A decode step has no budget. If pages lack, requests with the fewest generated tokens are
  retracted, of equal ones those with the longest prompt: their pages are free at once, a token on
  its way is lost, and they queue again behind all others. While a request's last token is on its
  way and would free pages, the step is left out instead.
"""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.admission import chunk_tokens
from vsim.sim.engine.calls import come_in, make_room
from vsim.sim.engine.estimates import (
    begin_estimate,
    count_admitted,
    decay_ratio,
    ratio_after_retraction,
    tokens_within_reach,
)
from vsim.sim.engine.free_slots import hbm
from vsim.sim.engine.layout import WRITE_BACK, World
from vsim.sim.engine.pages import pages_of
from vsim.sim.engine.planning import (
    AGAIN,
    WAITS,
    first_tokens,
    forget_computed,
    join_running,
    leave_running,
    make_way,
    resume_ready,
    take_pages,
)
from vsim.sim.engine.queues import next_group, pop_head, push_back
from vsim.sim.engine.refusals import REFUSED, RUNS, begin_wait, end_wait


@borrowing_kernel
def plan_batches(w: World, now: int) -> None:
    """Decide what each request of the batch computes next."""
    w.c[0].prefilling = 0
    for i in range(w.c[0].running):
        w.share[i] = 0
    if prefill_batch(w, now):
        w.c[0].prefilling = 1
        return
    decode_batch(w, now)
    if w.c[0].running == 0 and prefill_batch(w, now):
        w.c[0].prefilling = 1


@borrowing_inline
def unseen_tokens(w: World) -> int:
    """How many requests have a token that the scheduler has not seen yet."""
    return int(w.c[0].emitted) if w.c[0].step_open else 0


@borrowing_kernel
def prefill_batch(w: World, now: int) -> bool:
    """Form a step of prompts; says whether there is one."""
    page_tokens = w.c[0].page_tokens
    budget = w.c[0].token_budget // page_tokens * page_tokens
    decoders = w.c[0].running
    goes_on = w.c[0].chunked_request >= 0
    if goes_on:
        decoders -= 1  # the one that was cut is the last
        w.c[0].full = 0
    batch = decoders + w.c[0].finishing
    if batch == 0:
        w.c[0].full = 0
    if not goes_on and w.c[0].ready == 0 and (w.c[0].full or w.c[0].waiting == 0):
        return False
    begin_estimate(w, decoders)
    formed = False
    if goes_on:
        tokens = go_on(w, now, budget)
        if tokens > 0:
            budget -= pages_of(w, tokens) * page_tokens
            formed = True
    while budget > 0 and w.c[0].chunked_request < 0:
        if w.c[0].ready == 0 and (w.c[0].full or w.c[0].waiting == 0):
            break
        if w.c[0].running + w.c[0].finishing >= w.c[0].max_running:
            w.c[0].full = batch > 0
            break
        if w.c[0].ready > 0:
            request = wide(w.ready[w.c[0].ready_head])
            tokens = chunk_tokens(w, request, budget)
            got = resume_ready(w, request, tokens, now)
            if got == WAITS:
                break
            if got == AGAIN:
                continue
        else:
            group = next_group(w)
            request = w.g[group].head
            got = come_in(w, request, budget, now)
            if got == REFUSED:
                if make_way(w, request):
                    continue
                w.c[0].full = batch > 0
                break
            pop_head(w, group)
            if got != RUNS:
                continue
            tokens = first_tokens(w, request, budget, now)
        join_running(w, request, tokens, now)
        note_part(w, request, tokens)
        budget -= pages_of(w, tokens) * page_tokens
        formed = formed or tokens > 0
        if w.c[0].ready == 0 and tokens_within_reach(w) <= 0.0:
            w.c[0].full = batch > 0
            break
    return formed


@borrowing_inline
def note_part(w: World, request: int, tokens: int) -> None:
    """A request computes so much of its prompt in this step: the rest, or a part."""
    ends = w.r[request].computed + tokens == w.r[request].tokens
    w.c[0].chunked_request = -1 if ends else request
    count_admitted(w, request, ends)


@borrowing_kernel
def go_on(w: World, now: int, budget: int) -> int:
    """Go on with the prompt that was cut; returns how many tokens of it are computed.

    As many as there is room for by the estimate; if there is none, as many as the budget allows:
    it has to end for its pages to come back.
    """
    request = wide(w.c[0].chunked_request)
    room = int(tokens_within_reach(w))
    most = min(budget, room) if room > 0 else budget
    tokens = min(w.r[request].tokens - w.r[request].computed, most)
    retracted = False
    while not take_pages(w, request, tokens):
        if w.c[0].fail_cause == WRITE_BACK:
            w.c[0].stalls += 1
            begin_wait(w, request, now)
            return 0
        retracted = True
        if w.c[0].running == 1:
            w.c[0].chunked_request = -1
            retract(w, wide(0))
            return 0
        retract(w, retraction_victim(w))
    if retracted:
        ratio_after_retraction(w, unseen_tokens(w))
    end_wait(w, request, now)
    w.share[w.c[0].running - 1] = tokens
    note_part(w, request, tokens)
    return int(tokens)


@borrowing_kernel
def decode_batch(w: World, now: int) -> None:
    """Form a step in which every request of the batch computes one token."""
    retracted = False
    i = wide(0)
    while i < w.c[0].running:
        request = wide(w.run[i])
        if request == w.c[0].chunked_request:
            i += 1
            continue
        tokens = wide(1)
        while not take_pages(w, request, wide(1)):
            if w.c[0].fail_cause == WRITE_BACK:
                tokens = wide(0)
                w.c[0].stalls += 1
                begin_wait(w, request, now)
                break
            if w.c[0].finishing > 0 and w.c[0].step_open:
                for k in range(w.c[0].running):
                    w.share[k] = 0
                return
            retracted = True
            index = retraction_victim(w)
            if index < i:
                i -= 1
            gone = w.run[index] == request
            retract(w, index)
            if gone:
                tokens = wide(-1)
                break
        if tokens < 0:
            continue
        if tokens > 0:
            end_wait(w, request, now)
        w.share[i] = tokens
        i += 1
    if retracted:
        ratio_after_retraction(w, unseen_tokens(w))
    elif w.c[0].running > 0:
        decay_ratio(w)


@borrowing_inline
def seen_tokens(w: World, request: int) -> int:
    """How many tokens of a request the scheduler has seen.

    After a decode step each request of the batch has one more, so that one need not be looked for.
    """
    generated = w.r[request].generated
    if w.c[0].step_open and w.c[0].seals:
        for i in range(w.c[0].emitted):
            if w.emit[i] == request:
                generated -= 1
    return int(generated)


@borrowing_kernel
def retraction_victim(w: World) -> int:
    """Index of the request to be retracted: fewest tokens seen, longest prompt, latest."""
    best = wide(-1)
    least = wide(0)
    for i in range(w.c[0].running):
        request = w.run[i]
        if request == w.c[0].chunked_request:
            continue
        seen = seen_tokens(w, wide(request))
        if best >= 0:
            if seen > least:
                continue
            if seen == least and w.r[request].prompt < w.r[w.run[best]].prompt:
                continue
        best = wide(i)
        least = wide(seen)
    return int(best)


@borrowing_kernel
def retract(w: World, index: int) -> None:
    """Take a running request's pages and its unseen token, and put it behind the queue."""
    request = wide(w.run[index])
    if w.c[0].step_open:
        lose_unseen(w, request)
    leave_running(w, index)
    w.r[request].preemptions += 1
    w.r[request].wait_from = -1
    w.c[0].recomputed += 1
    forget_computed(w, request)
    push_back(w, request)
    w.c[0].full = 0
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    decoders = w.c[0].running - (w.c[0].chunked_request >= 0)
    make_room(w, hbm(), pages_of(w, wide(decoders * w.c[0].retract_steps)))


@borrowing_kernel
def lose_unseen(w: World, request: int) -> None:
    """A token that the last step computed is not looked at, and has to be computed again."""
    found = wide(-1)
    for i in range(w.c[0].emitted):
        if w.emit[i] == request:
            found = wide(i)
    if found < 0:
        return
    for i in range(found, w.c[0].emitted - 1):
        w.emit[i] = w.emit[i + 1]
    w.c[0].emitted -= 1
    w.r[request].generated -= 1
    w.r[request].tokens -= 1
