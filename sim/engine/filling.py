"""Filling a fresh state: what scenario, machine and trace say, as the kernels read it."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine import layout
from vsim.sim.engine.page_keys import PageKeys
from vsim.sim.engine.state import State
from vsim.sim.machine.machine import Machine
from vsim.sim.machine.vmm import VmmCall, vmm_cost_ns
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.curve import Curve, Grid
from vsim.sim.timing.kv_pages import most_near_pages
from vsim.sim.timing.step_cost import StepCost


def fill_control(
    state: State,
    scenario: Scenario,
    cost: StepCost,
    rules: ServerRules,
    keys: PageKeys,
    caching: bool,
    rows: int,
    longest: int,
    groups: int,
) -> None:
    """Set the control record: what the scenario says, and where a run begins."""
    engine, c = scenario.engine, state.control
    in_place = [tier.access == "in_place" for tier in scenario.tiers[1:]]
    admissions = {
        "first_chunk": layout.FIRST_CHUNK,
        "whole_prompt": layout.WHOLE_PROMPT,
        "whole_sequence": layout.WHOLE_SEQUENCE,
        "estimate": layout.ESTIMATED,
    }
    schedulers = {"fcfs": layout.FCFS, "priority": layout.PRIORITY, "fair": layout.FAIR}
    values = {
        "requests": len(state.requests),
        "tiers": len(scenario.tiers),
        "paths": len(scenario.tiers) ** 2,
        "resources": state.topology.use.shape[1],
        "slots": state.arrays["holds"].size,
        "flow_room": state.arrays["f"].size,
        "ready_room": state.arrays["ready"].size,
        "keys": len(state.pages.groups) * keys.keys,
        "groups": len(state.pages.groups),
        "grouped": state.pages.grouped,
        "group_keys": keys.keys,
        "longest": longest,
        "page_tokens": engine.page_or_block_tokens,
        "rows": rows,
        "max_running": engine.max_running_requests,
        "max_loading": engine.max_loading_requests,
        "prefetch_requests": engine.prefetch_requests,
        "token_budget": engine.token_budget,
        "chunked": engine.chunked_prefill,
        "caching": caching,
        "static": engine.batching == "static",
        "scheduler": schedulers[engine.scheduler],
        "classes": groups,
        "pipelined": rules.pipelined,
        "delays": rules.delays_tokens,
        "holds_back": rules.offloads and rules.pipelined,
        "prompt_only": rules.offloads,
        "weighs_loads": engine.loading == "cheaper" and not rules.offloads,
        "admission": admissions[rules.admission],
        "watermark_pages": int(rules.watermark * state.capacity_units[0]),
        "swap": engine.preemption == "swap",
        "spill": any(in_place) and engine.placement == "hbm_first",
        "balanced": engine.placement == "balanced",
        "mapped": engine.movement == "mapped",
        "key_ratio": keys.ratio,
        "part_tokens": keys.part_tokens,
        # of several groups only full pages are shared
        "part_ratio": 1 if state.pages.grouped else keys.part_ratio,
        "window_tokens": cost.window_tokens,
        "chunked_window": cost.chunked_window,
        "log_transfers": scenario.output.operations != "none",
        "log_steps": scenario.output.operations == "all",
        "shared_route": sum(in_place) > 1,
        "lower_attends": any(in_place),
        "ranked": any(tier.eviction in ("priority", "cost") for tier in scenario.tiers),
        "waits": any(tier.backlog == "wait" for tier in scenario.tiers),
        "think": scenario.workload.pacing == "think_times",
        "previous_end": -1,
        "refused": -1,
        "next_flow": layout.NEVER,
        "next_arrival": layout.NEVER,
        "free_rows": rows,
        "idle_from": 0,
        "chunked_request": -1,
    }
    if rules.estimate is not None:
        values |= {
            "prefill_first": True,
            "late": True,
            "clip_tokens": rules.estimate.clip_tokens,
            "most_new_tokens": rules.estimate.most_new_tokens,
            "retract_steps": rules.estimate.retract_steps,
            "ignore_eos": rules.estimate.ignore_eos,
        }
    _, places = flat_times(cost, rules)
    values |= {f"times_{name}": place for name, place in places.items()}
    for name, value in values.items():
        c[name] = int(value)


def fill_groups(state: State, scenario: Scenario, longest: int) -> None:
    """Set the KV groups, and how a row of the page tables is cut into their segments."""
    c, pages, engine = state.control, state.pages, scenario.engine
    entries = 0
    for kv, each in zip(state.arrays["kv"], pages.groups, strict=True):
        index = pages.groups.index(each)
        kv["kind"] = layout.GROUP_KINDS.index(each.group.kind)
        kv["width"], kv["bytes"], kv["segment"] = each.group.tokens, each.bytes, entries
        kv["hbm_bytes"] = each.hbm_bytes
        kv["hbm_units"], kv["low_units"] = pages.units(index, 0), pages.units(index, 1)
        kv["most"] = layout.NEVER
        if engine.chunked_prefill:
            kv["most"] = most_near_pages(each.group.tokens, engine.token_budget, pages.page_tokens)
        entries += longest if each.keeps_tokens else 2
    c["row_pages"] = entries
    c["page_bytes"] = sum(each.bytes for each in pages.groups if each.keeps_tokens)
    c["page_units"] = pages.page_bytes // pages.hbm_unit_bytes
    c["low_page_units"] = c["page_bytes"] // pages.unit_bytes


_MAPPING: Final[tuple[VmmCall, ...]] = ("map", "set_access_again")
"""What putting a chunk under an address takes in ranges that a server has had from the start."""


def fill_cost(
    state: State,
    scenario: Scenario,
    machine: Machine,
    cost: StepCost,
    rules: ServerRules,
) -> None:
    """Set the cost record; HBM writes count as the reads that would take as long."""
    x = state.arrays["x"][0]
    copied = cost.hbm_read_bytes_per_s / cost.hbm_write_bytes_per_s
    values = {
        "launch_ns": cost.launch_ns,
        "prefill_context_ns": cost.curves.prefill_context_ns,
        "beside_prefill": cost.curves.beside_prefill,
        "sustained_attention": cost.curves.sustained_attention,
        "sustained_after_ns": cost.curves.sustained_after_ns,
        "cooling": cost.curves.cooling,
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
        "window_pair_share": cost.pair_share,
        "state_bytes": cost.state_bytes_per_request * (1.0 + copied) + cost.fixed_bytes_per_request,
        "state_written": cost.state_bytes_per_request,
        "exponent": cost.attend_exponent,
        "attend_weight": machine.attend.copy_weight.value,
        "hbm_weight": (machine.attend.hbm_weight or machine.attend.copy_weight).value,
        "speed": 1.0,
        "at_tokens": -1.0,
        "at_sampled": -1.0,
        "prepare_ns": rules.prepare_ns,
        "drain_ns": rules.drain_ns,
        "join_ns": rules.join_ns,
        "schedule_ns": rules.schedule_ns,
        "client_ns": rules.arrival_ns + rules.delivery_ns,
        "first_ns": rules.first_ns,
        "prompt_token_ns": rules.prompt_token_ns,
        "compute_token_ns": _compute_token_ns(scenario, cost),
    }
    if rules.estimate is not None:
        values |= {
            "token_ratio": rules.estimate.first_ratio,
            "ratio_first": rules.estimate.first_ratio,
            "ratio_least": rules.estimate.least_ratio,
            "ratio_step": rules.estimate.decay,
        }
    if scenario.engine.movement == "mapped":
        chunk = machine.hbm.page_granularity.value
        chunks = state.pages.page_bytes // chunk
        values["map_ns"] = sum(
            vmm_cost_ns(machine.vmm, "hbm", call, chunk, chunks) for call in _MAPPING
        )
        values["unmap_ns"] = vmm_cost_ns(machine.vmm, "hbm", "unmap", chunk, chunks)
    for name, value in values.items():
        x[name] = float(value)


TIMES = (
    "products", "arithmetic", "head", "small", "communication", "decode", "prefill", "near_decode",
    "near_prefill", "sustained", "heats",
)  # fmt: skip
"""The curves and grids of `StepCurves` that the engine looks up."""
PROMPT_TIMES = ("products", "arithmetic", "small", "communication", "sustained", "heats")
"""The same of steps of prompts alone."""


def flat_times(cost: StepCost, rules: ServerRules) -> tuple[NDArray[np.float64], dict[str, int]]:
    """TIMES, the host's, then PROMPT_TIMES, and where each begins; -1 for one that there is not."""
    parts: list[NDArray[np.float64]] = []
    places: dict[str, int] = {}
    curves: dict[str, Curve | Grid | None] = {name: getattr(cost.curves, name) for name in TIMES}
    curves |= {"graph_launch": rules.graph_launch, "eager_launch": rules.eager_launch}
    prompts = cost.curves.prompts
    curves |= {
        f"chunk_{name}": None if prompts is None else getattr(prompts, name)
        for name in PROMPT_TIMES
    }
    for name, found in curves.items():
        places[name] = -1 if found is None else sum(part.size for part in parts)
        if found is not None:
            parts.append(found.flat())
    return np.concatenate(parts), places


_FULL_STEP_TOKENS = 8192


def _compute_token_ns(scenario: Scenario, cost: StepCost) -> float:
    """What a prompt's token takes in a full step, without its attention."""
    tokens = min(scenario.engine.token_budget, _FULL_STEP_TOKENS)
    return (cost.curves.products.at(tokens) + cost.curves.small.at(tokens)) / tokens


def fill_tiers(state: State, scenario: Scenario, slots: tuple[int, ...]) -> None:
    """Set the tiers and the paths between them, with every slot free."""
    engine, count = scenario.engine, len(slots)
    base = 0
    for i, (tier, size) in enumerate(zip(scenario.tiers, slots, strict=True)):
        t = state.arrays["t"][i]
        units = state.capacity_units[i]
        t["base"], t["slots"], t["capacity"], t["free"] = base, size, units, units
        t["cursor"] = base
        t["low"] = int(units * engine.reclaim_low)
        t["high"] = max(int(units * engine.reclaim_high), int(t["low"]))
        t["in_place"] = i > 0 and tier.access == "in_place"
        t["through"] = i > 0 and tier.write == "through"
        t["waits"] = i > 0 and tier.backlog == "wait"
        t["next_tier"] = i + 1 if i + 1 < count else -1
        state.arrays["tc"]["read_bytes_per_s"][i] = state.topology.read_bytes_per_s[i]
        state.arrays["tc"]["write_bytes_per_s"][i] = state.topology.write_bytes_per_s[i]
        state.arrays["tc"]["waits"][i] = state.topology.waits[i]
        state.arrays["tc"]["hbm_waits"][i] = state.topology.hbm_waits[i]
        base += size
    latency = state.topology.latency_ns
    state.arrays["p"]["exists"] = latency >= 0
    state.arrays["p"]["latency"] = np.maximum(latency, 0)
    state.arrays["pr"]["target"] = np.inf
    state.arrays["pr"]["weight"] = state.topology.weight


def mark_worthless(state: State, scenario: Scenario, cost: StepCost, longest: int) -> None:
    """Mark the tiers from which a page comes no sooner than it is computed, wherever it belongs.

    A page at the end of the longest request costs most: its tokens attend to all before them.
    """
    c, x = state.control, state.arrays["x"][0]
    if not c["weighs_loads"]:
        return
    page_tokens = int(c["page_tokens"])
    step_tokens = min(scenario.engine.token_budget, _FULL_STEP_TOKENS)
    attention_ns = cost.curves.prefill.at(step_tokens, longest * page_tokens) / step_tokens
    computed_ns = page_tokens * (x["compute_token_ns"] + attention_ns)
    count = len(scenario.tiers)
    for i, tier in enumerate(scenario.tiers):
        if i > 0 and tier.access == "promote":
            byte_s = state.topology.use[i * count].max()
            state.arrays["t"][i]["worthless"] = int(c["page_bytes"]) * byte_s * 1e9 > computed_ns


def fill_requests(
    state: State, scenario: Scenario, keys: PageKeys, group: NDArray[np.int32], caching: bool
) -> None:
    """Set the requests, and whom each turn waits for."""
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
        "named": keys.named,
        "fresh_key": keys.fresh,
        "part_offset": keys.part_offsets,
        "parts": keys.part_counts,
        "priority": requests.priority,
        "group": group,
    }
    for name, value in values.items():
        r[name][:n] = value
    for name in ("row", "first", "last", "admitted", "wait_from", "next"):
        r[name] = -1
    waits = np.zeros(n, np.bool_)
    if scenario.workload.pacing == "think_times":
        turn = state.arrays["turn"]
        waits = (requests.parent >= 0) & (requests.think_ns >= 0)
        turn["think"], turn["waits"] = requests.think_ns, waits
        turn["child"] = turn["sibling"] = -1
        for row in np.flatnonzero(waits)[::-1].tolist():
            parent = int(requests.parent[row])
            turn["sibling"][row] = turn["child"][parent]
            turn["child"][parent] = row
    first = int(np.argmin(waits))
    state.control["next_row"] = first
    if not waits[first]:
        state.control["next_arrival"] = requests.arrival_ns[first]
