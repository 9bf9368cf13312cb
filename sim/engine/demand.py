"""What a step needs from the machine, how long that takes alone, and what it is bound by."""

import math

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
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

_CAUSES = len(CAUSES)


@borrowing_inline
def windowed_pairs(computed: int, tokens: int, window: int) -> int:
    """Query-key pairs of `tokens` new tokens behind `computed`, each seeing `window` at most."""
    if computed + tokens <= window:
        return tokens * computed + tokens * (tokens + 1) // 2
    if computed >= window:
        return tokens * window
    below = window - computed
    return below * computed + below * (below + 1) // 2 + (tokens - below) * window


@borrowing_inline
def power_sum(w: World, longest: float) -> float:
    """(Σ t^p)^(1/p) over the tiers' times, scaled by the longest so that no power underflows."""
    total = 0.0
    for tier in range(w.c[0].tiers):
        own = w.tc[tier].step_bytes / w.tc[tier].read_bytes_per_s
        total += (own / longest) ** w.x[0].exponent
    return float(longest * total ** (1.0 / w.x[0].exponent))


@borrowing_kernel
def step_demand(w: World) -> float:
    """Bytes of each tier and the step's body when alone, ns (design of the machine model).

    T = (sum over tiers of (bytes / bandwidth)^p)^(1/p), or the arithmetic if that takes longer.
    The step's sums are whole numbers in the control record, converted to floats once, here.
    """
    tokens = w.c[0].step_tokens
    compute = (
        tokens * w.x[0].flops_token
        + w.c[0].step_sampled * w.x[0].flops_sampled
        + (
            w.c[0].step_pairs * (1.0 - w.x[0].window_share)
            + w.c[0].step_pairs_windowed * w.x[0].window_share
        )
        * w.x[0].flops_pair
    ) / w.x[0].flops_per_s
    w.x[0].compute_ns = compute * 1e9
    weights = w.x[0].weight_bytes
    if w.x[0].experts > 0.0:
        parts = w.x[0].micro_batches
        missed = (1.0 - w.x[0].experts_per_token / w.x[0].experts) ** (tokens / parts)
        weights += parts * w.x[0].experts * (1.0 - missed) * w.x[0].expert_bytes
    context = w.c[0].step_context
    scale = w.x[0].kv_read
    if w.c[0].window_tokens > 0 and context > 0:
        share = w.x[0].window_share
        scale *= (1.0 - share) + share * (w.c[0].step_windowed / context)
    lower = 0
    for tier in range(1, w.c[0].tiers):
        if w.t[tier].in_place:
            lower += w.t[tier].attend_tokens
            w.tc[tier].step_bytes = w.t[tier].attend_tokens * scale
    kv = (context - lower) * scale + tokens * w.x[0].kv_write
    kv += w.c[0].copied_tokens * (w.x[0].kv_read + w.x[0].kv_write)
    w.tc[0].step_bytes = weights + kv
    w.x[0].weight_share = weights / (weights + kv)
    longest = 0.0
    slowest = 0
    for tier in range(w.c[0].tiers):
        own = w.tc[tier].step_bytes / w.tc[tier].read_bytes_per_s
        if own > longest:
            longest = own
            slowest = tier
    memory = longest
    if w.x[0].exponent < math.inf:
        memory = power_sum(w, longest)
    body = memory
    w.c[0].step_bound = HBM_BOUND if slowest == 0 else LOWER_BOUND + slowest - 1
    if compute > memory:
        body = compute
        w.c[0].step_bound = COMPUTE_BOUND
    for tier in range(w.c[0].tiers):
        w.tc[tier].step_cap = w.tc[tier].step_bytes / body
    return body * 1e9


@borrowing_kernel
def begin_step(w: World, now: int) -> int:
    """Start the step whose sums are in the control record; returns when it ends if undisturbed."""
    body = min(step_demand(w), 2.0 * LAST_NS)  # a run ends before such a step does
    vmm = 0.0
    if w.c[0].mapped:
        vmm = w.c[0].vmm_maps * w.x[0].map_ns + w.c[0].vmm_unmaps * w.x[0].unmap_ns
        w.c[0].time_vmm += int(vmm)
    w.c[0].vmm_maps = 0
    w.c[0].vmm_unmaps = 0
    communication = w.x[0].comm_fixed_ns + w.c[0].step_tokens * w.x[0].comm_token_ns
    w.c[0].time_launch += int(w.x[0].launch_ns)
    w.c[0].time_communication += int(communication)
    fixed = now + int(w.x[0].launch_ns) + int(communication) + int(vmm)
    if w.c[0].idle_from >= 0:
        account_idle(w, now)
    w.c[0].in_flight = 1
    w.c[0].step_start = now
    w.c[0].step_fixed_end = fixed
    w.x[0].body_left = body
    w.x[0].body_time = float(fixed)
    w.x[0].speed = 1.0
    w.c[0].step_end = fixed + math.ceil(body - 1e-6)
    if w.c[0].flows > 0 or w.c[0].shared_route:
        settle(w, now)
    return int(w.c[0].step_end)


@borrowing_inline
def account_idle(w: World, now: int) -> None:
    """Book the time in which no step ran on what it was waiting for."""
    idle = now - w.c[0].idle_from
    if w.c[0].idle_cause == 0:
        w.c[0].time_idle += idle
    elif w.c[0].idle_cause == 1:
        w.c[0].time_idle_transfers += idle
    else:
        w.c[0].time_idle_capacity += idle
    w.c[0].idle_from = -1


@borrowing_kernel
def account_step(w: World, now: int) -> None:
    """Book a step that ends now: its time on what bound it, its bytes on their tiers."""
    body = now - w.c[0].step_fixed_end
    bound = w.c[0].step_bound
    w.c[0].time_arithmetic += int(w.x[0].compute_ns)
    if bound == COMPUTE_BOUND:
        w.c[0].time_compute += body
    elif bound == HBM_BOUND:
        weights = int(body * w.x[0].weight_share)
        w.c[0].time_weights += weights
        w.c[0].time_kv += body - weights
    else:
        w.t[bound - LOWER_BOUND + 1].bound_ns += body
    length = now - w.c[0].step_start
    w.tc[0].written += (w.c[0].step_tokens + w.c[0].copied_tokens) * w.x[0].kv_written
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
def log_step(w: World, now: int, common: int) -> None:
    """Append the step that ends now to the log."""
    n = w.c[0].steps
    w.step[n].start = w.c[0].step_start
    w.step[n].end = now
    w.step[n].prefill = w.c[0].step_prefill
    w.step[n].decode = w.c[0].step_tokens - w.c[0].step_prefill
    w.step[n].context = w.c[0].step_context
    w.step[n].requests = w.c[0].running
    w.step[n].common = common
    w.step[n].bound = w.c[0].step_bound
    w.step[n].body = now - w.c[0].step_fixed_end
    w.c[0].steps = n + 1
