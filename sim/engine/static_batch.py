"""Static batching with padding, the baseline that continuous batching replaced.

A batch is formed only when the server is empty. Every request is padded to the longest prompt and
holds pages for the longest prompt and output until the whole batch has ended (the scheme that
Yu et al., Orca, OSDI 2022, section 3, describes and replaces).
"""

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.batch_sums import add_attention, clear_sums
from vsim.sim.engine.group_tables import note_requests_pages
from vsim.sim.engine.layout import RUNNING, World
from vsim.sim.engine.pages import append_page, pages_of
from vsim.sim.engine.queues import count_running, next_group, pop_head


@borrowing_kernel
def form_batch(w: World, now: int) -> None:
    """Take waiting requests as long as all of them, padded, fit."""
    prompt = 0
    output = 0
    while w.c[0].waiting > 0 and w.c[0].running < w.c[0].max_running:
        group = next_group(w)
        request = w.g[group].head
        longest_prompt = max(prompt, w.r[request].prompt)
        longest_output = max(output, w.r[request].output)
        pages = pages_of(w, longest_prompt + longest_output)
        if pages > w.c[0].row_pages or pages * (w.c[0].running + 1) > w.t[0].capacity:
            break
        prompt = longest_prompt
        output = longest_output
        pop_head(w, group)
        i = w.c[0].running
        w.run[i] = request
        w.c[0].running = i + 1
        count_running(w, group)
        w.r[request].state = RUNNING
        w.r[request].admitted = now
    pages = pages_of(w, prompt + output)
    for i in range(w.c[0].running):
        request = w.run[i]
        w.c[0].free_rows -= 1
        w.r[request].row = w.rows[w.c[0].free_rows]
        while w.r[request].held < pages:
            append_page(w, request)
    w.c[0].batch_prompt = prompt
    w.c[0].batch_step = 0
    if w.c[0].running > w.c[0].peak_running:
        w.c[0].peak_running = w.c[0].running


@borrowing_kernel
def plan_batch(w: World, now: int) -> bool:
    """The padded prompt first, then one token a request and step, finished requests included."""
    if w.c[0].running == 0:
        form_batch(w, now)
        if w.c[0].running == 0:
            return False
    n = w.c[0].running
    if w.c[0].batch_step == 0:
        each = w.c[0].batch_prompt
        done = 0
    else:
        each = 1
        done = w.c[0].batch_prompt + w.c[0].batch_step - 1
    used = 0
    for i in range(n):
        request = w.run[i]
        w.share[i] = 0
        if w.r[request].generated < w.r[request].output:
            w.share[i] = w.r[request].tokens - w.r[request].computed
        used += w.r[request].computed + w.share[i]
    w.c[0].step_tokens = n * each
    w.c[0].step_prefill = n * each if w.c[0].batch_step == 0 else 0
    w.c[0].step_sampled = n
    w.c[0].step_context = n * (done + each)
    clear_sums(w)
    for _ in range(n):
        add_attention(w, done, each)
    w.c[0].used_tokens = used
    w.c[0].held_tokens = n * w.r[w.run[0]].held * w.c[0].page_tokens
    note_requests_pages(w, w.c[0].batch_step == 0)
    w.c[0].batch_step += 1
    return True
