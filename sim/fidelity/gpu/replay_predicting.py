"""What operations of a replay take, by the same functions as a run's steps.

A step is predicted from its kernels on: what the host does before is left out of both sides. The
GPU is as rested before each as a replay lets it be, so that its clock is that of a short load.
"""

from dataclasses import replace
from functools import lru_cache

from vsim.sim.fidelity.gpu.replay_cases import ReplayCase, ReplayedCopy, ReplayedStep
from vsim.sim.machine.copies import find_copy_row
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.tier import Tier
from vsim.sim.model.loading import load_model
from vsim.sim.model.parallel import lay_out
from vsim.sim.timing.attend import attend_ns
from vsim.sim.timing.copies import copy_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernel_curves import kernel_curves
from vsim.sim.timing.kernels import Kernels, kernels_of
from vsim.sim.timing.step_cost import StepCost, step_cost
from vsim.sim.timing.step_time import Batch, attention_ns, step_time_ns
from vsim.sim.timing.table_kernels import ragged_factor


def replay_ns(case: ReplayCase, machine: Machine, stack: Stack) -> float:
    """Predict all operations of a case, nanoseconds.

    Raises:
        InputError: the model is unknown, does not fit, or can't be spread over so many GPUs.
        LookupError: the machine lacks a tier, or a way between two.
    """
    cost, kernels, shape = _cost(machine, case.model, case.tensor, stack)
    page_bytes = case.page_tokens * cost.kv_bytes_per_token // case.tensor
    copied = sum(_copy_ns(machine, copy, page_bytes) for copy in case.copies)
    return copied + sum(
        _step_ns(step, machine, cost) + _ragged_ns(step, cost, kernels, shape)
        for step in case.steps
    )


def _copy_ns(machine: Machine, copy: ReplayedCopy, page_bytes: int) -> float:
    """A GPU's copy page by page, beside the steps that go on meanwhile."""
    source, target = _tier(machine, copy.source), _tier(machine, copy.target)
    alone_ns = copy_ns(machine, source.name, target.name, page_bytes, copy.pages)
    row = find_copy_row(machine.copies, source.kind, target.kind, "engine")
    return alone_ns if row is None else alone_ns * row.beside_step


@lru_cache(maxsize=8)
def _cost(
    machine: Machine, model: str, tensor: int, stack: Stack
) -> tuple[StepCost, Kernels, HeadShape]:
    """Costs of a model in bf16, by a stack's kernels; and those, and the heads on each GPU."""
    found = load_model(model)
    layout = lay_out(machine, found, tensor, 1)
    kernels = kernels_of(machine, stack)
    curves = kernel_curves(machine, found, layout, kernels, "bf16", "bf16")
    heads, kv_heads = (max(count // tensor, 1) for count in (found.heads, found.kv_heads))
    shape = HeadShape(heads, kv_heads, found.head_dim)
    return replace(step_cost(machine, found, tensor=tensor), measured=curves), kernels, shape


def _step_ns(step: ReplayedStep, machine: Machine, cost: StepCost) -> float:
    """A step without launch overhead; what lies below HBM is an even part of all its tokens."""
    batch = batch_of(step)
    below = {
        _tier(machine, kind).name: float(size)
        for kind, size in (("peer", step.peer_bytes), ("host", step.host_bytes))
        if size
    }
    whole_ns = step_time_ns(cost, batch) - cost.launch_ns
    if not below:
        return whole_ns
    attended = cost.kv_read_bytes_per_token * (batch.decode_context + batch.prefill_context)
    share = max(1 - sum(below.values()) / attended, 0.0)
    in_hbm = replace(
        batch,
        decode_context=round(batch.decode_context * share),
        prefill_context=round(batch.prefill_context * share),
    )
    on_each = {tier: size / cost.gpus for tier, size in below.items()}
    attention = attend_ns(machine, attention_ns(cost, cost.curves, in_hbm), on_each)
    return whole_ns - attention_ns(cost, cost.curves, batch) + attention


def _ragged_ns(step: ReplayedStep, cost: StepCost, kernels: Kernels, shape: HeadShape) -> float:
    """What unlike contexts of decodes add to all layers' attention."""
    contexts = [c for new, c in zip(step.new_tokens, step.contexts, strict=True) if new == 1]
    if len(contexts) < 2:
        return 0.0
    mean = sum(contexts) / len(contexts)
    layer_ns = float(kernels.decode_attention_ns("bf16", len(contexts), mean, shape))
    whole_ns = float(cost.curves.decode.at(len(contexts), mean))
    return whole_ns * (ragged_factor(kernels, shape, layer_ns, contexts) - 1)


def batch_of(step: ReplayedStep) -> Batch:
    """A step's sums."""
    pairs = list(zip(step.new_tokens, step.contexts, strict=True))
    decodes = [context for new, context in pairs if new == 1]
    chunks = [(new, context) for new, context in pairs if new > 1]
    return Batch(
        sampled=step.sampled,
        decodes=len(decodes),
        decode_context=sum(decodes),
        prefill_tokens=sum(new for new, _ in chunks),
        prefill_pairs=sum(new * (context - new) + new * (new + 1) // 2 for new, context in chunks),
        prefill_context=sum(context for _, context in chunks),
    )


def _tier(machine: Machine, kind: str) -> Tier:
    for tier in machine.tiers:
        if tier.kind == kind:
            return tier
    raise LookupError(f"a tier of kind {kind}")
