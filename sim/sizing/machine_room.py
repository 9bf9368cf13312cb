"""MachineRoom: how many sequences a machine has room for beside a model's weights."""

import math
from dataclasses import dataclass

from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import lay_out
from vsim.sim.model.weight_format import Weights
from vsim.sim.sizing.engine_room import engine_room
from vsim.sim.timing.kv_room import Reserve, held_weight_bytes
from vsim.traces.faults import InputError


@dataclass(frozen=True, slots=True)
class MachineRoom:
    """What a machine has room for.

    Args:
        machine: its name.
        gpus: GPUs used, each layer shared by all of them; 0 where the model can't be split so.
        weight_bytes: weights on all of them.
        kv_bytes: HBM that the weights and the engine leave, on all of them; negative where the
            weights do not fit.
        sequence_bytes: KV of one sequence on all of them, copies included.
        sequences: how many fit by arithmetic.
        engine_sequences: how many fit in an engine's blocks, after their prefill.
        reason: why there are none, or nothing.
    """

    machine: str
    gpus: int
    weight_bytes: int
    kv_bytes: int
    sequence_bytes: int
    sequences: int
    engine_sequences: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Engine:
    """What counts of an engine: its memory, and its blocks.

    Args:
        reserve: what it leaves of a GPU for weights and KV; None: what the machine's file says.
        step_tokens: that a step computes at most.
        block_tokens: of a block.
        equal_groups: see `engine_room`.
    """

    reserve: Reserve | None
    step_tokens: int
    block_tokens: int
    equal_groups: bool


def machine_room(
    machine: Machine,
    model: Model,
    tokens: int,
    *,
    weights: Weights,
    kv: Precision,
    engine: Engine,
    tensor: int | None = None,
) -> MachineRoom:
    """Work out how many sequences of so many tokens a machine has room for.

    Args:
        machine: whose HBM.
        model: what it serves.
        tokens: of each sequence, none shared.
        weights: precision of the weights.
        kv: precision of the KV cache.
        engine: what serves it.
        tensor: GPUs that share each layer; left out, as many of the machine's as can.
    """
    degrees = [tensor] if tensor is not None else range(machine.gpu.count, 0, -1)
    fault = ""
    for degree in degrees:
        try:
            layout = lay_out(machine, model, degree)
        except InputError as error:
            fault = fault or error.faults[0].message
            continue
        groups = model.kv_groups(kv, degree)
        held = held_weight_bytes(model, layout, weights)
        reserve = engine.reserve or Reserve(machine.gpu.memory_utilisation.value)
        left = math.floor(reserve.kv_bytes(machine.hbm.capacity.value, held, degree))
        one = sum(each.copies * each.held_bytes(tokens) for each in groups)
        return MachineRoom(
            machine.name,
            degree,
            held,
            left,
            one,
            max(left, 0) // max(one, 1),
            max(left, 0) // max(_in_blocks(groups, tokens, engine), 1),
            "" if left > 0 else "the weights do not fit",
        )
    return MachineRoom(machine.name, 0, 0, 0, 0, 0, 0, fault)


def _in_blocks(groups: tuple[KvGroup, ...], tokens: int, engine: Engine) -> int:
    """Bytes of one sequence after its prefill in an engine's blocks, copies included."""
    return sum(
        each.group.copies * each.bytes
        for each in engine_room(
            groups,
            tokens,
            step_tokens=engine.step_tokens,
            block_tokens=engine.block_tokens,
            equal_groups=engine.equal_groups,
        )
    )
