"""Applicability: settings that can't act in a scenario are refused, with the reason.

A setting counts as given only if it was written down (`model_fields_set`): a default that happens
to do nothing is no fault. Each rule yields the place of a field and what to write instead.
"""

import math
from collections.abc import Iterable

import numpy as np

from vsim.sim.eviction.state import POLICIES
from vsim.sim.eviction.user import load
from vsim.sim.inputs.model_faults import Place
from vsim.sim.machine.machine import Machine
from vsim.sim.scenario.case import Case, Found
from vsim.sim.scenario.group_rules import group_settings
from vsim.sim.scenario.parallel_rules import PARALLEL_RULES
from vsim.sim.scenario.profile_rules import PROFILE_RULES
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload_rules import WORKLOAD_RULES
from vsim.traces.faults import Fault, InputError, suggestion
from vsim.traces.units import format_bytes


def refuse_what_cannot_act(case: Case) -> None:
    """Check every setting against the machine, the model and the trace.

    Raises:
        InputError: one fault a setting, `scenario` as its file and the field as its place.
    """
    found = list(tiers_exist(case.scenario, case.machine))
    if not found:
        rules = (
            group_settings,
            _capacities,
            _tier_settings,
            _idle_tiers,
            _static_batching,
            _movement_settings,
            _sizes,
            _mapped_pages,
            _scheduling,
            _admission,
            _pipelining,
            _host,
            *PROFILE_RULES,
            *PARALLEL_RULES,
            _told_blocks,
            _reclaim,
            *WORKLOAD_RULES,
        )
        found = [each for rule in rules for each in rule(case)]
        found += unkept_operations(case.scenario, case.keeps_tables)
    refuse_all(found)


def refuse_all(found: Iterable[tuple[Place, str]]) -> None:
    """Raise one InputError that holds every fault found, if there is any."""
    faults = [
        Fault("scenario", message, place=".".join(map(str, place))) for place, message in found
    ]
    if faults:
        raise InputError(faults)


def tiers_exist(scenario: Scenario, machine: Machine) -> Found:
    """Tiers that the machine lacks, that are listed twice, or that are not where they belong."""
    names = [tier.name for tier in machine.tiers]
    hbm = machine.hbm.name
    seen: set[str] = set()
    for index, tier in enumerate(scenario.tiers):
        place = ("tiers", index, "tier")
        if tier.tier not in names:
            message = f"has no tier '{tier.tier}'{suggestion(tier.tier, names)}"
            yield place, f"{machine.name} {message}"
        elif tier.tier in seen:
            yield place, f"'{tier.tier}' is listed above already; remove one of them"
        elif (tier.tier == hbm) != (index == 0):
            yield place, f"the first tier must be '{hbm}', and only the first"
        seen.add(tier.tier)


def unkept_operations(scenario: Scenario, keeps_tables: bool) -> Found:
    """Operations that are recorded for a table that goes nowhere."""
    wanted = scenario.output.operations
    if wanted != "none" and not keeps_tables:
        message = f"{wanted} does nothing where no folder is written; name one with --out"
        yield ("output", "operations"), f"{message}, or remove it"


def _capacities(case: Case) -> Found:
    for index, tier in enumerate(case.scenario.tiers):
        most = case.machine.tier(tier.tier).capacity.value
        left = "it has"
        if index == 0:
            most = case.cost.kv_capacity_bytes
            left = "the weights leave for KV"
        capacity = most if tier.capacity is None else tier.capacity
        place = ("tiers", index, "capacity")
        if capacity > most:
            yield place, f"{format_bytes(capacity)} is more than {left}: {format_bytes(most)}"
        elif capacity < (page := _page_bytes(case, index)):
            yield (
                place,
                f"{format_bytes(capacity)} is less than one page of "
                f"{case.engine.page_or_block_tokens} tokens, {format_bytes(page)}; write more",
            )
    yield from _smallest_request(case)


def _smallest_request(case: Case) -> Found:
    """Refuse room that not even one request fits; those that do not fit are rejected one by one."""
    tokens = case.requests.prompt_tokens + case.requests.output_tokens
    if case.pages.grouped:
        need, has = case.request_bytes(int(tokens.min())), _capacity(case, 0)
        if need > has >= _page_bytes(case, 0):
            yield (
                ("tiers", 0, "capacity"),
                f"{format_bytes(has)} is less than the smallest request, {tokens.min()} tokens, "
                f"takes: {format_bytes(need)}; write at least that",
            )
        return
    pages = -(-int(tokens.min()) // case.engine.page_or_block_tokens)
    room = sum(
        _capacity(case, index) // _page_bytes(case, index)
        for index, tier in enumerate(case.scenario.tiers)
        if index == 0 or (tier.access == "in_place" and case.engine.batching != "static")
    )
    if pages > room >= 1:
        yield (
            ("tiers", 0, "capacity"),
            f"has room for {room} pages; the smallest request, {tokens.min()} tokens, needs "
            f"{pages}: write at least {format_bytes(pages * case.page_bytes)}",
        )


def _page_bytes(case: Case, index: int) -> int:
    """Bytes of a page in a tier; of several KV groups, of the smallest."""
    return case.pages.smallest(index) * case.pages.unit(index)


def _capacity(case: Case, index: int) -> int:
    """Bytes that a tier gives to KV."""
    tier = case.scenario.tiers[index]
    if tier.capacity is not None:
        return tier.capacity
    if index == 0:
        return case.cost.kv_capacity_bytes
    return case.machine.tier(tier.tier).capacity.value


def _tier_settings(case: Case) -> Found:
    for index, tier in enumerate(case.scenario.tiers):
        written = tier.model_fields_set
        if index == 0:
            for field in ("access", "write", "backlog"):
                if field in written:
                    message = "does nothing in HBM, the tier that kernels read; remove it"
                    yield ("tiers", index, field), message
        elif tier.access == "in_place" and not case.machine.tier(tier.tier).attend_in_place:
            yield (
                ("tiers", index, "access"),
                f"a kernel can't read pages in {tier.tier} of {case.machine.name}; "
                "write access: promote",
            )
        if not case.caching:
            for field in ("eviction", "write", "backlog"):
                if field in written and (index > 0 or field == "eviction"):
                    message = f"does nothing: {case.why_no_caching}; remove it"
                    yield ("tiers", index, field), message
        if "eviction" in written:
            yield from _eviction(case, index, tier.eviction)


def _eviction(case: Case, index: int, name: str) -> Found:
    place = ("tiers", index, "eviction")
    if ":" in name:
        try:
            load(name, case.folder)
        except InputError as error:
            for fault in error.faults:
                yield place, f"{fault.file} {fault.message}"
    elif name not in POLICIES:
        known = suggestion(name, POLICIES)
        yield place, f"there is no policy '{name}'{known}; write one, or package.module:Class"
    if name == "priority" and case.priorities == 1:
        yield place, "does nothing: all of the trace's requests have one priority; write lru"


def _idle_tiers(case: Case) -> Found:
    """A tier under HBM gets pages by eviction, by swap, or as room for new pages."""
    if case.caching or case.swaps:
        return
    for index, tier in enumerate(case.lower, start=1):
        place = ("tiers", index)
        if tier.access == "promote":
            yield (
                place,
                f"no page ever reaches {tier.tier}: {case.why_no_caching}, and no preempted page "
                "is swapped; remove it"
                + ("" if case.engine.batching == "static" else ", or write preemption: swap"),
            )
        elif case.engine.batching == "static" and case.engine.placement != "balanced":
            message = f"no page ever reaches {tier.tier}: a static batch takes its room in HBM"
            yield place, f"{message}; remove it, or write placement: balanced"


def _static_batching(case: Case) -> Found:
    if case.engine.batching != "static":
        return
    reasons = {
        "chunked_prefill": "a batch's prompts are computed whole",
        "token_budget": "a batch's prompts are computed whole",
        "prefix_caching": "a padded batch shares no blocks",
        "admission": "a batch comes in when there is room for its longest outputs",
        "schedule_conservativeness": "a batch comes in when there is room for its longest outputs",
        "max_new_tokens": "a batch comes in when there is room for its longest outputs",
        "ignore_eos": "a batch comes in when there is room for its longest outputs",
        "watermark": "a batch comes in alone",
        "async_scheduling": "a batch's next step waits for nothing but the last",
        "host_slowdown": "a batch's steps wait for no launch",
        "preemption": "a batch has room for its longest outputs from the start",
        "max_loading_requests": "no request waits for pages",
        "prefetch_requests": "no request waits for pages",
    }
    for field in case.written(*reasons):
        yield ("engine", field), f"does nothing with batching: static: {reasons[field]}; remove it"


def _movement_settings(case: Case) -> Found:
    engine = case.engine
    if engine.placement == "balanced" and not any(t.access == "in_place" for t in case.lower):
        yield (
            ("engine", "placement"),
            "balanced needs a tier with access: in_place beside HBM; add one, or write hbm_first",
        )
    if engine.batching == "static":
        return
    if engine.preemption == "swap" and not case.lower:
        yield ("engine", "preemption"), "swap needs a tier under HBM; add one, or write recompute"
    if engine.prefetch_requests > 0 and not case.promotes:
        why = "no tier is promoted from" if case.caching else case.why_no_caching
        yield ("engine", "prefetch_requests"), f"does nothing: {why}; write 0"
    for field in case.written("loading"):
        if not case.promotes:
            why = "no tier is promoted from" if case.caching else case.why_no_caching
            yield ("engine", field), f"does nothing: {why}; remove it"
    yield from _offloading(case)
    for field in case.written("max_loading_requests"):
        if not case.promotes and not case.swaps:
            yield ("engine", field), "does nothing: no page is ever promoted; remove it"


def _offloading(case: Case) -> Found:
    """An engine's own offloading has one tier, which keeps copies of prompts."""
    if case.engine.offloading != "engine":
        return
    place = ("engine", "offloading")
    if not case.engine.profile.startswith("vllm"):
        yield place, f"engine is vLLM's, and the profile is {case.engine.profile}; write tiers"
    elif not case.caching:
        yield place, f"engine does nothing: {case.why_no_caching}; write tiers"
    elif len(case.lower) != 1 or not case.promotes or case.lower[0].write != "through":
        message = "engine needs one tier under HBM, with write: through and access: promote"
        yield place, f"{message}; write it so, or offloading: tiers"
    elif "loading" in case.engine.model_fields_set:
        yield ("engine", "loading"), "does nothing with offloading: engine, which always loads"


def _sizes(case: Case) -> Found:
    block, page = case.engine.block_tokens, case.engine.page_or_block_tokens
    if page % block:
        yield (
            ("engine", "page_tokens"),
            f"{page} is no whole number of blocks of {block} tokens; write a multiple of {block}",
        )
        return
    trace = case.requests.block_tokens
    if page > block and len(list(case.written("block_tokens"))) > 0:
        place = ("engine", "block_tokens")
        if not case.caching:
            yield place, f"does nothing beside page_tokens: {case.why_no_caching}; remove it"
        elif trace % page == 0:
            message = f"the trace's prefix blocks of {trace} tokens are whole pages"
            yield place, f"does nothing beside page_tokens: {message}; remove it"
        elif block < trace:
            message = f"the trace's prefix blocks have {trace} tokens, none finer can match"
            yield place, f"does nothing: {message}; write {trace}"
    if not case.caching:
        return
    for field, size in (("block_tokens", block), ("page_tokens", page)):
        if trace % size and size % trace and (field == "block_tokens" or size != block):
            yield (
                ("engine", field),
                f"{size} neither divides the trace's prefix blocks of {trace} tokens nor is a "
                f"multiple of them; write {math.gcd(size, trace)} or {trace}",
            )


def _mapped_pages(case: Case) -> Found:
    if case.engine.movement != "mapped":
        return
    if not any(row.kind == "hbm" for row in case.machine.vmm):
        message = f"{case.machine.name} has no vmm rows of what mapping in hbm costs; write paged"
        yield ("engine", "movement"), message
    per_gpu = case.page_bytes // case.cost.gpus
    per_token = case.cost.kv_bytes_per_token // case.cost.gpus
    for tier in case.scenario.tiers:
        chunk = case.machine.tier(tier.tier).page_granularity.value
        if per_gpu % chunk:
            whole = math.lcm(chunk // math.gcd(chunk, per_token), case.engine.block_tokens)
            yield (
                ("engine", "page_tokens"),
                f"a mapped page takes {per_gpu:,} B on each GPU, no whole number of {tier.tier}'s "
                f"chunks of {format_bytes(chunk)}; write a multiple of {whole}",
            )
            return


def _scheduling(case: Case) -> Found:
    place = ("engine", "scheduler")
    if case.engine.scheduler == "priority" and case.priorities == 1:
        yield place, "does nothing: all of the trace's requests have one priority; write fcfs"
    if case.engine.scheduler == "fair" and np.unique(case.requests.tenant).size == 1:
        yield place, "does nothing: the trace has one tenant; write fcfs"


def _admission(case: Case) -> Found:
    """Admission and its watermark, where they leave everything as it is."""
    engine, place = case.engine, ("engine", "watermark")
    if engine.batching == "static" or "watermark" not in engine.model_fields_set:
        return
    if engine.watermark > 0 and engine.admission == "first_chunk":
        message = "does nothing with admission: first_chunk, which looks at no other request's room"
        yield place, f"{message}; remove it, or write admission: whole_prompt"
    elif engine.watermark > 0:
        pages = _capacity(case, 0) // _page_bytes(case, 0)
        if int(engine.watermark * pages) == 0:
            message = f"does nothing: {engine.watermark:g} of HBM's {pages} pages is less than 1"
            yield place, f"{message}; remove it"


def _pipelining(case: Case) -> Found:
    """Steps that are launched ahead, where launches take no time of their own."""
    engine = case.engine
    if engine.batching == "static" or "async_scheduling" not in engine.model_fields_set:
        return
    if engine.async_scheduling and not case.host_times:
        yield (
            ("engine", "async_scheduling"),
            f"does nothing with profile: {engine.profile}, which has no times of the host; "
            "remove it, or name the profile of an engine",
        )


def _host(case: Case) -> Found:
    """A slow host, where launches take no time of their own."""
    engine, place = case.engine, ("engine", "host_slowdown")
    if engine.batching == "static" or "host_slowdown" not in engine.model_fields_set:
        return
    if not case.host_times:
        message = f"does nothing with profile: {engine.profile}, which has no times of the host"
        yield place, f"{message}; remove it, or name the profile of an engine"
    elif not engine.async_scheduling:
        message = "does nothing with async_scheduling: false, by which no launch is counted"
        yield place, f"{message}; remove it"


def _told_blocks(case: Case) -> Found:
    """Room that is told twice, or that no GPU has."""
    blocks, place = case.engine.num_gpu_blocks, ("engine", "num_gpu_blocks")
    if blocks is None:
        return
    if case.scenario.tiers[0].capacity is not None:
        yield place, "says how much room HBM has, and so does tiers.0.capacity; remove one of them"
        return
    needed = case.cost.weight_bytes + case.cost.kv_capacity_bytes
    has = case.cost.gpus * case.machine.hbm.capacity.value
    if needed > has:
        block = case.engine.block_tokens * case.cost.kv_bytes_per_token
        yield (
            place,
            f"{blocks:,} blocks of {format_bytes(block)} and the weights take "
            f"{format_bytes(needed)}, more than the GPUs' {format_bytes(has)}; write at most "
            f"{max((has - case.cost.weight_bytes) // block, 0):,}",
        )


def _reclaim(case: Case) -> Found:
    engine = case.engine
    for field in case.written("reclaim_low", "reclaim_high"):
        if not case.caching:
            yield ("engine", field), f"does nothing: {case.why_no_caching}; remove it"
    if case.caching:
        yield from _reclaim_of_nothing(case)
    if engine.reclaim_high < engine.reclaim_low:
        yield (
            ("engine", "reclaim_high"),
            f"{engine.reclaim_high:g} is below reclaim_low, {engine.reclaim_low:g}; "
            "write at least as much",
        )


def _reclaim_of_nothing(case: Case) -> Found:
    """Shares of tiers so small that they are less than a page of the largest."""
    engine = case.engine
    tiers = range(len(case.scenario.tiers))
    pages = max(_capacity(case, index) // _page_bytes(case, index) for index in tiers)
    for field in case.written("reclaim_low", "reclaim_high"):
        share = getattr(engine, field)
        if share > 0 and int(pages * share) == 0:
            message = f"does nothing: {share:g} of the largest tier's {pages} pages is less than 1"
            yield ("engine", field), f"{message}; remove it"
        elif (
            field == "reclaim_high"
            and int(pages * engine.reclaim_low) == 0
            and engine.prefetch_requests == 0
        ):
            message = "does nothing: reclaim_low is less than a page, so reclaim never starts"
            yield ("engine", field), f"{message}; remove it, or write a larger reclaim_low"
