"""`commit`: the state after a step ended; and what happens when transfers have arrived."""

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.alike import AT_ONCE, rises
from vsim.sim.engine.calls import reclaim
from vsim.sim.engine.demand import account_pages, account_step, open_step
from vsim.sim.engine.emitting import emit
from vsim.sim.engine.fluid import finish_flows, settle, start_flow
from vsim.sim.engine.free_slots import hbm
from vsim.sim.engine.group_prefix import keep_states, publish_groups
from vsim.sim.engine.group_tables import pass_behind
from vsim.sim.engine.incoming import finish_loading
from vsim.sim.engine.layout import ATTEND, COMPUTE, COPY, FAIR, INBOUND, World
from vsim.sim.engine.pages import close_copy, pages_of, tier_of, unpin, write_through
from vsim.sim.engine.pinned_runs import unpin_run
from vsim.sim.engine.planning import leave_running
from vsim.sim.engine.runs import publish_run


@borrowing_kernel
def commit(w: World, now: int) -> None:
    """The step under way ends now: its tokens are there, full pages can be found.

    A pipelined engine sees the tokens only once it has launched the next step, see `begin_step`.
    """
    account_pages(w, now)
    account_step(w, now)
    if w.c[0].log_steps:
        log_step_operations(w, now)
    w.c[0].in_flight = 0
    running = w.c[0].running
    page_tokens = w.c[0].page_tokens
    emitted = wide(0)
    i = wide(0)
    while i < w.c[0].running:
        request = w.run[i]
        share = w.share[i]
        before = w.r[request].computed
        computed = before + share
        w.r[request].computed = computed
        if before < w.r[request].furthest:
            w.c[0].recomputed_tokens += min(computed, w.r[request].furthest) - before
        if w.c[0].grouped and share > 0:
            if w.c[0].caching:
                publish_groups(w, request, before // page_tokens, computed // page_tokens)
                keep_states(w, request, before)
            pass_behind(w, request)
        elif w.c[0].caching and share > 0 and (not w.c[0].late or computed < w.r[request].tokens):
            publish_pages(w, request, before // page_tokens, computed // page_tokens)
        if w.c[0].scheduler == FAIR and share > 0:
            w.g[w.r[request].group].service += share
        if share > 0 and computed == w.r[request].tokens:
            generated = w.r[request].generated + 1
            w.r[request].generated = generated
            w.r[request].tokens = computed + 1
            w.emit[emitted] = request
            emitted += 1
            if generated == w.r[request].output and not w.c[0].static:
                w.c[0].finishing += 1
                leave_running(w, i)
                continue
        i += 1
    open_step(w, now, running)
    w.c[0].emitted = emitted
    w.c[0].seals = w.c[0].prefilling
    w.c[0].step_no += 1
    if not w.c[0].pipelined:
        emit(w, now)


@borrowing_kernel
def log_operation(w: World, kind: int, tier: int, size_bytes: int, now: int) -> None:
    """Append one operation of the step that ends now; it has no pages yet."""
    o = w.c[0].operations
    w.op[o].serial = w.c[0].flow_serial
    w.c[0].flow_serial += 1
    w.op[o].step = w.c[0].step_no
    w.op[o].kind = kind
    w.op[o].source = tier
    w.op[o].target = -1
    w.op[o].bytes = size_bytes
    w.op[o].submit = w.c[0].step_start
    w.op[o].start = w.c[0].step_start if kind == COMPUTE else w.c[0].step_fixed_end
    w.op[o].end = now
    w.op[o].pages_from = w.c[0].operation_pages
    w.op[o].pages = 0
    w.op[o].batch = 0
    w.c[0].operations = o + 1


@borrowing_inline
def logged_tokens(w: World, i: int) -> tuple[int, int]:
    """What request i of the batch computes, its padding included, and what it has afterwards."""
    if w.c[0].static:
        return w.c[0].step_tokens // w.c[0].running, w.c[0].step_context // w.c[0].running
    return w.share[i], w.r[w.run[i]].computed + w.share[i]


@borrowing_kernel
def log_batch(w: World) -> None:
    """Note the batch with the operation logged last.

    Its requests, their new tokens, their contexts, and who gets an output token.
    """
    at = w.c[0].operation_pages
    n = wide(0)
    for i in range(w.c[0].running):
        n += logged_tokens(w, wide(i))[0] > 0
    k = wide(0)
    for i in range(w.c[0].running):
        tokens, context = logged_tokens(w, wide(i))
        if tokens > 0:
            w.op_pages[at + k] = w.run[i]
            w.op_pages[at + n + k] = tokens
            w.op_pages[at + 2 * n + k] = context
            w.op_pages[at + 3 * n + k] = w.c[0].static or context == w.r[w.run[i]].tokens
            k += 1
    w.op[w.c[0].operations - 1].batch = 4 * n
    w.op[w.c[0].operations - 1].pages_from = at + 4 * n
    w.c[0].operation_pages = at + 4 * n


@borrowing_kernel
def log_step_operations(w: World, now: int) -> None:
    """Log the step's arithmetic with its weights and batch, and what it attends to in each tier.

    With an attend go the number of each request's pages, then the pages.
    """
    weights = w.tc[0].step_bytes * w.x[0].weight_share
    log_operation(w, wide(COMPUTE), hbm(), int(weights), now)
    log_batch(w)
    n = w.op[w.c[0].operations - 1].batch // 4
    for tier in range(w.c[0].tiers):
        size = w.tc[tier].step_bytes
        if tier == 0:
            size -= weights
        if size <= 0.0 and not w.c[0].static:  # whose sums count its pages below HBM as HBM's
            continue
        log_operation(w, wide(ATTEND), tier, int(size), now)
        counts = wide(w.c[0].operation_pages)
        first = counts + n
        at = first
        for i in range(w.c[0].running):
            tokens, context = logged_tokens(w, wide(i))
            if tokens == 0:
                continue
            base = w.r[w.run[i]].row * w.c[0].row_pages
            before = at
            for k in range(pages_of(w, context)):
                slot = w.table[base + k]
                if tier_of(w, slot) == tier:
                    w.op_pages[at] = slot
                    at += 1
            w.op_pages[counts] = at - before
            counts += 1
        if size <= 0.0 and at == first:
            w.c[0].operations -= 1
            w.c[0].flow_serial -= 1
            continue
        w.op[w.c[0].operations - 1].batch = n
        w.op[w.c[0].operations - 1].pages_from = first
        w.op[w.c[0].operations - 1].pages = at - first
        w.c[0].operation_pages = at


@borrowing_inline
def publish_pages(w: World, request: int, first: int, end: int) -> None:
    """Make the pages completed in this step findable, as far as the trace gives them keys."""
    end = min(end, w.r[request].keys)
    if first < end:
        w.c[0].blocked = 0  # the waiting head may hit them
        w.c[0].prefetch_idle = 0
        while first < end:
            key, count = publish_run(w, request, first, end)
            # whole or, where blocks are finer, in part
            if key <= w.c[0].refused_key < key + count or w.c[0].part_ratio > 1:
                w.c[0].refused = -1
            first += count


@borrowing_kernel
def deliver(w: World, i: int, now: int) -> None:
    """A transfer has arrived: its pages can be read, and its sources are no longer needed."""
    target = wide(w.done[i].first)
    target_tier = tier_of(w, target)
    log = w.c[0].log_transfers
    at = w.c[0].operation_pages
    count = w.done[i].pages
    if log:
        o = w.c[0].operations
        w.op[o].serial = w.done[i].serial
        w.op[o].step = w.done[i].step
        w.op[o].kind = COPY
        w.op[o].source = tier_of(w, wide(w.source[target]))
        w.op[o].target = target_tier
        w.op[o].bytes = w.done[i].bytes
        w.op[o].submit = w.done[i].submit
        w.op[o].start = w.done[i].submit
        w.op[o].end = now
        w.op[o].pages_from = at
        w.op[o].pages = 2 * count  # sources, then targets
        w.op[o].batch = 0
        w.c[0].operations = o + 1
        w.c[0].operation_pages = at + 2 * count
    below = w.t[target_tier].next_tier
    through = below >= 0 and w.t[below].through
    k = wide(0)
    while target >= 0:
        source = wide(w.source[target])
        source_tier = tier_of(w, source)
        n, step = delivered_run(w, target)
        last = target + (n - 1) * step
        following = wide(w.chain[last])
        for page in range(min(target, last), max(target, last) + 1):
            w.flags[page] &= ~INBOUND
        if log:
            for i in range(n):
                w.op_pages[at + k + i] = source + i * step
                w.op_pages[at + count + k + i] = target + i * step
        k += n
        if through and source_tier < target_tier:
            for i in range(n):
                page = target + i * step
                if w.holds[page] >= 0:
                    write_through(w, target_tier, page)
                unpin(w, target_tier, page)
                unpin(w, source_tier, source + i * step)
        else:
            unpin_run(w, target_tier, target, n, step)
            unpin_run(w, source_tier, source, n, step)
        target = following


@borrowing_inline
def delivered_run(w: World, target: int) -> tuple[int, int]:
    """Pages of a transfer from `target` on whose slots follow each other, as do their sources'.

    How many, and whether the slots rise (1) or fall (-1).
    """
    step = wide(-1 if w.chain[target] == target - 1 else 1)
    source = w.source[target]
    count = wide(1)
    if step > 0:
        while (
            target + AT_ONCE < w.c[0].slots
            and rises(w.chain, target, target + 1)
            and rises(w.source, target + 1, source + 1)
        ):
            target += AT_ONCE
            source += AT_ONCE
            count += AT_ONCE
    else:
        while (
            target >= AT_ONCE
            and rises(w.chain, target - AT_ONCE + 1, target - AT_ONCE)
            and rises(w.source, target - AT_ONCE, source - AT_ONCE)
        ):
            target -= AT_ONCE
            source -= AT_ONCE
            count += AT_ONCE
    while (
        w.chain[target] >= 0  # slot 0 may be the last, and what ends a chain looks like falling
        and w.chain[target] == target + step
        and w.source[target + step] == source + step
    ):
        target += step
        source += step
        count += 1
    return count, step


@borrowing_kernel
def deliver_all(w: World, now: int) -> None:
    """Everything that has arrived: pages first, then the requests that waited for them."""
    account_pages(w, now)
    w.c[0].blocked = 0
    w.c[0].prefetch_idle = 0
    for i in range(w.c[0].done):
        deliver(w, i, now)
    w.c[0].done = 0
    if w.c[0].waits:
        reclaim(w)  # pages that waited for a slot below
    finish_loading(w, now)
    for path in range(w.c[0].paths):
        close_copy(w, path, w.c[0].page_bytes)


@borrowing_kernel
def submit_copies(w: World, now: int) -> bool:
    """Start every transfer in the outbox; says whether there was one."""
    n = w.c[0].out
    for i in range(n):
        start_flow(w, now, w.out[i].path, w.out[i].first, w.out[i].pages, w.out[i].bytes)
    w.c[0].out = 0
    return bool(n > 0)


@borrowing_kernel
def end_transfers(w: World, now: int) -> int:
    """Transfers are through or arrive now; returns how many arrived."""
    finish_flows(w, now)
    arrived = w.c[0].done
    if arrived > 0:
        deliver_all(w, now)
    submit_copies(w, now)
    settle(w, now)
    return int(arrived)
