"""Transfers as fluids: flows share every link and memory they cross max-min fairly.

A path is a way between two tiers; all transfers on it advance at one rate. The step under way is
a flow too, one for each tier it reads, with a weight against copies and no more than the rate at
which it reads when alone. Rates change only when a transfer or a step starts or ends (the fluid
model of SimGrid: Velho et al., "On the validity of flow-level TCP network models", TOMACS 2013).

For a path with rate v the service S grows by v*dt; a transfer of b bytes that starts at service S
is through when the service is S + b. Completion times are rounded up to whole nanoseconds.
"""

import math

from vsim.sim.compiled import borrowing_inline, borrowing_kernel
from vsim.sim.engine.layout import LAST_NS, NEVER, World

_SLACK_NS = 0.5  # a flow this close to its end is through: rates are floats, times are whole


@borrowing_inline
def advance_service(w: World, now: int) -> None:
    """Move the bytes that flowed since the last change of rates."""
    elapsed = now - w.c[0].flow_time
    w.c[0].flow_time = now
    if elapsed == 0 or w.c[0].flows == 0:
        return
    for path in range(w.c[0].paths):
        if w.p[path].active > 0:
            w.pr[path].service += w.pr[path].rate * elapsed * 1e-9


@borrowing_inline
def weight_of(w: World, tier: int) -> float:
    """Of the step's read of a tier, against a copy; HBM is the first."""
    if tier == 0:
        return float(w.x[0].hbm_weight)
    return float(w.x[0].attend_weight)


@borrowing_kernel
def solve_rates(w: World, with_step: bool) -> None:
    """Max-min fair rates by progressive filling (Bertsekas & Gallager, Data Networks, 6.5.2).

    Sets each active path's rate and the speed of the step under way (1: as fast as alone).
    `use[i, m]` is the time of resource m that a byte of flow i takes; paths first, then the
    step's read of each tier.
    """
    paths = w.c[0].paths
    tiers = w.c[0].tiers
    flows = paths + tiers
    resources = w.c[0].resources
    weight = resources  # scratch: busy shares, then weights, then levels
    level_of = 2 * resources
    z = w.scratch
    for m in range(resources):
        z[m] = 0.0
        z[weight + m] = 0.0
    open_flows = 0
    for i in range(flows):
        if i < paths:
            count = w.p[i].active * w.pr[i].weight
        else:
            reads = with_step and w.tc[i - paths].step_bytes > 0.0
            count = weight_of(w, i - paths) if reads else 0.0
        if count > 0.0:
            z[level_of + i] = -1.0
            open_flows += 1
            for m in range(resources):
                z[weight + m] += count * w.use[i * resources + m]
        else:
            z[level_of + i] = 0.0
    while open_flows > 0:
        level = math.inf
        tight = -1
        for m in range(resources):
            if z[weight + m] > 0.0:
                here = (1.0 - z[m]) / z[weight + m]
                if here < level:
                    level = here
                    tight = m
        capped = -1
        for tier in range(tiers):
            if z[level_of + paths + tier] < 0.0:
                here = w.tc[tier].step_cap / weight_of(w, tier)
                if here <= level:
                    level = here
                    capped = paths + tier
        if level < 0.0:
            level = 0.0
        for i in range(flows):
            if z[level_of + i] < 0.0 and (
                i == capped or (capped < 0 and w.use[i * resources + tight] > 0.0)
            ):
                z[level_of + i] = level
                open_flows -= 1
                count = w.p[i].active * w.pr[i].weight if i < paths else weight_of(w, i - paths)
                for m in range(resources):
                    cost = count * w.use[i * resources + m]
                    if cost > 0.0:
                        z[m] += cost * level
                        z[weight + m] -= cost
                        if z[weight + m] < cost * 1e-9:
                            z[weight + m] = 0.0
    for i in range(paths):
        w.pr[i].rate = z[level_of + i] * w.pr[i].weight
    speed = 1.0
    if with_step:
        for tier in range(tiers):
            if w.tc[tier].step_bytes > 0.0 and w.tc[tier].step_cap > 0.0:
                pace = z[level_of + paths + tier] * weight_of(w, tier) / w.tc[tier].step_cap
                if pace < speed:
                    speed = pace
    w.x[0].speed = speed


@borrowing_kernel
def find_next_flow(w: World, now: int) -> None:
    """When the next transfer is through or arrives, as things stand."""
    best = NEVER
    for path in range(w.c[0].paths):
        if w.p[path].active > 0 and w.pr[path].rate > 0.0:
            left = w.pr[path].target - w.pr[path].service
            end = now
            if left > 0.0:
                end += math.ceil(min(left / w.pr[path].rate * 1e9, 2.0 * LAST_NS) - 1e-6)
            if end < best:
                best = end
    for i in range(w.c[0].flows):
        if w.f[i].done < best:
            best = w.f[i].done
    w.c[0].next_flow = best


@borrowing_kernel
def start_flow(w: World, now: int, path: int, first: int, pages: int, size_bytes: int) -> None:
    """Start one transfer. Rates must be solved afterwards, once for all that start together."""
    advance_service(w, now)
    i = w.c[0].flows
    w.f[i].path = path
    w.f[i].first = first
    w.f[i].pages = pages
    w.f[i].bytes = size_bytes
    w.f[i].submit = now
    w.f[i].done = NEVER
    w.f[i].serial = w.c[0].flow_serial
    w.f[i].step = w.c[0].step_no
    w.c[0].flow_serial += 1
    if w.p[path].active == 0:
        w.pr[path].service = 0.0
        w.pr[path].target = math.inf
    target = w.pr[path].service + size_bytes
    w.target[i] = target
    if target < w.pr[path].target:
        w.pr[path].target = target
    w.p[path].active += 1
    w.pr[path].bytes += size_bytes
    w.c[0].flows = i + 1


@borrowing_kernel
def retime_step(w: World, now: int, speed_before: float) -> None:
    """The step under way goes on at a new pace from `now`; `body_left` counts ns at full pace."""
    start = w.c[0].step_fixed_end
    if now > start:
        since = w.x[0].body_time
        if since < start:
            since = float(start)
        w.x[0].body_left -= (now - since) * speed_before
        if w.x[0].body_left < 0.0:
            w.x[0].body_left = 0.0
        w.x[0].body_time = float(now)
        start = now
    w.c[0].step_end = start + math.ceil(min(w.x[0].body_left / w.x[0].speed, 2.0 * LAST_NS) - 1e-6)


@borrowing_kernel
def finish_flows(w: World, now: int) -> None:
    """Move what has arrived by now to `done`, in the order in which it was submitted."""
    advance_service(w, now)
    for path in range(w.c[0].paths):
        w.pr[path].target = math.inf
    kept = 0
    for i in range(w.c[0].flows):
        path = w.f[i].path
        if w.f[i].done == NEVER:
            left = w.target[i] - w.pr[path].service
            if left <= w.pr[path].rate * _SLACK_NS * 1e-9:
                w.f[i].done = now + w.p[path].latency
                w.p[path].active -= 1
            elif w.target[i] < w.pr[path].target:
                w.pr[path].target = w.target[i]
        if w.f[i].done <= now:
            w.done[w.c[0].done] = w.f[i]
            w.c[0].done += 1
        else:
            if kept != i:
                w.f[kept] = w.f[i]
                w.target[kept] = w.target[i]
            kept += 1
    w.c[0].flows = kept
    w.c[0].flow_events += 1


@borrowing_kernel
def settle(w: World, now: int) -> None:
    """Solve the rates after flows started or ended, and re-time the step that runs beside them."""
    advance_service(w, now)
    running = w.c[0].in_flight == 1
    before = w.x[0].speed
    solve_rates(w, running)
    if running:
        retime_step(w, now, before)
    find_next_flow(w, now)
