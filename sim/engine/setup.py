"""Setup: from a scenario, its machine, model and trace to the engine's arrays."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine import layout
from vsim.sim.engine.linking import call_addresses
from vsim.sim.engine.page_keys import PageKeys, page_keys
from vsim.sim.engine.pointers import addresses
from vsim.sim.engine.topology import Topology, topology
from vsim.sim.eviction.state import POLICIES, TierPolicy, make_state
from vsim.sim.eviction.user import Holder, load
from vsim.sim.machine import Machine
from vsim.sim.scenario import Scenario
from vsim.sim.step_cost import StepCost
from vsim.sim.vmm import vmm_cost_ns
from vsim.traces.requests import Requests

_FLOWS = 1 << 14
_FIRST_STEPS = 1 << 16
_FIRST_OPERATIONS = 1 << 12


@dataclass(eq=False)
class State:
    """All that changes during a run. Logs are replaced by longer copies when they are full.

    Args:
        arrays: flat arrays by name, in the order in which kernels take them.
        requests: the trace.
        topology: links and resources.
        tier_names: HBM first.
        capacity_pages: what each tier can hold; a tier that can never fill up has fewer slots.
        page_bytes: bytes of a page.
        holders: users' policies, kept alive.
    """

    arrays: dict[str, NDArray[Any]]
    requests: Requests
    topology: Topology
    tier_names: tuple[str, ...]
    capacity_pages: tuple[int, ...]
    page_bytes: int
    holders: list[Holder] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Take down where the arrays lie, and how long the logs are."""
        for name, dtype in layout.FIELDS:
            assert self.arrays[name].dtype == dtype, name
        control = self.control
        for room in ("step", "gap", "op"):
            control[f"{room}_room"] = self.arrays[room].size
        control["op_page_room"] = self.arrays["op_pages"].size
        self._table = addresses({name: self.arrays[name] for name, _ in layout.FIELDS})
        self.address = int(self._table.ctypes.data)
        control["address"] = self.address
        for name, address in call_addresses().items():
            control[name] = address

    def control_numbers(self) -> memoryview:
        """The control record as plain numbers in its fields' order, cheap to read one by one."""
        return self.arrays["c"].view(np.int64).data

    @property
    def control(self) -> Any:
        """The control record."""
        return self.arrays["c"][0]

    def grow_logs(self) -> None:
        """Double the logs that are nearly full."""
        control = self.control
        flows = int(control["flows"]) + int(control["out"])
        needs = {
            "step": int(control["steps"]) + 2,
            "gap": int(control["exceptions"]) + self.arrays["run"].size + 1,
        }
        if control["log_transfers"]:
            needs["op"] = int(control["operations"]) + flows + len(self.tier_names) + 3
            needs["op_pages"] = (
                int(control["operation_pages"]) + int(control["op_page_reserve"]) + 1
            )
        for name, need in needs.items():
            old = self.arrays[name]
            if old.size <= need:
                new = np.zeros(max(2 * old.size, 2 * need), old.dtype)
                new[: old.size] = old
                self.arrays[name] = new
        self.refresh()


def build_state(
    scenario: Scenario,
    machine: Machine,
    cost: StepCost,
    requests: Requests,
    folder: Path | None = None,
) -> State:
    """Allocate and fill the arrays of one run.

    Args:
        scenario: checked for settings that can't act.
        machine: the one it names.
        cost: of the model on that machine.
        requests: the trace, cut and scaled.
        folder: where a user's own policies are looked for first.

    Raises:
        InputError: if a user's policy can't be used.
    """
    engine = scenario.engine
    page_tokens = engine.page_or_block_tokens
    page_bytes = page_tokens * cost.kv_bytes_per_token
    static = engine.batching == "static"
    caching = engine.prefix_caching and requests.block_tokens > 0 and not static
    keys = page_keys(requests, page_tokens, engine.block_tokens)
    names = tuple(tier.tier for tier in scenario.tiers)
    net = topology(machine, cost, names)
    capacity = _capacities(scenario, machine, cost, page_bytes)
    slots = _slots(scenario, capacity, keys if caching else None)
    longest = _longest(requests, page_tokens, static)
    rows = engine.max_running_requests + engine.max_loading_requests + 8
    if engine.preemption == "swap":
        rows += engine.max_running_requests
    groups, group_of = _groups(engine.scheduler, requests)
    n, count = len(requests), len(names)
    policies, holders = _policies(scenario, slots, folder)
    evictor = make_state(policies, max(keys.keys, 1))
    out_rows = (engine.max_loading_requests + engine.prefetch_requests + 4) * count + count**2
    resources = net.use.shape[1]

    def zeros(size: int, dtype: Any) -> NDArray[Any]:
        return np.zeros(max(size, 1), dtype)

    arrays: dict[str, NDArray[Any]] = {
        "c": zeros(1, layout.CONTROL),
        "x": zeros(1, layout.COST),
        "t": zeros(count, layout.TIER),
        "tc": zeros(count, layout.TIER_COST),
        "r": zeros(n, layout.REQUEST),
        "g": zeros(groups, layout.GROUP),
        "s": zeros(sum(slots), layout.SLOT),
        "ref": zeros(sum(slots), np.int32),
        "free": zeros(sum(slots), np.int32),
        "at": np.full(max(keys.keys * count, 1), -1, np.int32),
        "ids": keys.ids,
        "parts": keys.parts,
        "part_page": np.full(max(keys.part_ids, 1), -1, np.int32),
        "table": zeros(rows * longest, np.int32),
        "low": zeros(rows * count, np.int32),
        "run": zeros(engine.max_running_requests, np.int32),
        "share": zeros(engine.max_running_requests, np.int64),
        "load": zeros(engine.max_loading_requests, np.int32),
        "ready": zeros(n + 8, np.int32),
        "rows": np.arange(rows, dtype=np.int32),
        "release": zeros(2 * max(n, 1), np.int64),
        "out": zeros(out_rows, layout.OUT),
        "p": zeros(count * count, layout.PATH),
        "pr": zeros(count * count, layout.PATH_RATE),
        "use": np.ascontiguousarray(net.use).ravel(),
        "scratch": zeros(2 * resources + count * count + count, np.float64),
        "f": zeros(_FLOWS, layout.FLOW),
        "done": zeros(_FLOWS, layout.FLOW),
        "target": zeros(_FLOWS, np.float64),
        "step": zeros(_FIRST_STEPS, layout.STEP),
        "gap": zeros(_FIRST_STEPS, np.int64),
        "op": zeros(_FIRST_OPERATIONS, layout.OPERATION),
        "op_pages": zeros(1, np.int64),
        "hit": zeros(n * count, np.int64),
        "wait": zeros(2 * len(layout.CAUSES), np.int64),
        "links": evictor.links,
        "mark": evictor.mark,
        "key": evictor.key,
        "policy": evictor.policy,
        "ghosts": evictor.ghosts if evictor.ghosts.size else zeros(1, evictor.ghosts.dtype),
        "worth": evictor.worth if evictor.worth.size else zeros(1, evictor.worth.dtype),
        "heap": evictor.heap if evictor.heap.size else zeros(1, evictor.heap.dtype),
    }
    state = State(arrays, requests, net, names, capacity, page_bytes, holders)
    _fill_control(state, scenario, cost, keys, caching, rows, longest, groups)
    _fill_cost(state, scenario, machine, cost, page_bytes)
    _fill_tiers(state, scenario, slots)
    _fill_requests(state, scenario, keys, group_of, caching)
    return state


def _capacities(
    scenario: Scenario, machine: Machine, cost: StepCost, page_bytes: int
) -> tuple[int, ...]:
    pages = []
    for i, tier in enumerate(scenario.tiers):
        given = tier.capacity
        if given is None:
            given = cost.kv_capacity_bytes if i == 0 else machine.tier(tier.tier).capacity.value
        pages.append(given // page_bytes)
    return tuple(pages)


def _slots(scenario: Scenario, capacity: tuple[int, ...], keys: PageKeys | None) -> tuple[int, ...]:
    """Slots to allocate: a tier that holds only copies needs no more than there can be."""
    needed = (keys.keys if keys else 0) + 1
    if scenario.engine.preemption == "swap":
        needed += capacity[0]
    slots = []
    for i, tier in enumerate(scenario.tiers):
        copies_only = i > 0 and tier.access == "promote"
        slots.append(min(capacity[i], needed) if copies_only else capacity[i])
    return tuple(slots)


def _longest(requests: Requests, page_tokens: int, static: bool) -> int:
    """Pages of the longest request, and of the longest padding of a static batch."""
    if static:
        tokens = int(requests.prompt_tokens.max()) + int(requests.output_tokens.max())
    else:
        tokens = int((requests.prompt_tokens + requests.output_tokens).max())
    return tokens // page_tokens + 2


def _groups(scheduler: str, requests: Requests) -> tuple[int, NDArray[np.int64]]:
    """Scheduling classes, most urgent first, and each request's."""
    if scheduler == "priority":
        levels, group = np.unique(requests.priority, return_inverse=True)
        return len(levels), group.astype(np.int64)
    if scheduler == "fair":
        return len(requests.tenant_names), requests.tenant.astype(np.int64)
    return 1, np.zeros(len(requests), np.int64)


def _policies(
    scenario: Scenario, slots: tuple[int, ...], folder: Path | None
) -> tuple[list[TierPolicy], list[Holder]]:
    policies: list[TierPolicy] = []
    holders: list[Holder] = []
    for tier, size in zip(scenario.tiers, slots, strict=True):
        if tier.eviction in POLICIES:
            policies.append(TierPolicy(POLICIES[tier.eviction], max(size, 1)))
        else:
            holder = Holder(tier.eviction, load(tier.eviction, folder), max(size, 1))
            holders.append(holder)
            policies.append(holder.tier_policy())
    return policies, holders


def _fill_control(
    state: State,
    scenario: Scenario,
    cost: StepCost,
    keys: PageKeys,
    caching: bool,
    rows: int,
    longest: int,
    groups: int,
) -> None:
    engine, c = scenario.engine, state.control
    in_place = [tier.access == "in_place" for tier in scenario.tiers[1:]]
    schedulers = {"fcfs": layout.FCFS, "priority": layout.PRIORITY, "fair": layout.FAIR}
    values = {
        "requests": len(state.requests),
        "tiers": len(scenario.tiers),
        "paths": len(scenario.tiers) ** 2,
        "resources": state.topology.use.shape[1],
        "slots": state.arrays["s"].size,
        "flow_room": _FLOWS,
        "ready_room": state.arrays["ready"].size,
        "keys": keys.keys,
        "page_tokens": engine.page_or_block_tokens,
        "page_bytes": state.page_bytes,
        "rows": rows,
        "row_pages": longest,
        "max_running": engine.max_running_requests,
        "max_loading": engine.max_loading_requests,
        "prefetch_requests": engine.prefetch_requests,
        "token_budget": engine.token_budget,
        "chunked": engine.chunked_prefill,
        "caching": caching,
        "static": engine.batching == "static",
        "scheduler": schedulers[engine.scheduler],
        "classes": groups,
        "swap": engine.preemption == "swap",
        "spill": any(in_place) and engine.placement == "hbm_first",
        "balanced": engine.placement == "balanced",
        "mapped": engine.movement == "mapped",
        "key_ratio": keys.ratio,
        "part_tokens": keys.part_tokens,
        "part_ratio": keys.part_ratio,
        "window_tokens": cost.window_tokens,
        "log_transfers": scenario.output.operations != "none",
        "log_steps": scenario.output.operations == "all",
        "shared_route": sum(in_place) > 1,
        "lower_attends": any(in_place),
        "think": scenario.workload.pacing == "think_times",
        "previous_end": -1,
        "next_flow": layout.NEVER,
        "free_rows": rows,
        "idle_from": 0,
    }
    for name, value in values.items():
        c[name] = int(value)
    if c["log_transfers"]:
        # what one delivery of everything under way, or one step of a full batch, may log
        reserve = 2 * state.arrays["s"].size
        if c["log_steps"]:
            reserve += engine.max_running_requests * longest
        c["op_page_reserve"] = reserve
        state.grow_logs()


def _fill_cost(
    state: State, scenario: Scenario, machine: Machine, cost: StepCost, page_bytes: int
) -> None:
    x = state.arrays["x"][0]
    copied = cost.hbm_read_bytes_per_s / cost.hbm_write_bytes_per_s
    values = {
        "launch_ns": cost.launch_ns,
        "comm_fixed_ns": cost.comm_fixed_ns,
        "comm_token_ns": cost.comm_ns_per_token,
        "flops_token": cost.flops_per_token,
        "flops_sampled": cost.flops_per_sampled_token,
        "flops_pair": cost.flops_per_pair,
        "flops_per_s": cost.flops_per_s,
        "weight_bytes": cost.weight_read_bytes,
        "expert_bytes": cost.expert_bytes,
        "experts": cost.experts,
        "experts_per_token": cost.experts_per_token,
        "micro_batches": cost.micro_batches,
        "kv_read": cost.kv_read_bytes_per_token,
        "kv_write": cost.kv_write_bytes_per_token * copied,
        "kv_written": cost.kv_write_bytes_per_token,
        "window_share": cost.window_share,
        "exponent": cost.attend_exponent,
        "attend_weight": machine.attend.copy_weight.value,
        "speed": 1.0,
    }
    if scenario.engine.movement == "mapped":
        chunk = machine.hbm.page_granularity.value
        chunks = page_bytes // chunk
        values["map_ns"] = sum(
            vmm_cost_ns(machine.vmm, "hbm", call, chunk, chunks) for call in ("map", "set_access")
        )
        values["unmap_ns"] = vmm_cost_ns(machine.vmm, "hbm", "unmap", chunk, chunks)
    for name, value in values.items():
        x[name] = float(value)


def _fill_tiers(state: State, scenario: Scenario, slots: tuple[int, ...]) -> None:
    engine, count = scenario.engine, len(slots)
    base = 0
    for i, (tier, size) in enumerate(zip(scenario.tiers, slots, strict=True)):
        t = state.arrays["t"][i]
        t["base"], t["capacity"], t["free"] = base, size, size
        if size == state.capacity_pages[i]:
            t["low"] = int(size * engine.reclaim_low)
            t["high"] = max(int(size * engine.reclaim_high), int(t["low"]))
        t["in_place"] = i > 0 and tier.access == "in_place"
        t["through"] = i > 0 and tier.write == "through"
        t["next_tier"] = i + 1 if i + 1 < count else -1
        state.arrays["tc"]["read_bytes_per_s"][i] = state.topology.read_bytes_per_s[i]
        state.arrays["tc"]["write_bytes_per_s"][i] = state.topology.write_bytes_per_s[i]
        state.arrays["free"][base : base + size] = np.arange(base + size - 1, base - 1, -1)
        base += size
    state.arrays["s"]["key"] = -1
    latency = state.topology.latency_ns
    state.arrays["p"]["exists"] = latency >= 0
    state.arrays["p"]["latency"] = np.maximum(latency, 0)
    state.arrays["pr"]["target"] = np.inf


def _fill_requests(
    state: State, scenario: Scenario, keys: PageKeys, group: NDArray[np.int64], caching: bool
) -> None:
    requests, r = state.requests, state.arrays["r"]
    n = len(requests)
    if n == 0:
        return
    values: dict[str, Any] = {
        "arrival": requests.arrival_ns,
        "prompt": requests.prompt_tokens,
        "output": requests.output_tokens,
        "tokens": requests.prompt_tokens,
        "key_offset": keys.offsets,
        "keys": keys.counts if caching else 0,
        "part_offset": keys.part_offsets,
        "parts": keys.part_counts,
        "priority": requests.priority,
        "group": group,
        "think": requests.think_ns,
    }
    for name, value in values.items():
        r[name][:n] = value
    for name in ("row", "first", "last", "admitted", "wait_from", "child", "sibling", "next"):
        r[name] = -1
    if scenario.workload.pacing == "think_times":
        for row in range(n - 1, -1, -1):
            parent = int(requests.parent[row])
            if parent >= 0 and requests.think_ns[row] >= 0:
                r["sibling"][row] = r["child"][parent]
                r["child"][parent] = row
