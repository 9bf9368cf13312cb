"""`Work`: what steps compute and move; `timed`: how long each takes, by the engine's formula.

    T = launch + communication + max( FLOPs / rate , (t_hbm^p + t_slow^p)^(1/p) )

t_hbm is weights, touched experts and KV read from HBM over its read bandwidth, plus KV written over
its write bandwidth. t_slow is the pages attended in place and promoted, and what is copied down, on
the busiest of the resources that they cross (`Memory`). Promotions and demotions of a step run
within that step's body and nowhere else. Steps are rounded as the engine rounds them.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vsim.sim.attention_run.batch import Batch
from vsim.sim.attention_run.memory import Memory
from vsim.sim.attention_run.prefill import Chunks, SlowTokens
from vsim.sim.scenario.limits import LONGEST_STEP_S
from vsim.sim.schedules.cost import Cost, births
from vsim.sim.schedules.step_time import step_seconds
from vsim.sim.schedules.two_tiers import Bools
from vsim.sim.timing.curve import Curve
from vsim.sim.timing.step_cost import StepCost, expert_read_bytes
from vsim.traces.faults import refuse

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

COMPUTE, HBM, LOWER = range(3)

_LONGEST_S = 2.0**62 / 1e9
_YEAR_S = 365 * 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What each of s steps does; int64[s], but `flops` and `attention_ns`, float64[s].

    Attributes:
        tokens: tokens computed.
        sampled: tokens whose successor is sampled.
        flops: all of the step's.
        attention_ns: what the arithmetic of its attention takes.
        floor_ns: what its attention takes beside its bytes and FLOPs.
        hbm_kv_bytes: KV read from HBM, without copies to the slower tier.
        up_bytes: read from the slower tier, in place or promoted.
        down_bytes: written to the slower tier.
        promoted_bytes: the part of `up_bytes` that was promoted.
    """

    tokens: Int64s
    sampled: Int64s
    flops: Floats
    attention_ns: Floats
    floor_ns: Floats
    hbm_kv_bytes: Int64s
    up_bytes: Int64s
    down_bytes: Int64s
    promoted_bytes: Int64s


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """How long each of s steps takes; int64[s] nanoseconds, but `dense_ns`, float64[s].

    Attributes:
        launch_ns, communication_ns: before the body.
        body_ns: the rest: the kernels, one after another.
        dense_ns: all of them but attention; no placement changes it.
        compute_ns, weights_ns, small_ns: parts of the body: arithmetic, reading weights, and small
            kernels; the rest is attention that reads KV.
        lower: 1 where that waits for the slower tier, else 0.
        arithmetic_ns: what all FLOPs take at the peak rate.
        bound: the largest part of the body: COMPUTE, HBM or LOWER.
    """

    launch_ns: Int64s
    communication_ns: Int64s
    body_ns: Int64s
    dense_ns: Floats
    compute_ns: Int64s
    weights_ns: Int64s
    small_ns: Int64s
    lower: Int64s
    arithmetic_ns: Int64s
    bound: Int64s

    @property
    def kv_ns(self) -> Int64s:
        """int64[s]: attention that reads KV, in HBM or below."""
        return self.body_ns - self.compute_ns - self.weights_ns - self.small_ns

    @property
    def step_ns(self) -> Int64s:
        """int64[s]: the whole step."""
        return self.launch_ns + self.communication_ns + self.body_ns


def joined_work(first: Work, then: Work) -> Work:
    """The steps of one after those of the other."""
    return Work(*_joined(first, then))


def joined_times(first: Timed, then: Timed) -> Timed:
    """The same for their times."""
    return Timed(*_joined(first, then))


def _joined(first: Work | Timed, then: Work | Timed) -> list[Any]:
    names = [field.name for field in fields(first)]
    return [np.concatenate([getattr(first, name), getattr(then, name)]) for name in names]


def prefill_work(
    batch: Batch, parts: Chunks, cost: StepCost, resident: Bools, *, keeps_copies: bool
) -> Work:
    """What the prompts' steps do: dense attention over all that was computed before.

    A part's own tokens are read in HBM, where they are made. Then those of pages that are not to
    stay are written to the slower tier; all of them, if it keeps a copy of everything.
    """
    slow = SlowTokens(batch, resident)
    before = slow.up_to(parts.request, parts.first)
    token_bytes = batch.reads.page_bytes // batch.reads.page_tokens
    tokens = parts.tokens
    pairs = parts.per_step(tokens * parts.first + tokens * (tokens + 1) // 2)
    sampled = parts.per_step((parts.end == batch.prompt_tokens[parts.request]).astype(np.int64))
    up = parts.per_step(before) * token_bytes
    down = slow.up_to(parts.request, parts.end) - before
    if keeps_copies:
        down = tokens * batch.columns
    step_tokens = parts.per_step(tokens)
    keys = pairs / np.maximum(step_tokens, 1)
    arithmetic = [
        cost.curves.prefill.at(float(count), float(seen)) if count else 0.0
        for count, seen in zip(step_tokens, keys, strict=True)
    ]
    context_bytes = parts.per_step(parts.end) * batch.columns * token_bytes
    return Work(
        tokens=step_tokens,
        sampled=sampled,
        flops=(
            step_tokens * cost.flops_per_token
            + sampled * cost.flops_per_sampled_token
            + pairs * cost.flops_per_pair
        ),
        attention_ns=np.array(arithmetic, np.float64),
        floor_ns=np.zeros(parts.steps),
        hbm_kv_bytes=context_bytes - up,
        up_bytes=up,
        down_bytes=parts.per_step(down) * token_bytes,
        promoted_bytes=np.zeros(parts.steps, np.int64),
    )


def decode_work(batch: Batch, cost: StepCost, moves: Cost, *, keeps_copies: bool) -> Work:
    """What the decode steps do: each layer and head attends to the pages it selected.

    Args:
        batch: the requests.
        cost: what a step costs.
        moves: hits, misses, promotions and demotions of the placement.
        keeps_copies: whether new pages are written through.
    """
    reads, size = batch.reads, batch.reads.page_bytes
    written = moves.demoted + births(reads) if keeps_copies else moves.demoted
    tokens = np.full(reads.steps, len(batch), np.int64)
    per_page = reads.page_tokens * cost.flops_per_pair / batch.columns
    return Work(
        tokens=tokens,
        sampled=tokens,
        flops=(
            tokens * (cost.flops_per_token + cost.flops_per_sampled_token)
            + reads.reads_per_step * per_page
        ),
        attention_ns=np.asarray(
            reads.reads_per_step * per_page / cost.flops_per_s * 1e9, np.float64
        ),
        floor_ns=np.full(reads.steps, _decode_floor_ns(batch, cost)),
        hbm_kv_bytes=moves.hits * size,
        up_bytes=(moves.misses + moves.promoted) * size,
        down_bytes=written * size,
        promoted_bytes=moves.promoted * size,
    )


def _decode_floor_ns(batch: Batch, cost: StepCost) -> float:
    """What a mean decode step's attention takes beyond its pages' bytes or FLOPs in HBM, ns."""
    reads, requests = batch.reads, len(batch)
    tokens = float(reads.reads_per_step.mean()) * reads.page_tokens / batch.columns
    taken_ns = cost.curves.decode.at(requests, tokens / requests)
    read_ns = tokens * cost.curves.prefill_context_ns
    computed_ns = tokens * cost.flops_per_pair / cost.flops_per_s * 1e9
    return max(taken_ns - max(read_ns, computed_ns), 0.0)


def weights_of(work: Work, cost: StepCost) -> Floats:
    """float64[s]: weights that each step reads: the experts that its tokens touch included."""
    tokens, place = np.unique(work.tokens, return_inverse=True)
    read = [cost.weight_read_bytes + expert_read_bytes(cost, int(count)) for count in tokens]
    return np.array(read)[place]


def timed(work: Work, cost: StepCost, memory: Memory) -> Timed:
    """How long each step takes.

    A step is a sum of kernels (`vsim.sim.timing.step_cost`). Its attention reads both tiers at
    once; promotions and demotions run beside it, and it takes at least as long as its arithmetic.

    Raises:
        InputError: all steps together take longer than 64 bits of nanoseconds can count, or one of
            them longer than any server's.
    """
    curves = cost.curves
    products = _looked_up(curves.products, work.tokens)
    arithmetic = _looked_up(curves.arithmetic, work.tokens)
    small = _looked_up(curves.small, work.tokens)
    head = _looked_up(curves.head, work.sampled)
    hbm_s = work.hbm_kv_bytes / memory.hbm_read_bytes_per_s
    slow_s = memory.slow_s(work.up_bytes, work.down_bytes)
    read_ns = 1e9 * step_seconds(memory.beside(hbm_s, slow_s), cost.attend_exponent)
    attention = np.maximum(work.attention_ns, read_ns)
    computes = work.attention_ns > read_ns
    dense = products + small + head + work.floor_ns
    body_s = 1e-9 * (dense + attention)
    _refuse_ages(math.fsum(body_s))
    _refuse_slow_steps(body_s)
    body = np.ceil(dense + attention - 1e-6).astype(np.int64)
    # parts end at the nearest nanosecond, so that they add up and none is short in every step
    computed = arithmetic + np.where(computes, work.attention_ns, 0.0)
    read = computed + products - arithmetic + head
    compute = np.rint(computed).astype(np.int64)
    weights = np.rint(read).astype(np.int64) - compute
    small_ns = np.rint(read + small).astype(np.int64) - compute - weights
    small_ns = np.where(computes, body - compute - weights, small_ns)
    kv = body - compute - weights - small_ns
    lower = slow_s > hbm_s
    slower = np.where(lower, kv, 0)
    bound = np.where(slower > body - compute - slower, LOWER, HBM)
    communication = _looked_up(curves.communication, work.tokens)
    return Timed(
        launch_ns=np.full(len(work.tokens), int(cost.launch_ns), np.int64),
        communication_ns=communication.astype(np.int64),
        body_ns=body,
        dense_ns=dense,
        compute_ns=compute,
        weights_ns=weights,
        small_ns=small_ns,
        lower=lower.astype(np.int64),
        arithmetic_ns=(work.flops / cost.flops_per_s * 1e9).astype(np.int64),
        bound=np.where(compute > np.maximum(slower, body - compute - slower), COMPUTE, bound),
    )


def _looked_up(curve: Curve, numbers: Int64s) -> Floats:
    """float64[s]: the curve's time at each number."""
    found, place = np.unique(numbers, return_inverse=True)
    times: Floats = np.array([curve.at(float(number)) for number in found])[place]
    return times


def _refuse_ages(all_s: float) -> None:
    if all_s >= _LONGEST_S:
        message = (
            f"this run's steps take {all_s / _YEAR_S:,.0f} years, more than its clock can count"
        )
        refuse("scenario", f"{message}; name a machine with faster memories", place="machine")


def _refuse_slow_steps(body_s: Floats) -> None:
    slowest_s = float(body_s.max(initial=0.0))
    if slowest_s > LONGEST_STEP_S:
        message = f"a step takes {slowest_s:.2g} s, and no server's takes {LONGEST_STEP_S:.0e}"
        refuse("scenario", f"{message}; write a faster machine, or fewer traces", place="machine")
