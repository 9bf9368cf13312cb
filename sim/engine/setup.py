"""Setup: from a scenario, its machine, model and trace to the engine's arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine import layout
from vsim.sim.engine.bit_sets import words
from vsim.sim.engine.filling import (
    fill_control,
    fill_cost,
    fill_groups,
    fill_requests,
    fill_tiers,
    flat_times,
    mark_worthless,
)
from vsim.sim.engine.free_slots import roomy
from vsim.sim.engine.page_keys import page_keys
from vsim.sim.engine.state import State
from vsim.sim.engine.topology import topology
from vsim.sim.eviction.state import POLICIES, TierPolicy, make_state
from vsim.sim.eviction.user import Holder, load
from vsim.sim.machine.machine import Machine
from vsim.sim.profiles.rules import ServerRules
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.kv_pages import KvPages
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.faults import refuse
from vsim.traces.requests import Requests

_FLOWS = 1 << 14
_MOST_SLOTS = 2**31 - 64  # with the policies' sentinels still 32 bits
_LOGGED = 1 << 13  # steps, gaps, operations and pages that are logged before they are taken


def build_state(
    scenario: Scenario,
    machine: Machine,
    cost: StepCost,
    requests: Requests,
    folder: Path | None = None,
    rules: ServerRules | None = None,
) -> State:
    """Allocate and fill the arrays of one run.

    Args:
        scenario: checked for settings that can't act.
        machine: the one it names.
        cost: of the model on that machine.
        requests: the trace, cut and scaled.
        folder: where a user's own policies are looked for first.
        rules: of the engine's profile; left out, those of an engine without host times.

    Raises:
        InputError: if a user's policy can't be used.
    """
    engine = scenario.engine
    if rules is None:
        rules = ServerRules(admission=engine.admission, watermark=engine.watermark)
    page_tokens = engine.page_or_block_tokens
    pages = cost.pages(page_tokens)
    static = engine.batching == "static"
    caching = engine.prefix_caching and requests.block_tokens > 0 and not static
    keys = page_keys(requests, page_tokens, engine.block_tokens, answers=caching)
    names = tuple(tier.tier for tier in scenario.tiers)
    net = topology(machine, cost, names)
    capacity = _capacities(scenario, machine, cost, pages, rules.null_pages)
    _check_limits(requests)
    longest = _longest(requests, page_tokens, static)
    if not pages.grouped:
        longest = min(longest, sum(capacity) + 2)
    entries = sum(longest if each.keeps_tokens else 2 for each in pages.groups)
    count = len(pages.groups)
    rows = engine.max_running_requests + engine.max_loading_requests + 8
    if engine.preemption == "swap":
        rows += engine.max_running_requests
    logs = scenario.output.operations != "none"
    # whether the numbers of slots are shown, see `free_slots`
    stacked = logs or any(tier.eviction not in POLICIES for tier in scenario.tiers)
    most_pages = tuple(size // pages.smallest(tier) for tier, size in enumerate(capacity))
    slots = _slots(most_pages, count * keys.keys if caching else 0, rows, entries, stacked)
    groups, group_of = _groups(engine.scheduler, requests)
    n, kinds, count = len(requests), count, len(names)
    policies, holders = _policies(scenario, most_pages, slots, folder)
    evictor = make_state(policies, max(kinds * keys.keys, 1))
    thinks = scenario.workload.pacing == "think_times"
    ranked = any(tier.eviction in ("priority", "cost") for tier in scenario.tiers)
    # what one delivery of everything under way, or one step of a full batch, may log
    page_reserve = 2 * sum(slots) if logs else 0
    if scenario.output.operations == "all":
        page_reserve += engine.max_running_requests * (entries + 4 + count)
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
        "turn": zeros(n if thinks else 1, layout.TURN),
        "g": zeros(groups, layout.GROUP),
        "marks": zeros(words(groups), np.int64),
        "urgent": zeros(2 * groups, layout.URGENT),
        "kv": zeros(kinds, layout.KV),
        "span": zeros(2 * rows * kinds if pages.grouped else 2, np.int32),
        "group_of": zeros(sum(slots) if pages.grouped else 1, np.int8),
        "holds": zeros(sum(slots), np.int32),
        "flags": zeros(sum(slots), np.int8),
        "source": zeros(sum(slots), np.int32),
        "chain": zeros(sum(slots), np.int32),
        "rank": zeros(sum(slots) if ranked else 1, layout.RANK),
        "ref": zeros(sum(slots), np.int32),
        "free": zeros(sum(slots) if stacked else 1, np.int32),
        "open": zeros(1 if stacked else words(sum(slots)), np.int64),
        "at": np.full(max(kinds * keys.keys * count, 1), -1, np.int32),
        "ids": keys.ids,
        "parts": keys.parts,
        "part_page": np.full(max(keys.part_ids, 1), -1, np.int32),
        "table": zeros(rows * entries, np.int32),
        "low": zeros(rows * count * kinds, np.int32),
        "run": zeros(engine.max_running_requests, np.int32),
        "share": zeros(engine.max_running_requests, np.int64),
        "emit": zeros(engine.max_running_requests, np.int32),
        "owed": zeros(2 * rows, np.int32),
        "load": zeros(engine.max_loading_requests, np.int32),
        "ready": zeros(rows + 1, np.int32),  # each holds a row
        "rows": np.arange(rows, dtype=np.int32),
        "release": zeros(2 * n if thinks else 2, np.int64),
        "out": zeros(out_rows, layout.OUT),
        "p": zeros(count * count, layout.PATH),
        "pr": zeros(count * count, layout.PATH_RATE),
        "use": np.ascontiguousarray(net.use).ravel(),
        "times": flat_times(cost, rules)[0],
        "scratch": zeros(2 * resources + count * count + count, np.float64),
        "f": zeros(_FLOWS, layout.FLOW),
        "done": zeros(_FLOWS, layout.FLOW),
        "target": zeros(_FLOWS, np.float64),
        "step": zeros(_LOGGED + 1, layout.STEP),
        "gap": zeros(_LOGGED + engine.max_running_requests, np.int64),
        "op": zeros(_LOGGED + _FLOWS + out_rows + count + 3 if logs else 1, layout.OPERATION),
        "op_pages": zeros(_LOGGED + page_reserve + 1, np.int64),
        "hit": zeros(n * count if caching else 1, np.int32),
        "wait": zeros(3 * len(layout.CAUSES), np.int64),
        "links": evictor.links,
        "mark": evictor.mark,
        "key": evictor.key,
        "policy": evictor.policy,
        "ghosts": evictor.ghosts if evictor.ghosts.size else zeros(1, evictor.ghosts.dtype),
        "worth": evictor.worth if evictor.worth.size else zeros(1, evictor.worth.dtype),
        "heap": evictor.heap if evictor.heap.size else zeros(1, evictor.heap.dtype),
    }
    state = State(arrays, requests, net, names, capacity, pages, holders, keys)
    fill_control(state, scenario, cost, rules, keys, caching, rows, longest, groups)
    fill_groups(state, scenario, longest)
    state.control["stacked"] = stacked
    state.control["op_page_reserve"] = page_reserve
    fill_cost(state, scenario, machine, cost, rules)
    fill_tiers(state, scenario, slots)
    mark_worthless(state, scenario, cost, longest)
    fill_requests(state, scenario, keys, group_of, caching)
    return state


def _capacities(
    scenario: Scenario, machine: Machine, cost: StepCost, pages: KvPages, null_pages: int
) -> tuple[int, ...]:
    """Units of each tier; of the HBM, less what its engine sets aside."""
    units = []
    for i, tier in enumerate(scenario.tiers):
        given = tier.capacity
        if given is None:
            given = cost.kv_capacity_bytes if i == 0 else machine.tier(tier.tier).capacity.value
        units.append(given // pages.unit(i))
    aside = null_pages * pages.smallest(0)  # where groups are equal, a block of one of them
    return (max(units[0] - aside, 0), *units[1:])


def _slots(
    capacity: tuple[int, ...], keys: int, rows: int, longest: int, stacked: bool
) -> tuple[int, ...]:
    """Slots to reserve in each tier: what it can hold, or else the most that can be there at once.

    A page is in a tier once for each key, and without a key as a part of a request that has a row,
    or on its way out of there. Where no number of a slot is shown there are more, so that enough
    are free one after another. Nothing that a run does depends on this number: memory is
    touched only as far as slots are used.

    Raises:
        InputError: more slots than the engine can number.
    """
    most = keys + 2 * rows * longest
    slots = tuple(min(pages, most) for pages in capacity)
    if sum(slots) >= _MOST_SLOTS or keys >= _MOST_SLOTS:
        refuse(
            "scenario",
            f"{max(sum(slots), keys):,} pages can be held at once, more than {_MOST_SLOTS:,}; "
            "write larger pages, or smaller tiers",
            place="engine.page_tokens",
        )
    spacious = tuple(min(roomy(pages), most) for pages in capacity)
    return slots if stacked or sum(spacious) >= _MOST_SLOTS else spacious


def _longest(requests: Requests, page_tokens: int, static: bool) -> int:
    """Pages of the longest request, and of the longest padding of a static batch."""
    if static:
        tokens = int(requests.prompt_tokens.max()) + int(requests.output_tokens.max())
    else:
        tokens = int((requests.prompt_tokens + requests.output_tokens).max())
    return tokens // page_tokens + 2


def _check_limits(requests: Requests) -> None:
    """Refuse what the engine's numbers can't hold."""
    if len(requests) == 0:
        return
    if requests.arrival_ns[-1] > layout.LAST_NS:
        refuse(
            requests.source,
            "requests arrive after 36 years (2^60 ns) and more; write earlier arrivals, or a "
            "larger workload.rate_scale",
        )
    if len(requests) > layout.MOST_TOKENS:
        refuse(requests.source, f"has {len(requests)} requests; write {layout.MOST_TOKENS} at most")
    row = int(np.argmax(np.maximum(requests.prompt_tokens, requests.output_tokens)))
    tokens = int(requests.prompt_tokens[row]) + int(requests.output_tokens[row])
    if tokens <= layout.MOST_TOKENS:  # else the longest, or one of half its length and more
        row = int(np.argmax(requests.prompt_tokens + requests.output_tokens))
        tokens = int(requests.prompt_tokens[row]) + int(requests.output_tokens[row])
    if tokens > layout.MOST_TOKENS:
        refuse(
            requests.source,
            f"request {requests.id[row]} has {requests.prompt_tokens[row]} + "
            f"{requests.output_tokens[row]} tokens; write {layout.MOST_TOKENS} at most",
        )


def _groups(scheduler: str, requests: Requests) -> tuple[int, NDArray[np.int32]]:
    """Scheduling classes, most urgent first, and each request's, or the one of all."""
    if scheduler == "priority":
        levels, group = np.unique(requests.priority, return_inverse=True)
        return len(levels), group.astype(np.int32)
    if scheduler == "fair":
        return len(requests.tenant_names), requests.tenant
    return 1, np.zeros(1, np.int32)


def _policies(
    scenario: Scenario, capacity: tuple[int, ...], slots: tuple[int, ...], folder: Path | None
) -> tuple[list[TierPolicy], list[Holder]]:
    policies: list[TierPolicy] = []
    holders: list[Holder] = []
    for tier, pages, size in zip(scenario.tiers, capacity, slots, strict=True):
        if tier.eviction in POLICIES:
            policy = TierPolicy(POLICIES[tier.eviction], max(pages, 1), slots=max(size, 1))
        else:
            holder = Holder(tier.eviction, load(tier.eviction, folder), max(pages, 1))
            holders.append(holder)
            policy = holder.tier_policy(max(size, 1))
        policies.append(policy)
    return policies, holders
