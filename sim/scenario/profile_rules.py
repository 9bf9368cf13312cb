"""What an engine's profile does not have, or can't be: refused by name."""

from collections.abc import Iterator

import numpy as np

from vsim.sim.scenario.case import Case, Found

_SGLANG = "sglang"
MOST_CHUNK = 16384
"""SGLang's max_prefill_tokens by default, after which a step takes nobody more."""
_ITS_OWN = ("schedule_conservativeness", "max_new_tokens", "ignore_eos", "cuda_graph_max_bs")


def _settings_of_sglang(case: Case) -> Found:
    """Settings that only SGLang has, and its admission."""
    engine = case.engine
    if engine.profile == _SGLANG:
        return
    for field in case.written(*_ITS_OWN):
        message = f"is SGLang's, and the profile is {engine.profile}; remove it"
        yield ("engine", field), f"{message}, or write profile: sglang"
    if engine.admission == "estimate":
        message = f"estimate is SGLang's, and the profile is {engine.profile}"
        yield ("engine", "admission"), f"{message}; write whole_prompt, or profile: sglang"


def _sglang(case: Case) -> Found:
    """What SGLang's scheduler is not told to do otherwise here."""
    engine = case.engine
    if engine.profile != _SGLANG or engine.batching == "static":
        return
    if case.pages.grouped:
        names = ", ".join(each.group.name for each in case.pages.groups)
        message = f"SGLang keeps KV of {case.scenario.model} ({names}) in pools of their own"
        yield ("model",), f"{message}: that is not known of profile: sglang yet"
    if engine.admission != "estimate":
        message = f"{engine.admission} is not SGLang's, which admits by an estimate"
        yield ("engine", "admission"), f"{message}; remove it"
    others = {
        "scheduler": (engine.scheduler != "fcfs", "schedule_policy is fcfs"),
        "preemption": (engine.preemption != "recompute", "a retracted request is recomputed"),
        "chunked_prefill": (not engine.chunked_prefill, "prompts are cut"),
        "placement": (engine.placement != "hbm_first", "pages are born in HBM"),
        "watermark": (engine.watermark > 0, "there is no watermark"),
    }
    for field, (differs, rule) in others.items():
        if differs:
            message = f"is not known of profile: sglang yet, whose {rule}"
            yield ("engine", field), f"{message}; remove it"
    page = engine.page_or_block_tokens
    if engine.token_budget % page:
        least = max(engine.token_budget // page, 1) * page
        message = f"{engine.token_budget} is no whole number of pages of {page} tokens"
        yield ("engine", "token_budget"), f"{message}, as chunked_prefill_size is; write {least}"
    if engine.token_budget > MOST_CHUNK:
        message = f"{engine.token_budget} is more than max_prefill_tokens, {MOST_CHUNK}"
        yield ("engine", "token_budget"), f"{message}, by default; write at most that"
    for index, tier in enumerate(case.lower, start=1):
        if tier.access == "in_place":
            message = "in_place is not SGLang's, which attends to pages in HBM alone"
            yield ("tiers", index, "access"), f"{message}; write promote"
    yield from _without_effect(case)


def _without_effect(case: Case) -> Iterator[tuple[tuple[str, str], str]]:
    """SGLang's settings, where their values leave everything as it is."""
    asked, place = case.engine.max_new_tokens, ("engine", "max_new_tokens")
    most = int(np.max(case.requests.output_tokens, initial=0))
    if asked is not None and asked <= int(np.min(case.requests.output_tokens, initial=most)):
        yield place, f"{asked} does nothing: no request generates fewer; write more than {asked}"
    if case.engine.ignore_eos and "schedule_conservativeness" in case.engine.model_fields_set:
        message = "does nothing beside ignore_eos, by which all is kept that requests may generate"
        yield ("engine", "schedule_conservativeness"), f"{message}; remove one of them"


PROFILE_RULES = (_settings_of_sglang, _sglang)
