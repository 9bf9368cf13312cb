"""Advice on the batch: how many requests, tokens or traces share a step."""

from collections.abc import Iterator

from vsim.sim.results.advice.advice import Advice
from vsim.sim.results.advice.judged_run import Run, busy_per_time
from vsim.sim.scenario.limits import MOST_REQUESTS_AT_ONCE, MOST_TOKEN_BUDGET
from vsim.sim.scenario.profile_rules import MOST_CHUNK


def larger_batch(run: Run) -> Iterator[Advice]:
    """A larger limit of the batch, where it is what holds requests back."""
    engine = run.settings.scenario.engine
    if run.settings.recorded:
        return
    limit = engine.max_running_requests
    reached = run.summary["concurrent_requests"]["peak"] >= limit
    if not reached or run.held_back or not run.queued or 2 * limit > MOST_REQUESTS_AT_ONCE:
        return
    yield Advice(
        f"max_running_requests: {2 * limit}",
        run.batched(2),
        f"engine.max_running_requests={2 * limit}",
    )


def larger_budget(run: Run) -> Iterator[Advice]:
    """A larger token budget, where steps use up theirs on parts of prompts."""
    engine, step = run.settings.scenario.engine, run.summary["step"]
    budget = engine.token_budget
    used = step["mean_prefill_tokens"] + step["mean_decode_tokens"]
    if engine.batching == "static" or used < 0.8 * budget or 2 * budget > MOST_TOKEN_BUDGET:
        return
    if engine.profile == "sglang" and 2 * budget > MOST_CHUNK:
        return  # it is refused
    # decodes take their part of either budget; what is left is for prompts, in so many fewer parts
    decodes = min(step["mean_decode_tokens"], budget - 1)
    fewer = (2 * budget - decodes) / (budget - decodes)
    saves = run.batched(fewer, smaller_kv=1 / fewer)  # each part reads its prompt's context
    yield Advice(f"token_budget: {2 * budget}", saves, f"engine.token_budget={2 * budget}")


def more_traces(run: Run) -> Iterator[Advice]:
    """More traces that decode side by side."""
    if run.settings.recorded:
        yield Advice("twice the traces in workload.attention", run.batched(2))


def what_hbm_holds(run: Run) -> Iterator[Advice]:
    """So few requests at a time that HBM holds them, where that is faster than reading below it.

    A step then takes what it takes without the wait for the lower tier, and its HBM part, which
    hid behind that wait; but more steps are needed.
    """
    settings, tiers = run.settings, run.summary["tiers"]
    if settings.recorded or settings.caching:
        return
    held = sum(tier["mean_bytes"] for tier in tiers)
    at_once = run.summary["concurrent_requests"]["mean"]
    fit = int(at_once * tiers[0]["capacity_bytes"] / held) if held else 0
    if not 1 <= fit < at_once:
        return
    hidden = tiers[0].get("read_busy_share", 0.0) * busy_per_time(run.summary)
    hidden = max(0.0, hidden - run.part("hbm_weights", "hbm_kv"))
    if (1 - run.lower + hidden) * at_once / fit < 1:
        yield Advice(
            f"max_running_requests: {fit}", run.lower, f"engine.max_running_requests={fit}"
        )
