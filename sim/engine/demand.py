"""What a step needs from the machine, how long that takes alone, and what it is bound by."""

import math

from vsim.sim.compiled import borrowing_inline, borrowing_kernel, wide
from vsim.sim.engine.emitting import close_step, emit
from vsim.sim.engine.exact_sums import LOW_BITS, add_product
from vsim.sim.engine.fluid import settle
from vsim.sim.engine.layout import (
    CAUSES,
    COMPUTE_BOUND,
    HBM_BOUND,
    LAST_NS,
    LOWER_BOUND,
    World,
)
from vsim.sim.engine.looking_up import curve_at, decode_at, grid_at, look_up

_CAUSES = len(CAUSES)


@borrowing_inline
def alone_ns(w: World, tier: int) -> float:
    """What a lower tier's part of an attend takes alone."""
    return float(1e9 * w.tc[tier].step_bytes / w.tc[tier].read_bytes_per_s)


@borrowing_inline
def beside_ns(w: World, tier: int, alone: float) -> float:
    """What a lower tier's part takes beside the others; see `vsim.sim.timing.attend`.

    Args:
        w: the server.
        tier: which.
        alone: what all parts take alone, one behind the other.
    """
    own = alone_ns(w, tier)
    if own > 0.0:
        own += w.tc[tier].waits * (alone - own)
    return float(own)


@borrowing_inline
def power_sum(w: World, hbm: float, alone: float, longest: float) -> float:
    """(Σ t^p)^(1/p) over the tiers' times, scaled by the longest so that no power underflows."""
    total = (hbm / longest) ** w.x[0].exponent
    for tier in range(1, w.c[0].tiers):
        total += (beside_ns(w, tier, alone) / longest) ** w.x[0].exponent
    return float(longest * total ** (1.0 / w.x[0].exponent))


@borrowing_inline
def context_in_hbm(w: World, context: int, near: int, lower: int, lower_bytes: int) -> float:
    """Tokens of a context that are read from HBM: all but so many, or what so many bytes stand for.

    Of several groups, tiers under HBM hold bytes, and count as if they held the same share of each.

    Args:
        w: the world.
        context: tokens, of all requests.
        near: those of them that windows see.
        lower: tokens that lie under HBM.
        lower_bytes: the same in bytes, where there are several groups.
    """
    if lower_bytes > 0:
        share = w.x[0].window_share
        scale = w.x[0].kv_read * ((1.0 - share) + share * (near / context))
        return float(max(context - lower_bytes / scale, 0.0))
    return float(context - lower)


@borrowing_kernel
def attention_ns(w: World) -> float:
    """What the step's attention takes over HBM alone; see `step_time.attention_ns`.

    Of what windows see, tiers under HBM hold the share that they hold of all that is seen.
    """
    decodes = 0.0
    near = w.c[0].times_near_decode >= 0
    if w.c[0].decodes > 0:
        count = float(w.c[0].decodes)
        context = context_in_hbm(
            w,
            w.c[0].decode_context,
            w.c[0].near_decode_context,
            w.c[0].decode_lower,
            w.c[0].decode_lower_bytes,
        )
        decodes = decode_at(w, count, context / count)
        if near:
            seen = w.c[0].near_decode_context * (context / w.c[0].decode_context)
            decodes += grid_at(w, w.c[0].times_near_decode, count, seen / count)
    if w.c[0].chunk_tokens == 0:
        return decodes
    tokens = float(w.c[0].chunk_tokens)
    arithmetic = grid_at(w, w.c[0].times_prefill, tokens, w.c[0].chunk_pairs / tokens)
    context = context_in_hbm(
        w,
        w.c[0].chunk_context,
        w.c[0].near_chunk_context,
        w.c[0].chunk_lower,
        w.c[0].chunk_lower_bytes,
    )
    if near:
        pairs = w.c[0].near_chunk_pairs
        arithmetic += grid_at(w, w.c[0].times_near_prefill, tokens, pairs / tokens)
        seen = w.c[0].near_chunk_context * (context / w.c[0].chunk_context)
        context = (1.0 - w.x[0].window_share) * context + w.x[0].window_share * seen
    reading = context * w.x[0].prefill_context_ns
    if arithmetic >= reading:
        w.x[0].prefill_ns = arithmetic
    return float(decodes * w.x[0].beside_prefill + max(arithmetic, reading))


@borrowing_kernel
def step_demand(w: World, now: int) -> float:
    """Bytes of each tier and the step's body when alone, ns; see `step_time.step_time_ns`.

    The step's sums are whole numbers in the control record, converted to floats once, here.
    """
    tokens = w.c[0].step_tokens
    near_pairs = w.c[0].near_decode_context + w.c[0].near_chunk_pairs
    pairs = w.c[0].decode_context + w.c[0].chunk_pairs
    pair_share = w.x[0].window_pair_share
    flops = (
        tokens * w.x[0].flops_token
        + w.c[0].step_sampled * w.x[0].flops_sampled
        + (pairs * (1.0 - pair_share) + near_pairs * pair_share) * w.x[0].flops_pair
    )
    w.x[0].compute_ns = flops / w.x[0].flops_per_s * 1e9
    look_up(w)
    products = w.x[0].products_ns + w.x[0].joint_experts_ns
    small = w.x[0].small_ns
    head = w.x[0].head_ns
    arithmetic = w.x[0].arithmetic_ns + w.x[0].joint_arithmetic_ns
    weights_ns = products - arithmetic + head
    w.x[0].prefill_ns = 0.0
    copied = w.c[0].copied_tokens * (w.x[0].kv_read + w.x[0].kv_write)
    copied += w.c[0].batch_requests * w.x[0].state_bytes
    hbm = attention_ns(w) + 1e9 * copied / w.tc[0].read_bytes_per_s
    slowest = 0
    step_bytes(w)
    alone = hbm
    longer = 0.0
    for tier in range(1, w.c[0].tiers):
        alone += alone_ns(w, tier)
        longer += w.tc[tier].hbm_waits * alone_ns(w, tier)
    if hbm > 0.0:
        hbm += longer
    longest = hbm
    for tier in range(1, w.c[0].tiers):
        own = beside_ns(w, tier, alone)
        if own > longest:
            longest = own
            slowest = tier
    attention = longest
    if w.x[0].exponent < math.inf and longest > 0.0:
        attention = power_sum(w, hbm, alone, longest)
    body = products + small + head + attention
    body = max(body, 1e-3)  # so that shares of it have a meaning
    arithmetic += w.x[0].prefill_ns
    if w.c[0].times_sustained >= 0:
        later = sustained_ns(w, now, body)
        arithmetic += later
        body += later
    w.c[0].step_slowest = slowest
    w.x[0].share_compute = arithmetic / body
    w.x[0].share_weights = weights_ns / body
    # what reads KV: all but arithmetic, weights and the small kernels
    w.x[0].share_kv = max(1.0 - w.x[0].share_compute - w.x[0].share_weights - small / body, 0.0)
    lower = w.x[0].share_kv if slowest > 0 else 0.0
    w.c[0].step_bound = HBM_BOUND
    if w.x[0].share_compute > max(lower, 1.0 - w.x[0].share_compute - lower):
        w.c[0].step_bound = COMPUTE_BOUND
    elif lower > 1.0 - w.x[0].share_compute - lower:
        w.c[0].step_bound = LOWER_BOUND + slowest - 1
    for tier in range(w.c[0].tiers):
        w.tc[tier].step_cap = 1e9 * w.tc[tier].step_bytes / body
    return float(body)


@borrowing_kernel
def sustained_ns(w: World, now: int, body: float) -> float:
    """How much longer a step's arithmetic takes since the GPU has computed for long, ns.

    See `step_time.sustained_ns`. What the GPU has worked off by this step's end is noted.
    """
    most = w.x[0].sustained_after_ns
    heating = w.x[0].heating_ns + w.x[0].prefill_ns
    worked = max(w.x[0].worked_ns - max(now - w.x[0].worked_at, 0.0), 0.0)
    late = heating - (most - worked)
    later = 0.0
    if late > 0.0 and heating > 0.0:
        all_of_it = w.x[0].sustained_ns + w.x[0].prefill_ns * w.x[0].sustained_attention
        later = min(late / heating, 1.0) * all_of_it
    cooled = w.x[0].cooling * (body - heating)
    w.x[0].worked_ns = max(min(worked + heating + later, most) - cooled, 0.0)
    return float(later)


@borrowing_kernel
def step_bytes(w: World) -> None:
    """What the step reads of each tier; writes of KV count as the reads that would take as long."""
    tokens = w.c[0].step_tokens
    weights = w.x[0].weight_bytes
    if w.x[0].experts > 0.0:
        parts = w.x[0].micro_batches
        missed = (1.0 - w.x[0].experts_per_token / w.x[0].experts) ** (tokens / parts)
        weights += parts * w.x[0].experts * (1.0 - missed) * w.x[0].expert_bytes
    context = w.c[0].step_context
    scale = w.x[0].kv_read
    if w.c[0].window_tokens > 0 and context > 0:
        share = w.x[0].window_share
        seen = w.c[0].near_decode_context + w.c[0].near_chunk_context
        scale *= (1.0 - share) + share * (seen / context)
    lower = 0
    lower_bytes = 0
    for tier in range(1, w.c[0].tiers):
        if w.t[tier].in_place:
            lower += w.t[tier].attend_tokens
            lower_bytes += w.t[tier].attend_bytes
            w.tc[tier].step_bytes = w.t[tier].attend_tokens * scale + w.t[tier].attend_bytes
    read = (context - lower) * scale
    if lower_bytes > 0:
        read = max(read - lower_bytes, 0.0)
    kv = read + tokens * w.x[0].kv_write
    kv += w.c[0].copied_tokens * (w.x[0].kv_read + w.x[0].kv_write)
    kv += w.c[0].batch_requests * w.x[0].state_bytes
    w.tc[0].step_bytes = weights + kv
    w.x[0].weight_share = weights / (weights + kv)


@borrowing_kernel
def begin_step(w: World, now: int) -> int:
    """Start the step whose sums are in the control record; returns when it ends if undisturbed.

    A pipelined engine planned it at `plan_at`, when it saw the tokens of the step before the last;
    each request that came in beside the first took some more time. It launches the kernels until
    `launched`. If its own process does that, it sees the last step's tokens only then. Else it sees
    them as soon as the GPU has them, and what the others launch follows what they launched before.
    A decoding batch is one graph, which starts when it is launched; other kernels start as they are
    launched, and the last one can't end before that.
    """
    body = min(step_demand(w, now), 2.0 * LAST_NS)  # a run ends before such a step does
    vmm = 0.0
    if w.c[0].mapped:
        vmm = w.c[0].vmm_maps * w.x[0].map_ns + w.c[0].vmm_unmaps * w.x[0].unmap_ns
        w.c[0].time_vmm += int(vmm)
    w.c[0].vmm_maps = 0
    w.c[0].vmm_unmaps = 0
    communication = w.x[0].communication_ns + w.x[0].joint_exchange_ns
    w.c[0].time_communication += int(communication)
    if w.c[0].idle_from >= 0:
        account_idle(w, now)
    launched = wide(now)
    fixed = now + int(w.x[0].launch_ns) + int(communication) + int(vmm)
    if w.c[0].pipelined:
        takes = wide(int(w.x[0].graph_launch_ns))
        prepared = takes
        if w.c[0].chunk_tokens > 0 or w.c[0].prefilling:
            tokens = float(w.c[0].step_tokens)
            takes = wide(int(curve_at(w, w.c[0].times_eager_launch, tokens)))
            prepared = min(int(w.x[0].prepare_ns), takes)
        launched = w.c[0].plan_at + int(max(w.c[0].joined - 1, 0) * w.x[0].join_ns) + takes
        if not w.c[0].delays:
            launched = max(launched, w.c[0].launched + takes - int(w.x[0].schedule_ns))
        w.c[0].launched = launched
        begins = launched - takes + prepared
        fixed = max(now, begins) + int(communication) + int(vmm)
        drained = launched + max(int(w.x[0].drain_ns), 1)  # so that no two steps are seen at once
        fixed = max(fixed, drained - math.ceil(body))
    w.c[0].joined = 0
    w.c[0].time_launch += fixed - now - int(communication) - int(vmm)
    w.c[0].in_flight = 1
    w.c[0].step_start = now
    w.c[0].step_fixed_end = fixed
    w.x[0].body_left = body
    w.x[0].body_time = float(fixed)
    w.x[0].speed = 1.0
    w.c[0].step_end = fixed + math.ceil(body - 1e-6)
    w.x[0].worked_at = float(w.c[0].step_end)
    if w.c[0].flows > 0 or w.c[0].shared_route:
        settle(w, now)
    if w.c[0].pipelined:
        seen = launched
        if w.c[0].step_open:
            seen = max(launched, now) if w.c[0].delays else wide(now)
            if w.c[0].uniform:
                close_step(w, seen, w.c[0].emitted)
            else:
                emit(w, seen)
        w.c[0].plan_at = seen
    return int(w.c[0].step_end)


@borrowing_inline
def account_idle(w: World, now: int) -> None:
    """Book the time in which no step ran on what it was waiting for, if not for a request."""
    idle = now - w.c[0].idle_from
    if w.c[0].idle_cause == 1:
        w.c[0].time_idle_transfers += idle
    elif w.c[0].idle_cause == 2:
        w.c[0].time_idle_capacity += idle
    w.c[0].idle_from = -1


@borrowing_kernel
def account_step(w: World, now: int) -> None:
    """Book a step that ends now: its time on what bound it, its bytes on their tiers."""
    body = now - w.c[0].step_fixed_end
    w.c[0].time_arithmetic += int(w.x[0].compute_ns)
    # parts end at the nearest nanosecond, so that they add up and none is short in every step
    compute = int(body * w.x[0].share_compute + 0.5)
    share = w.x[0].share_compute + w.x[0].share_weights
    weights = int(body * share + 0.5) - compute
    kv = int(body * (share + w.x[0].share_kv) + 0.5) - compute - weights
    w.c[0].time_compute += compute
    w.c[0].time_weights += weights
    w.c[0].time_small += body - compute - weights - kv
    if w.c[0].step_slowest == 0:
        w.c[0].time_kv += kv
    else:
        w.t[w.c[0].step_slowest].bound_ns += kv
    length = now - w.c[0].step_start
    w.tc[0].written += (w.c[0].step_tokens + w.c[0].copied_tokens) * w.x[0].kv_written
    w.tc[0].written += w.c[0].batch_requests * w.x[0].state_written
    for tier in range(w.c[0].tiers):
        w.tc[tier].read += w.tc[tier].step_bytes
    w.c[0].copied_tokens = 0
    w.c[0].reserved_high, w.c[0].reserved_low = add_product(
        w.c[0].reserved_high, w.c[0].reserved_low, w.c[0].held_tokens, length
    )
    w.c[0].used_high, w.c[0].used_low = add_product(
        w.c[0].used_high, w.c[0].used_low, w.c[0].used_tokens, length
    )


@borrowing_inline
def account_pages(w: World, now: int) -> None:
    """Book how many pages each tier held since this was last called."""
    elapsed = now - w.c[0].last_account
    if elapsed == 0:
        return
    w.c[0].last_account = now
    for tier in range(w.c[0].tiers):
        pages = w.t[tier].capacity - w.t[tier].free
        w.t[tier].page_ns_high, w.t[tier].page_ns_low = add_product(
            w.t[tier].page_ns_high, w.t[tier].page_ns_low, pages, elapsed
        )


@borrowing_inline
def book_wait(w: World, cause: int, waited: int) -> None:
    """Book a wait on its cause; a wait is shorter than a run, the sum of all may be 2^31 runs."""
    low = w.wait[2 * cause + 1] + waited
    w.wait[2 * _CAUSES + cause] += low >> LOW_BITS
    w.wait[2 * cause + 1] = low & ((1 << LOW_BITS) - 1)


@borrowing_inline
def open_step(w: World, now: int, requests: int) -> None:
    """Begin the log's row of the step that ends now; `close_step` completes it."""
    n = w.c[0].steps
    w.step[n].start = w.c[0].step_start
    w.step[n].prefill = w.c[0].step_prefill
    w.step[n].decode = w.c[0].step_tokens - w.c[0].step_prefill
    w.step[n].context = w.c[0].step_context
    w.step[n].requests = requests
    w.step[n].bound = w.c[0].step_bound
    w.step[n].body = now - w.c[0].step_fixed_end
    w.c[0].step_open = 1
