"""What a summary says of the prefix hits that no cache of a run's size could pass."""

from typing import Any

from vsim.sim.engine.result import EngineResult
from vsim.sim.prefixes.run_bound import bound_run, refuse_false_run_bound
from vsim.sim.results.metrics import RunFacts, Summary
from vsim.traces.requests import Requests


def prefix_bound(
    facts: RunFacts, requests: Requests, engine: EngineResult, summary: Summary, *, tight: bool
) -> dict[str, Any]:
    """Certify how much of the prompts could have been found, in the order of admission.

    Nothing where the run had no prefix cache, where KV is in groups of several sizes, or where a
    request that waited for its pages gave them back, so that it was admitted at a time that is not
    kept.

    Raises:
        FalseCertificateError: the run found more than was certified: a bug in vsim.
    """
    grouped = any(tier.all_page_bytes is not None for tier in engine.tiers)
    if not facts.prefix_caching or grouped or engine.counters.get("unstuck", 0):
        return {}
    found = bound_run(requests, engine, facts.page_tokens, facts.block_tokens, tight=tight)
    refuse_false_run_bound(found, summary["prefix_hit_tokens"])
    prompt = summary["tokens"]["prompt"]
    return {
        "prefix_bound": {
            "hit_tokens": found.tokens,
            "hit_ratio": found.tokens / prompt if prompt else 0.0,
            "unbounded_hit_ratio": found.unbounded_tokens / prompt if prompt else 0.0,
            "tight": found.tight,
        }
    }
