"""The time of one step: what a batch takes under a server's costs.

`step_time_ns` is the obvious reference; `vsim.sim.engine.demand` is its compiled twin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vsim.sim.timing.attend import LowerPart, attend_sum
from vsim.sim.timing.joint_curves import dealt_tokens
from vsim.sim.timing.step_cost import StepCost
from vsim.sim.timing.step_curves import StepCurves


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step computes, in sums over its requests.

    Args:
        sampled: tokens whose successor is sampled.
        decodes: requests that compute one token.
        decode_context: keys that those see, each request's together.
        prefill_tokens: tokens computed by the others, in chunks.
        prefill_pairs: query-key pairs of those chunks.
        prefill_context: keys that the chunks' last tokens see.
        requests: requests that compute anything; only where layers keep states.
        near_decode_context, near_prefill_pairs, near_prefill_context: the same in layers that see
            a window; only where some do. Of contexts, tiers under HBM may hold parts of a token.
    """

    sampled: int = 0
    decodes: int = 0
    decode_context: int = 0
    prefill_tokens: int = 0
    prefill_pairs: int = 0
    prefill_context: int = 0
    requests: int = 0
    near_decode_context: float = 0
    near_prefill_pairs: int = 0
    near_prefill_context: float = 0

    @property
    def tokens(self) -> int:
        """Tokens computed."""
        return self.decodes + self.prefill_tokens


def decodes(requests: int, context: int) -> Batch:
    """A batch that only decodes, with `context` keys seen by all requests together."""
    return Batch(requests, requests, context, near_decode_context=context)


def chunk(tokens: int, before: int = 0, sampled: int = 1) -> Batch:
    """A batch that computes so many tokens of one prompt, behind those before."""
    pairs = tokens * before + tokens * (tokens + 1) // 2
    if tokens == 1:
        return Batch(sampled, 1, before + 1, near_decode_context=before + 1)
    return Batch(
        sampled=sampled,
        prefill_tokens=tokens,
        prefill_pairs=pairs,
        prefill_context=before + tokens,
        near_prefill_pairs=pairs,
        near_prefill_context=before + tokens,
    )


def step_time_ns(
    cost: StepCost,
    batch: Batch,
    lower_tiers: Sequence[tuple[float, float]] = (),
    worked_ns: float = 0.0,
    waits: Sequence[tuple[float, float]] = (),
    padded_to: int = 0,
) -> float:
    """Time of one step in nanoseconds, unrounded: the reference for the engine's compiled one.

    Args:
        cost: the server's costs.
        batch: what is computed; its contexts are those in HBM.
        lower_tiers: bytes attended in place and bandwidth in bytes per second, of each other tier.
        worked_ns: arithmetic that the GPU has done without a pause, see `sustained_ns`.
        waits: b and a of each other tier, see `attend`; left out, 0.
        padded_to: tokens that the batch is padded to among servers in lockstep; 0 for as it is.
    """
    curves = cost.curves
    if curves.prompts is not None and batch.prefill_tokens and not batch.decodes:
        curves = curves.prompts
    tokens = max(batch.tokens, padded_to)
    fixed = cost.launch_ns + curves.communication.at(tokens)
    dense = curves.products.at(tokens) + curves.small.at(tokens)
    dense += curves.head.at(batch.sampled)
    lower = [
        LowerPart(1e9 * count / bandwidth, *beside)
        for (count, bandwidth), beside in zip(
            lower_tiers, waits or [(0.0, 0.0)] * len(lower_tiers), strict=True
        )
    ]
    attention = attend_sum(attention_ns(cost, curves, batch), lower, cost.attend_exponent)
    later = sustained_ns(cost, curves, batch, worked_ns)
    return fixed + dense + attention + later


def lockstep_time_ns(
    cost: StepCost, batches: Sequence[Batch | None], sizes: Sequence[int]
) -> float:
    """Time of one step of servers in lockstep, nanoseconds; see `joint_curves`.

    Args:
        cost: of each of them.
        batches: what each computes; None for a server that has nothing to do.
        sizes: of captured batches, ascending.
    """
    joint = cost.curves.joint
    assert joint is not None
    tokens = [0 if batch is None else batch.tokens for batch in batches]
    each, all_tokens = dealt_tokens(tokens, sizes)
    own = max(step_time_ns(cost, batch, padded_to=each) for batch in batches if batch is not None)
    return own + joint.experts.at(all_tokens) + joint.exchange.at(all_tokens)


def sustained_ns(cost: StepCost, curves: StepCurves, batch: Batch, worked_ns: float) -> float:
    """How much longer a step's arithmetic takes on a GPU whose power limit lowers its clock, ns.

    The GPU takes so much arithmetic at full speed; then all that goes on without a pause is slower.
    A pause makes room for as much arithmetic again: a leaky bucket. What memory binds counts as
    `cooling` of a pause. Only what computes faster than the GPU keeps up fills it: experts with few
    tokens each do not.

    Args:
        cost: the server's costs.
        curves: what its kernels take.
        batch: what is computed.
        worked_ns: arithmetic in the bucket when the step begins.
    """
    if curves.sustained is None:
        return 0.0
    prefill = prefill_arithmetic_ns(cost, curves, batch)
    heating = curves.heats.at(batch.tokens) + prefill
    late = heating - (curves.sustained_after_ns - worked_ns)
    if late <= 0 or heating <= 0:
        return 0.0
    all_of_it = curves.sustained.at(batch.tokens) + prefill * curves.sustained_attention
    return min(late / heating, 1.0) * all_of_it


def prefill_arithmetic_ns(cost: StepCost, curves: StepCurves, batch: Batch) -> float:
    """Time of the chunks' attention where its FLOPs bound it, else 0, nanoseconds."""
    arithmetic, reading = _prefill_ns(cost, curves, batch)
    return arithmetic if arithmetic >= reading else 0.0


def _prefill_ns(cost: StepCost, curves: StepCurves, batch: Batch) -> tuple[float, float]:
    """What the chunks' attention takes by its FLOPs, and by its context."""
    tokens = batch.prefill_tokens
    if not tokens:
        return 0.0, 0.0
    arithmetic = curves.prefill.at(tokens, batch.prefill_pairs / tokens)
    context = (1 - cost.window_share) * batch.prefill_context
    if curves.near_prefill is not None:
        arithmetic += curves.near_prefill.at(tokens, batch.near_prefill_pairs / tokens)
        context += cost.window_share * batch.near_prefill_context
    return arithmetic, context * curves.prefill_context_ns


def attention_ns(cost: StepCost, curves: StepCurves, batch: Batch) -> float:
    """Time of a step's attention, or what stands for it, over HBM alone, nanoseconds.

    Each request's states are read, and written again at the rate of writes.
    """
    total = 0.0
    if batch.decodes:
        total += curves.decode.at(batch.decodes, batch.decode_context / batch.decodes)
        if curves.near_decode is not None:
            near = batch.near_decode_context / batch.decodes
            total += curves.near_decode.at(batch.decodes, near)
        if batch.prefill_tokens:
            total *= curves.beside_prefill
    total += max(_prefill_ns(cost, curves, batch))
    written = cost.hbm_read_bytes_per_s / cost.hbm_write_bytes_per_s
    kept = cost.state_bytes_per_request * (1.0 + written) + cost.fixed_bytes_per_request
    return total + 1e9 * (batch.requests * kept) / cost.hbm_read_bytes_per_s
