"""What a run of recorded attention refuses: settings that can't act in it, and room that lacks."""

from collections.abc import Iterator
from dataclasses import dataclass

from vsim.sim.attention_run.batch import Batch
from vsim.sim.attention_run.placing import placements
from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import Model
from vsim.sim.placement.comparison import UNLIMITED
from vsim.sim.scenario.applicability import refuse_all, tiers_exist, unkept_operations
from vsim.sim.scenario.case import Found
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload_rules import NO_EXPERTS
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import suggestion
from vsim.traces.units import format_bytes

_RECORDED = "the trace's pages are placed as they were recorded"
_LOCKSTEP = "all traces decode side by side, from their prompts' end"
_PLACED = "which page is in HBM is up to placement"
ENGINE_SETTINGS = {
    "batching": _LOCKSTEP,
    "max_running_requests": _LOCKSTEP,
    "admission": _LOCKSTEP,
    "watermark": _LOCKSTEP,
    "schedule_conservativeness": _LOCKSTEP,
    "max_new_tokens": _LOCKSTEP,
    "ignore_eos": _LOCKSTEP,
    "cuda_graph_max_bs": "its batch is one size from the first step to the last",
    "async_scheduling": _LOCKSTEP,
    "host_slowdown": "a step waits for no launch of its host",
    "num_gpu_blocks": "pages are the trace's, and no engine's blocks",
    "scheduler": _LOCKSTEP,
    "preemption": "no request gives way, since the tier under HBM has room for all",
    "block_tokens": _RECORDED,
    "page_tokens": _RECORDED,
    "prefix_caching": "a trace of attention says nothing of shared prefixes",
    "max_loading_requests": "no request waits for pages",
    "prefetch_requests": "no request waits for pages",
    "loading": f"{_PLACED}, at the top of the scenario",
    "offloading": f"{_PLACED}, at the top of the scenario",
    "placement": f"{_PLACED}, at the top of the scenario",
    "movement": "recorded pages are smaller than chunks, so they are copied",
    "reclaim_low": _PLACED,
    "reclaim_high": _PLACED,
}
"""Fields of the engine that do nothing here, and why."""
WORKLOAD_SETTINGS = ("rate_scale", "requests", "pacing")
DRAWING_PLACEMENTS = frozenset(
    {"window-share", "interval-annealing", "lp-rounding"}
    | {f"belady-error-{percent}" for percent in (10, 25, 50, 75, 100)}
)
"""Placements that draw from the seed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A scenario with the machine, the model and the costs that its settings are judged against.

    Args:
        keeps_tables: whether the run's tables go anywhere.
    """

    scenario: Scenario
    machine: Machine
    model: Model
    cost: StepCost
    keeps_tables: bool = True

    @property
    def tier_names(self) -> tuple[str, str]:
        """HBM and the tier under it; only once `refuse_what_cannot_act` has found two."""
        hbm, slow = self.scenario.tiers
        return hbm.tier, slow.tier


def refuse_what_cannot_act(setting: Setting) -> None:
    """Check every setting, before any trace is read.

    Raises:
        InputError: one fault a setting, `scenario` as its file and the field as its place.
    """
    found = list(tiers_exist(setting.scenario, setting.machine))
    rules = (_server, _workload, _engine, _placement)
    found += [each for rule in rules for each in rule(setting)]
    found += unkept_operations(setting.scenario, setting.keeps_tables)
    if not any(place[0] == "tiers" for place, _ in found):
        found += _tiers(setting)
    refuse_all(found)


def refuse_what_does_not_fit(setting: Setting, batch: Batch) -> None:
    """Check the tiers' room against the pages that there are.

    Raises:
        InputError: one fault a tier.
    """
    refuse_all([*_hbm_room(setting, batch), *_slow_room(setting, batch)])


def _server(setting: Setting) -> Found:
    if setting.cost.gpus > 1 or setting.scenario.parallel.data > 1:
        yield ("parallel",), "recorded attention runs on one GPU so far; remove it"
    if setting.cost.pages(1).grouped:
        kinds = ", ".join(group.name for group in setting.cost.groups)
        message = f"{setting.model.name} keeps KV as {kinds}, which no trace of attention knows"
        yield ("model",), f"{message}; name the model that was recorded"


def _workload(setting: Setting) -> Found:
    written = setting.scenario.workload.model_fields_set
    for field in WORKLOAD_SETTINGS:
        if field in written:
            message = "does nothing with attention: each trace is one request that arrives at 0"
            yield ("workload", field), f"{message}; remove it"
    if setting.scenario.workload.alike_experts is not None and not setting.cost.experts:
        yield ("workload", "alike_experts"), NO_EXPERTS


def _engine(setting: Setting) -> Found:
    engine = setting.scenario.engine
    if engine.profile == "sglang":
        message = "sglang pads steps of prompts in a way that a run of attention does not know yet"
        yield ("engine", "profile"), f"{message}; name another profile"
    for field, reason in ENGINE_SETTINGS.items():
        if field in engine.model_fields_set:
            yield ("engine", field), f"does nothing with attention: {reason}; remove it"


def _placement(setting: Setting) -> Found:
    name = setting.scenario.placement
    known = placements()
    if name == UNLIMITED:
        message = f"'{name}' is no placement but HBM without a limit; give tiers.0 more capacity"
        yield ("placement",), message
    elif name not in known:
        yield ("placement",), f"'{name}' is no placement policy{suggestion(name, known)}"
    elif "seed" in setting.scenario.model_fields_set and name not in DRAWING_PLACEMENTS:
        yield ("seed",), f"does nothing: placement {name} draws nothing; remove it"


def _tiers(setting: Setting) -> Found:
    tiers = setting.scenario.tiers
    if len(tiers) != 2:
        message = f"recorded attention runs on two tiers so far, and {len(tiers)} are given"
        yield ("tiers",), f"{message}; write hbm and one tier with access: in_place"
        return
    for index, tier in enumerate(tiers):
        written = tier.model_fields_set
        if "eviction" in written:
            yield ("tiers", index, "eviction"), f"does nothing with attention: {_PLACED}; remove it"
        if "backlog" in written:
            yield ("tiers", index, "backlog"), f"does nothing with attention: {_PLACED}; remove it"
        if index == 0:
            for field in ("access", "write"):
                if field in written:
                    message = "does nothing in HBM, the tier that kernels read; remove it"
                    yield ("tiers", index, field), message
        elif not setting.machine.tier(tier.tier).attend_in_place:
            message = f"a kernel can't read pages in {tier.tier} of {setting.machine.name}"
            yield ("tiers", index, "tier"), f"{message}; name a tier that it attends in place"
        elif tier.access != "in_place":
            message = "recorded attention reads pages where they are; write access: in_place"
            yield ("tiers", index, "access"), message


def _hbm_room(setting: Setting, batch: Batch) -> Iterator[tuple[tuple[str | int, ...], str]]:
    place = ("tiers", 0, "capacity")
    most = setting.cost.kv_capacity_bytes
    capacity = setting.scenario.tiers[0].capacity
    if capacity is None:
        return
    if capacity > most:
        left = f"the weights leave for KV: {format_bytes(most)}"
        yield place, f"{format_bytes(capacity)} is more than {left}"
    elif capacity < batch.reads.page_bytes:
        page = format_bytes(batch.reads.page_bytes)
        yield place, f"{format_bytes(capacity)} is less than one page, {page}; write more"


def _slow_room(setting: Setting, batch: Batch) -> Iterator[tuple[tuple[str | int, ...], str]]:
    tier = setting.scenario.tiers[1]
    has = setting.machine.tier(tier.tier).capacity.value
    capacity = has if tier.capacity is None else tier.capacity
    needed = batch.reads.n_pages * batch.reads.page_bytes
    place = ("tiers", 1, "capacity")
    if capacity > has:
        yield place, f"{format_bytes(capacity)} is more than it has: {format_bytes(has)}"
    elif capacity < needed:
        message = f"{format_bytes(capacity)} does not hold all pages of the batch"
        yield place, f"{message}, {format_bytes(needed)}; write at least {needed}B"
