"""Rules of the workload: which of its settings can act on the requests that there are."""

from vsim.sim.scenario.case import Case, Found
from vsim.traces.synth import SynthSpec

NO_EXPERTS = "does nothing: the model has no experts; remove it"


def _trace_settings(case: Case) -> Found:
    workload, requests = case.scenario.workload, case.requests
    if "seed" in case.scenario.model_fields_set and not case.seeded:
        yield ("seed",), "does nothing: the trace leaves nothing to be drawn; remove it"
    if workload.pacing == "think_times" and not _thinks(case):
        yield (
            ("workload", "pacing"),
            "think_times does nothing: the trace has none; write arrivals",
        )
    if workload.rate_scale != 1.0 and not requests.arrival_ns.any():
        message = "does nothing: all of the trace's requests arrive at 0; remove it"
        yield ("workload", "rate_scale"), message
    if workload.requests is not None and workload.requests > len(requests):
        yield (
            ("workload", "requests"),
            f"{workload.requests} is more than the trace's {len(requests)}; remove it",
        )
    for field in case.written("prefix_caching"):
        # false says what is so; true would promise hits that can't be
        if case.engine.prefix_caching and not case.has_prefixes:
            yield ("engine", field), "does nothing: the trace has no prefix ids; write false"


def _alike_experts(case: Case) -> Found:
    if case.scenario.workload.alike_experts is not None and not case.cost.experts:
        yield ("workload", "alike_experts"), NO_EXPERTS


def _thinks(case: Case) -> bool:
    """Whether any turn waits for the one before it and a think time."""
    return bool(((case.requests.think_ns >= 0) & (case.requests.parent >= 0)).any())


def _attention_settings(case: Case) -> Found:
    why = "does nothing: the workload has no attention trace"
    for field in ("selection", "steps"):
        if field in case.scenario.workload.model_fields_set:
            yield ("workload", field), f"{why}; remove it"
    if "placement" in case.scenario.model_fields_set:
        message = f"{why}; remove it, or write engine.placement for where pages are born"
        yield ("placement",), message


def _drawn_settings(case: Case) -> Found:
    """Settings of a drawn workload that change no request, or nothing that anything looks at."""
    synth = case.scenario.workload.synth
    if synth is None:
        return
    if "seed" in synth.model_fields_set:
        message = "does nothing: the scenario's seed counts; write it at the top, as seed: 1"
        yield ("workload", "synth", "seed"), message
    yield from _prefixes(case, synth)
    yield from _tenants(case, synth)


def _prefixes(case: Case, synth: SynthSpec) -> Found:
    sessions, place = synth.sessions, ("workload", "synth")
    looked_up = case.engine.prefix_caching and case.engine.batching != "static"
    if "block_tokens" in synth.model_fields_set and not looked_up:
        why = "static batching keeps no cached pages"
        if case.engine.batching != "static":
            why = "prefix_caching is off"
        yield (*place, "block_tokens"), f"does nothing: {why}; remove it"
    elif "block_tokens" in synth.model_fields_set and 0 < synth.block_tokens < _part(case):
        message = f"does nothing: the engine matches blocks of {_part(case)} tokens, none finer"
        yield (*place, "block_tokens"), f"{message}; write {_part(case)}, or remove it"
    if sessions.system_prompts < 2:
        return
    tokens = sessions.system_prompt_tokens or 0
    if not case.caching:
        why = case.why_no_caching
    elif tokens < max(synth.block_tokens, _part(case)):
        why = f"{tokens} tokens fill no block, so no two requests share them"
    else:
        return
    message = f"does nothing but add tokens: {why}; write 1"
    yield (*place, "sessions", "system_prompts"), message
    if sessions.zipf is not None:
        yield (*place, "sessions", "zipf"), f"does nothing: {why}; remove it"


def _part(case: Case) -> int:
    """Tokens of the smallest part of a page that the engine can match."""
    return min(case.engine.block_tokens, case.engine.page_or_block_tokens)


def _tenants(case: Case, synth: SynthSpec) -> Found:
    """Tenants differ to a scheduler, or by their priorities to eviction; nothing else sees them."""
    scheduler, place = case.engine.scheduler, ("workload", "synth", "tenants")
    if not synth.tenants:
        return
    by_priority = case.evicts_by_priority or scheduler == "priority"
    if scheduler == "fcfs" and not by_priority:
        message = "do nothing with scheduler: fcfs, which looks at arrivals only"
        yield place, f"{message}; remove them, or write scheduler: fair or priority"
    elif len(synth.tenants) == 1:
        yield place, "do nothing: a single tenant is as good as none; remove them, or add another"
    elif not by_priority:
        for index, tenant in enumerate(synth.tenants):
            if "priority" in tenant.model_fields_set:
                message = "does nothing with scheduler: fair, which looks at what each was served"
                yield (*place, index, "priority"), f"{message}; remove it"


WORKLOAD_RULES = (_trace_settings, _attention_settings, _drawn_settings, _alike_experts)
"""Each yields the settings that can't act."""
