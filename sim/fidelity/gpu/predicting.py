"""predict: what the simulator says that a case takes, by the functions that its runs use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Final

import numpy as np

from vsim.sim.engine.sharing import Flow, fair_rates
from vsim.sim.engine.topology import Topology, topology_of
from vsim.sim.fidelity.gpu.cases import (
    AttentionCase,
    CopyCase,
    GpuCase,
    MappingCase,
    MixedCase,
    SparseCase,
)
from vsim.sim.fidelity.gpu.heads import Heads
from vsim.sim.fidelity.gpu.loop_cases import LoopCase, LoopCopy
from vsim.sim.fidelity.gpu.mapping import mapping_ns
from vsim.sim.fidelity.gpu.replay_cases import ReplayCase
from vsim.sim.fidelity.gpu.replay_predicting import replay_ns
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    WRITE_THROUGH,
    plan_path,
    plans_folder,
    read_plan,
)
from vsim.sim.machine.kernel_file import Stack
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.tier import Tier
from vsim.sim.schedules.cost import channel_pages
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.sim.timing.attend import attend_ns
from vsim.sim.timing.copies import copy_ns
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.kernels import Kernels, kernels_of
from vsim.sim.timing.table_kernels import ragged_factor

STACK: Final[Stack] = "vsim"
"""Whose kernels cases are measured with."""
_BOUND_BY_HBM: Final = 0.5
"""Share of HBM's bandwidth above which an attend counts as bound by it."""


class NotPredictedError(Exception):
    """A case that a machine can't be predicted for, and why."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """What predictions are made by.

    Args:
        machine: whose times.
        kernels: of its table for our own kernels; else its constants.
        plans: the folder of sparse cases' plans; None where there is none.
    """

    machine: Machine
    kernels: Kernels
    plans: Path | None

    @classmethod
    def of(cls, machine: Machine, plans: Path | None = None) -> "Predictor":
        """Make one; plans are the repository's where no folder is named."""
        return cls(machine, kernels_of(machine, STACK), plans or plans_folder())

    def ns(self, case: GpuCase) -> float:
        """Predict a case, nanoseconds.

        Raises:
            NotPredictedError: the machine lacks what the case is about.
            InputError: a table or a plan is missing or damaged.
        """
        try:
            return _ns(case, self)
        except LookupError as error:
            raise NotPredictedError(f"{self.machine.name} lacks {error}") from None

    def tier(self, kind: str) -> Tier:
        """The machine's tier of a kind. Raises LookupError where it has none."""
        for tier in self.machine.tiers:
            if tier.kind == kind:
                return tier
        raise LookupError(f"a tier of kind {kind}")

    def decode_ns(self, heads: Heads, requests: int, tokens: float) -> float:
        """One layer's attention over HBM, of requests that see so many tokens in all."""
        if not requests or not tokens:
            return 0.0
        shape = HeadShape(heads.heads, heads.kv_heads, heads.head_dim)
        return float(self.kernels.decode_attention_ns("bf16", requests, tokens / requests, shape))

    def copies_ns(self, copy: "CopyCase | LoopCopy", size_bytes: int, count: int) -> float:
        """Copies alone."""
        source, target = self.tier(copy.source).name, self.tier(copy.target).name
        way = copy.way if isinstance(copy, CopyCase) else "engine"
        return copy_ns(self.machine, source, target, size_bytes, count, way)


def predict(case: GpuCase, machine: Machine) -> float:
    """Predict one case on a machine, nanoseconds. Raises as `Predictor.ns`."""
    return Predictor.of(machine).ns(case)


@singledispatch
def _ns(case: object, by: Predictor) -> float:
    raise TypeError(f"{case!r} is no case")


@_ns.register
def _attention(case: AttentionCase, by: Predictor) -> float:
    even_ns = by.decode_ns(case.heads, len(case.contexts), sum(case.contexts))
    shape = HeadShape(case.heads.heads, case.heads.kv_heads, case.heads.head_dim)
    return case.layers * even_ns * ragged_factor(by.kernels, shape, even_ns, case.contexts)


@_ns.register
def _mixed(case: MixedCase, by: Predictor) -> float:
    tokens = float(sum(case.contexts))
    in_hbm = tokens * (1 - case.peer_share - case.host_share)
    below = {
        by.tier(kind).name: tokens * share * case.heads.token_bytes
        for kind, share in (("peer", case.peer_share), ("host", case.host_share))
        if share > 0
    }
    hbm_ns = by.decode_ns(case.heads, len(case.contexts), in_hbm)
    return case.layers * attend_ns(by.machine, hbm_ns, below)


@_ns.register
def _copy(case: CopyCase, by: Predictor) -> float:
    alone_ns = by.copies_ns(case, case.bytes, case.count)
    if case.beside is None:
        return alone_ns
    attend_alone_ns = _attention(case.beside, by)
    rate = _kv_bytes(case.beside) / attend_alone_ns * 1e9
    copy_rate = case.bytes * case.count / alone_ns * 1e9
    ways = _Ways.of(by, [case], rate)
    attending, copying = fair_rates([ways.attend(rate), ways.copy(case, copy_rate)])
    if case.timed == "attention":
        return attend_alone_ns * rate / attending
    return alone_ns * copy_rate / copying


@_ns.register
def _mapping(case: MappingCase, by: Predictor) -> float:
    return mapping_ns(case, by.machine, by.tier(case.tier).kind)


@_ns.register
def _replay(case: ReplayCase, by: Predictor) -> float:
    return replay_ns(case, by.machine, STACK)


@_ns.register
def _sparse(case: SparseCase, by: Predictor) -> float:
    if by.plans is None:
        raise NotPredictedError("plans are not part of an installed vsim")
    plan = read_plan(plan_path(case, by.plans))
    planned = TwoTiers(case.planned_hbm_bytes_per_s, case.planned_slow_bytes_per_s, 0)
    up = plan.counts(ATTEND_SLOW) + plan.counts(COPY_IN)
    crossing = channel_pages(planned, up, plan.counts(WRITE_THROUGH))
    requests, size = plan.requests * case.replicas, case.heads.page_bytes * case.replicas
    tokens = plan.counts(ATTEND_HBM) * (case.heads.page_tokens * case.replicas)
    slow = by.tier(case.slow).name
    taken = [
        attend_ns(by.machine, by.decode_ns(case.heads, requests, read), {slow: pages * size})
        for read, pages in zip(tokens.tolist(), crossing.tolist(), strict=True)
    ]
    copied = [
        copy_ns(by.machine, slow, by.machine.hbm.name, size, pages, "kernel") if pages else 0.0
        for pages in plan.counts(COPY_IN).tolist()
    ]
    return float(np.maximum(taken, copied).sum())


@dataclass(slots=True)
class _Lane:
    """One thing after another: steps, or copies of one way. Changes: what is under way, its rest.

    Args:
        work: (the step that it may begin with, its flow, its bytes) of each.
        at: which of them is under way or next.
        left: bytes to go of what is under way, else 0.
    """

    work: Sequence[tuple[int, Flow, float]]
    at: int = 0
    left: float = 0.0

    def begin(self, step: int) -> None:
        """Begin what is next if its step has come."""
        if self.left <= 0 and not self.done and self.work[self.at][0] <= step:
            self.left = self.work[self.at][2]

    @property
    def flow(self) -> Flow:
        """What is under way."""
        return self.work[self.at][1]

    @property
    def done(self) -> bool:
        """Whether all has ended."""
        return self.at == len(self.work)


@_ns.register
def _loop(case: LoopCase, by: Predictor) -> float:
    batches = [_batch(case, step) for step in range(case.steps)]
    alone_ns = [_attention(batch, by) for batch in batches]
    rates = [_kv_bytes(each) / ns * 1e9 for each, ns in zip(batches, alone_ns, strict=True)]
    ways = _Ways.of(by, case.copies, max(rates))
    steps = _Lane(
        [
            (0, ways.attend(rate), float(_kv_bytes(batch)))
            for batch, rate in zip(batches, rates, strict=True)
        ]
    )
    lanes = [steps]
    for pair in dict.fromkeys((copy.source, copy.target) for copy in case.copies):
        mine = [copy for copy in case.copies if (copy.source, copy.target) == pair]
        lanes.append(_Lane([_loop_copy(case, by, ways, copy) for copy in mine]))
    now = 0.0
    while not all(lane.done for lane in lanes):
        for lane in lanes:
            lane.begin(steps.at)
        under_way = [lane for lane in lanes if lane.left > 0]
        going = fair_rates([lane.flow for lane in under_way])
        ends = [lane.left / rate * 1e9 for lane, rate in zip(under_way, going, strict=True)]
        elapsed = min(ends)
        now += elapsed
        for lane, rate, end in zip(under_way, going, ends, strict=True):
            lane.left = 0.0 if end <= elapsed else lane.left - rate * elapsed * 1e-9
            if lane.left <= 0:
                lane.at, lane.left = lane.at + 1, 0.0
    return now


def _batch(case: LoopCase, step: int) -> AttentionCase:
    contexts = case.contexts(step)
    if not contexts:
        raise NotPredictedError(f"no request decodes in step {step}")
    return AttentionCase("a step", case.heads, case.layers, contexts)


def _loop_copy(
    case: LoopCase, by: Predictor, ways: "_Ways", copy: LoopCopy
) -> tuple[int, Flow, float]:
    size = float(copy.pages * case.page_bytes)
    rate = size / by.copies_ns(copy, case.page_bytes, copy.pages) * 1e9
    return copy.step, ways.copy(copy, rate), size


def _kv_bytes(case: AttentionCase) -> int:
    return sum(case.contexts) * case.heads.token_bytes * case.layers


@dataclass(frozen=True, slots=True)
class _Ways:
    """What attends over HBM and copies take of the machine's memories and links.

    Args:
        by: whose machine.
        tiers: those concerned, HBM first.
        topology: theirs.
    """

    by: Predictor
    tiers: tuple[str, ...]
    topology: Topology

    @classmethod
    def of(cls, by: Predictor, copies: Iterable[CopyCase | LoopCopy], hbm_rate: float) -> "_Ways":
        """Of copies and an attend that reads HBM at that rate when alone.

        An attend that HBM binds keeps it busy: what it can't reach alone, copies don't get either.
        """
        hbm = by.machine.hbm
        kinds = [kind for copy in copies for kind in (copy.source, copy.target)]
        names = tuple(dict.fromkeys([hbm.name, *(by.tier(kind).name for kind in kinds)]))
        efficiency = by.machine.gpu.hbm_efficiency.value
        read = hbm.read.value * efficiency
        if hbm_rate > _BOUND_BY_HBM * read:
            read = hbm_rate
        rates = read, hbm.write.value * efficiency
        return cls(by, names, topology_of(by.machine, 1, rates, names))

    def attend(self, bytes_per_s: float) -> Flow:
        """An attend over HBM: no faster than alone, with its weight against copies."""
        attend = self.by.machine.attend
        weight = (attend.hbm_weight or attend.copy_weight).value
        return Flow(self._taken(len(self.tiers) ** 2), weight, bytes_per_s)

    def copy(self, copy: CopyCase | LoopCopy, bytes_per_s: float) -> Flow:
        """A copy: no faster than alone."""
        at = [self.tiers.index(self.by.tier(each).name) for each in (copy.source, copy.target)]
        row = at[0] * len(self.tiers) + at[1]
        return Flow(self._taken(row), float(self.topology.weight[row]), bytes_per_s)

    def _taken(self, row: int) -> dict[int, float]:
        use = self.topology.use[row]
        return {int(at): float(use[at]) for at in np.flatnonzero(use)}
