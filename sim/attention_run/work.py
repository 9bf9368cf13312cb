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
from vsim.sim.model.model import expected_experts
from vsim.sim.scenario.limits import LONGEST_STEP_S
from vsim.sim.schedules.cost import Cost, births
from vsim.sim.schedules.step_time import step_seconds
from vsim.sim.schedules.two_tiers import Bools
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import refuse

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]

COMPUTE, HBM, LOWER = range(3)

_LONGEST_S = 2.0**62 / 1e9
_YEAR_S = 365 * 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What each of s steps does; int64[s], but `flops`, float64[s].

    Attributes:
        tokens: tokens computed.
        flops: all of the step's.
        hbm_kv_bytes: KV read from HBM, without copies to the slower tier.
        up_bytes: read from the slower tier, in place or promoted.
        down_bytes: written to the slower tier.
        promoted_bytes: the part of `up_bytes` that was promoted.
    """

    tokens: Int64s
    flops: Floats
    hbm_kv_bytes: Int64s
    up_bytes: Int64s
    down_bytes: Int64s
    promoted_bytes: Int64s


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """How long each of s steps takes; int64[s] nanoseconds, but `weight_share`, float64[s].

    Attributes:
        launch_ns, communication_ns: before the body.
        body_ns: the rest.
        arithmetic_ns: the part of the body that the FLOPs take.
        bound: what set the body's time: COMPUTE, HBM or LOWER.
        weight_share: share of weights in HBM's time.
    """

    launch_ns: Int64s
    communication_ns: Int64s
    body_ns: Int64s
    arithmetic_ns: Int64s
    bound: Int64s
    weight_share: Floats

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
    context_bytes = parts.per_step(parts.end) * batch.columns * token_bytes
    return Work(
        tokens=step_tokens,
        flops=(
            step_tokens * cost.flops_per_token
            + sampled * cost.flops_per_sampled_token
            + pairs * cost.flops_per_pair
        ),
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
        flops=(
            tokens * (cost.flops_per_token + cost.flops_per_sampled_token)
            + reads.reads_per_step * per_page
        ),
        hbm_kv_bytes=moves.hits * size,
        up_bytes=(moves.misses + moves.promoted) * size,
        down_bytes=written * size,
        promoted_bytes=moves.promoted * size,
    )


def weight_bytes(cost: StepCost, tokens: int) -> float:
    """Weights that a step of so many tokens reads: the experts that they touch included."""
    read = cost.weight_read_bytes
    if cost.experts:
        parts = cost.micro_batches
        touched = expected_experts(cost.experts, cost.experts_per_token, tokens / parts)
        read += parts * touched * cost.expert_bytes
    return read


def pinned_bytes(cost: StepCost, tokens: int) -> float:
    """HBM's traffic of a step beside pages read; writes count as reads that take as long.

    Every placement pays it in every decode step, since all of them compute as many tokens.
    """
    return weight_bytes(cost, tokens) + tokens * _written_as_read(cost)


def _written_as_read(cost: StepCost) -> float:
    """A token's KV, in bytes that HBM reads in the time it takes to write it."""
    copied = cost.hbm_read_bytes_per_s / cost.hbm_write_bytes_per_s
    return cost.kv_write_bytes_per_token * copied


def weights_of(work: Work, cost: StepCost) -> Floats:
    """float64[s]: weights that each step reads."""
    tokens, place = np.unique(work.tokens, return_inverse=True)
    return np.array([weight_bytes(cost, int(count)) for count in tokens])[place]


def timed(work: Work, cost: StepCost, memory: Memory) -> Timed:
    """How long each step takes.

    Raises:
        InputError: all steps together take longer than 64 bits of nanoseconds can count, or one of
            them longer than any server's.
    """
    weights = weights_of(work, cost)
    hbm_bytes = weights + work.tokens * _written_as_read(cost) + work.hbm_kv_bytes
    hbm_s = hbm_bytes / memory.hbm_read_bytes_per_s
    slow_s = memory.slow_s(work.up_bytes, work.down_bytes)
    memory_s = step_seconds(np.stack([hbm_s, slow_s]), cost.attend_exponent)
    compute_s = work.flops / cost.flops_per_s
    _refuse_ages(math.fsum(memory_s) + math.fsum(compute_s))
    body_s = np.maximum(compute_s, memory_s)
    _refuse_slow_steps(body_s)
    body_ns = np.ceil(body_s * 1e9 - 1e-6)
    bound = np.where(slow_s > hbm_s, LOWER, HBM)
    communication = cost.comm_fixed_ns + work.tokens * cost.comm_ns_per_token
    return Timed(
        launch_ns=np.full(len(work.tokens), int(cost.launch_ns), np.int64),
        communication_ns=communication.astype(np.int64),
        body_ns=body_ns.astype(np.int64),
        arithmetic_ns=(compute_s * 1e9).astype(np.int64),
        bound=np.where(compute_s > memory_s, COMPUTE, bound).astype(np.int64),
        weight_share=weights / hbm_bytes,
    )


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
