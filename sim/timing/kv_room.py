"""Room for KV: what weights leave of a server's HBM, and what to write where they do not fit."""

import math
from dataclasses import dataclass
from itertools import accumulate

from vsim.sim.machine.machine import Machine
from vsim.sim.machine.precision import Precision
from vsim.sim.model.kv_groups import KvGroup
from vsim.sim.model.model import Model
from vsim.sim.model.parallel import Layout, lay_out
from vsim.sim.model.weight_format import Weights
from vsim.traces.faults import InputError


def _stage_weight_bytes(model: Model, layout: Layout, weights: Weights) -> list[float]:
    """Weight bytes of each stage, over its GPUs: what each of them holds counts for each.

    Of experts that servers share, each holds its part.
    """
    firsts = accumulate(layout.stage_layers, initial=0)
    elsewhere = 1 - 1 / layout.experts_over
    return [
        model.stage_bytes(first, count, weights, layout.tensor)
        - elsewhere * sum(model.experts_bytes(i, weights) for i in range(first, first + count))
        for first, count in zip(firsts, layout.stage_layers, strict=False)
    ]


def lm_head_bytes(model: Model, weights: Weights) -> float:
    """Bytes of the LM head: of the embedding where that serves as one."""
    return model.embedding_bytes if model.tied_embeddings else model.head_bytes(weights)


def held_weight_bytes(model: Model, layout: Layout, weights: Weights) -> int:
    """Weights that a server holds.

    Routers, MLA's projections down to latents, and heads that are fewer than GPUs, lie on several;
    with pipeline stages a tied LM head is a second copy.
    """
    return round(sum(_stage_weight_bytes(model, layout, weights)))


@dataclass(frozen=True, slots=True)
class Reserve:
    """What an engine leaves of each GPU's memory for weights and KV.

    Args:
        utilisation: share of it that the engine takes.
        overhead_bytes: of that, what activations, graphs and the runtime take.
        of_rest: whether the share is taken of what weights and overhead leave, and not of all.
    """

    utilisation: float
    overhead_bytes: int = 0
    of_rest: bool = False

    def usable_bytes(self, capacity: float, gpus: int) -> float:
        """What weights can take of so many GPUs of a capacity."""
        share = 1.0 if self.of_rest else self.utilisation
        return gpus * (capacity * share - self.overhead_bytes)

    def kv_bytes(self, capacity: float, held: float, gpus: int) -> float:
        """Bytes for KV on so many GPUs of a capacity that hold some weights together."""
        overhead = gpus * self.overhead_bytes
        if self.of_rest:
            return self.utilisation * (gpus * capacity - held - overhead)
        return gpus * capacity * self.utilisation - held - overhead


def kv_room_bytes(
    machine: Machine,
    model: Model,
    layout: Layout,
    weights: Weights,
    kv: Precision,
    reserve: Reserve | None = None,
) -> int:
    """HBM for KV beside the weights, copies included: of the fullest stage, scaled to all of them.

    With one group of full attention it is whole tokens. Of several, a stage has its share of each
    one's layers; whatever mix of them is held has to fit, so that its largest share counts.
    Negative or 0 where weights do not fit.
    """
    left = reserve or Reserve(machine.gpu.memory_utilisation.value)
    capacity, groups = machine.hbm.capacity.value, model.kv_groups(kv, layout.tensor)
    rooms = [
        left.kv_bytes(capacity, held, layout.tensor)
        for held in _stage_weight_bytes(model, layout, weights)
    ]
    stages = _stage_groups(model, layout, kv)
    if len(groups) == 1 and groups[0].kind == "full":
        tokens = (
            math.floor(room / (stage[0].entry_bytes * stage[0].copies)) if stage else math.inf
            for room, stage in zip(rooms, stages, strict=True)
        )
        return int(min(tokens)) * groups[0].entry_bytes * groups[0].copies
    whole = {_kind(group): _size(group) for group in groups}
    shares = (
        max((_size(group) / whole[_kind(group)] for group in stage), default=0.0)
        for stage in stages
    )
    return min(math.floor(room / share) for room, share in zip(rooms, shares, strict=True) if share)


def _stage_groups(model: Model, layout: Layout, kv: Precision) -> list[tuple[KvGroup, ...]]:
    """The KV groups of each stage."""
    first = [sum(layout.stage_layers[:stage]) for stage in range(layout.pipeline)]
    return [
        model.kv_groups_of(start, count, kv, layout.tensor)
        for start, count in zip(first, layout.stage_layers, strict=True)
    ]


def _kind(group: KvGroup) -> tuple[str, int, int, int]:
    """What the groups of a stage and of the whole model have in common."""
    return group.kind, group.tokens, group.tokens_per_entry, group.copies


def _size(group: KvGroup) -> int:
    """Bytes of an entry, or of a request, of one copy."""
    return group.entry_bytes + group.request_bytes


def does_not_fit(
    machine: Machine,
    model: Model,
    layout: Layout,
    weights: Weights,
    kv: Precision,
    reserve: Reserve | None = None,
) -> str:
    """Say by how much the weights do not fit, and what would."""
    left = reserve or Reserve(machine.gpu.memory_utilisation.value)
    each = machine.hbm.capacity.value
    usable = left.usable_bytes(each, layout.gpus)
    engine = f" less {left.overhead_bytes / 1e9:.2f} GB" if left.overhead_bytes else ""
    share = "" if left.of_rest else f" x {left.utilisation:g}"
    needed = held_weight_bytes(model, layout, weights)
    kind = weights if isinstance(weights, str) else "its checkpoint's precisions"
    message = (
        f"{model.name} in {kind} needs {needed / 1e9:.2f} GB of weights and room for KV;"
        f" {machine.name} with tensor {layout.tensor} x pipeline {layout.pipeline} has"
        f" {layout.gpus} x ({each / 1e9:.2f} GB{share}{engine}) usable = {usable / 1e9:.2f} GB"
    )
    if layout.pipeline > 1 and needed < usable:
        fullest = max(_stage_weight_bytes(model, layout, weights))
        each_stage = usable / layout.pipeline
        message += f", and its fullest stage {fullest / 1e9:.2f} of {each_stage / 1e9:.2f} GB"
    ways = []
    count = machine.gpu.count
    degrees = [(t, p) for p in range(1, count + 1) for t in range(1, count // p + 1)]
    for tensor, pipeline in sorted(degrees, key=lambda pair: (pair[0] * pair[1], pair[1])):
        if _fits(machine, model, tensor, pipeline, weights, kv, reserve):
            ways.append(f"parallel: {{tensor: {tensor}, pipeline: {pipeline}}}")
            break
    lower: tuple[Precision, ...] = ("fp8", "int4")
    for precision in lower:
        if _fits(machine, model, layout.tensor, layout.pipeline, precision, kv, reserve):
            ways.append(f"precision: {{weights: {precision}}}")
            break
    if ways:
        return f"{message}; write {' or '.join(ways)}"
    gpus = math.floor(needed / left.usable_bytes(each, 1)) + 1
    return f"{message}; take a machine with more HBM, such as {gpus} GPUs of this size"


def _fits(
    machine: Machine,
    model: Model,
    tensor: int,
    pipeline: int,
    weights: Weights,
    kv: Precision,
    reserve: Reserve | None,
) -> bool:
    try:
        layout = lay_out(machine, model, tensor, pipeline)
    except InputError:
        return False
    return kv_room_bytes(machine, model, layout, weights, kv, reserve) > 0
