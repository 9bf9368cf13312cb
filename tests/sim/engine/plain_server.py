"""A server in plain Python: continuous batching with memory for all, and no cache.

Its step times come from `step_time_ns`; query-key pairs are counted one query at a time.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

from vsim.sim.timing.curve import line
from vsim.sim.timing.step_cost import StepCost
from vsim.sim.timing.step_time import Batch, step_time_ns
from vsim.traces.requests import Requests


@dataclass
class _Running:
    """A request being served. Mutable: how far it is."""

    row: int
    target: int  # tokens to compute before the next one comes out
    computed: int = 0
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """What the plain server did: (start, end, tokens) of each step, and each request's times."""

    steps: list[tuple[int, int, int]]
    first_ns: list[int]
    last_ns: list[int]


def batch_of(
    batch: list[tuple[int, int]], sampled: int, window: int, *, chunked: bool = False
) -> Batch:
    """The sums of a step: (computed before, tokens computed now) of each request.

    Whoever computes one token decodes, be it the last of a prompt. With `chunked` a query sees what
    came since the last multiple of `window`, and not the last ones.
    """

    def near(seen: int) -> int:
        return (seen - 1) % window + 1 if chunked else min(seen, window)

    def spanned(done: int, n: int) -> int:
        if chunked:
            return done + n - done // window * window
        return min(done + n, window + n - 1)

    alone = [done + 1 for done, n in batch if n == 1]
    longer = [(done, n) for done, n in batch if n > 1]
    seen = [done + i for done, n in longer for i in range(1, n + 1)]
    return Batch(
        sampled=sampled,
        decodes=len(alone),
        decode_context=sum(alone),
        prefill_tokens=len(seen),
        prefill_pairs=sum(seen),
        prefill_context=sum(done + n for done, n in longer),
        requests=len(batch),
        near_decode_context=sum(near(each) for each in alone),
        near_prefill_pairs=sum(near(each) for each in seen),
        near_prefill_context=sum(spanned(done, n) for done, n in longer),
    )


def tabulated(cost: StepCost) -> StepCost:
    """The same with its kernels' times worked out, which a cost does anew for every step."""
    return replace(cost, measured=cost.curves)


def step_ns(cost: StepCost, batch: list[tuple[int, int]], sampled: int) -> int:
    """The time of a step: (computed before, tokens computed now) of each request."""
    sums = batch_of(batch, sampled, cost.window_tokens, chunked=cost.chunked_window)
    curves = cost.curves
    alone = replace(cost, launch_ns=0.0, measured=replace(curves, communication=line(0.0)))
    fixed = int(cost.launch_ns) + int(curves.communication.at(sums.tokens))
    return fixed + math.ceil(step_time_ns(alone, sums) - 1e-6)


def serve(
    requests: Requests,
    cost: StepCost,
    budget: int = 2048,
    most: int = 256,
    chunked: bool = True,
) -> Served:
    """Serve a trace."""
    cost = tabulated(cost)
    n = len(requests)
    arrivals = deque(range(n))
    waiting: deque[int] = deque()
    running: list[_Running] = []
    steps: list[tuple[int, int, int]] = []
    first, last = [-1] * n, [-1] * n
    now = 0
    while arrivals or waiting or running:
        if not waiting and not running:
            now = max(now, int(requests.arrival_ns[arrivals[0]]))
        while arrivals and requests.arrival_ns[arrivals[0]] <= now:
            waiting.append(arrivals.popleft())
        left = budget
        shares: list[int] = []
        for request in running:
            share = request.target - request.computed
            if chunked:
                share = max(0, min(share, left))
            shares.append(share)
            left -= share
        while waiting and left > 0 and len(running) < most:
            row = waiting.popleft()
            request = _Running(row, int(requests.prompt_tokens[row]))
            running.append(request)
            shares.append(min(request.target, left) if chunked else request.target)
            left -= shares[-1]
        batch = [(r.computed, n) for r, n in zip(running, shares, strict=True) if n > 0]
        sampled = sum(r.computed + n == r.target for r, n in zip(running, shares, strict=True))
        end = now + step_ns(cost, batch, sampled)
        steps.append((now, end, sum(shares)))
        now = end
        for request, share in zip(running, shares, strict=True):
            request.computed += share
            if share and request.computed == request.target:
                request.generated += 1
                request.target += 1
                if request.generated == 1:
                    first[request.row] = now
                last[request.row] = now
        running = [r for r in running if r.generated < requests.output_tokens[r.row]]
    return Served(steps, first, last)
