"""What a summary says of the prefix hits that no cache of a run's size could pass."""

from fractions import Fraction
from typing import Any

from vsim.sim.bounds.false_certificate import refuse_false_most
from vsim.sim.engine.result import EngineResult
from vsim.sim.machine.machine import Machine
from vsim.sim.prefixes.loads import load_s_per_byte
from vsim.sim.prefixes.run_bound import RunReuse, bound_in_any_order, bound_run
from vsim.sim.prefixes.run_net_bound import bound_net
from vsim.sim.prefixes.values import prefill_seconds
from vsim.sim.results.metrics import RunFacts, Summary
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.timing.step_cost import StepCost
from vsim.traces.requests import Requests


def prefix_bound(
    scenario: Scenario,
    machine: Machine,
    cost: StepCost,
    facts: RunFacts,
    requests: Requests,
    engine: EngineResult,
    summary: Summary,
    *,
    tight: bool,
) -> dict[str, Any]:
    """Certify what prefix hits could have been in the order of admission, and saved net of loads.

    Nothing where the run had no prefix cache. Where KV is in groups of several sizes, or where a
    request that waited for its pages gave them back, so that it was admitted at a time that is not
    kept, what any order and any room allow, and nothing of loads; nor where no tier has any.

    Args:
        scenario: what was run.
        machine: what it ran on.
        cost: what a step cost.
        facts: of the run.
        requests: that arrived.
        engine: what happened.
        summary: of the same run, as far as it is known.
        tight: take the time that good prices need.

    Raises:
        FalseCertificateError: the run found or saved more than was certified: a bug in vsim.
    """
    if not facts.prefix_caching:
        return {}
    sizes = (facts.page_tokens, facts.block_tokens)
    grouped = any(tier.all_page_bytes is not None for tier in engine.tiers)
    in_order = not grouped and not engine.counters.get("unstuck", 0)
    if in_order:
        run = RunReuse.of(requests, engine, *sizes)
        found = bound_run(run, tight=tight)
    else:
        found = bound_in_any_order(requests, engine, *sizes)
    refuse_false_most(found.tokens, {"the run": summary["prefix_hit_tokens"]}, what="tokens")
    prompt = summary["tokens"]["prompt"]
    bounds: dict[str, Any] = {
        "prefix_bound": {
            "hit_tokens": found.tokens,
            "hit_ratio": found.tokens / prompt if prompt else 0.0,
            "unbounded_hit_ratio": found.unbounded_tokens / prompt if prompt else 0.0,
            "tight": found.tight,
        }
    }
    loads = _loads(scenario, machine, facts, engine) if in_order else []
    if any(loads):
        seconds = prefill_seconds(cost, run.fine_tokens)
        net = bound_net(run, engine, seconds, loads, tight=tight)
        bounds["prefix_net_bound"] = {"saved_s": net.saved_s, "most_s": net.most_s}
    return bounds


def _loads(
    scenario: Scenario, machine: Machine, facts: RunFacts, engine: EngineResult
) -> list[Fraction]:
    """Seconds that loading a token takes from each tier; 0 from what is attended in place."""
    loads = [Fraction(0)]
    for settings, tier in zip(scenario.tiers[1:], engine.tiers[1:], strict=True):
        per_byte = load_s_per_byte(machine, settings.tier, "tiers")
        token_bytes = Fraction(tier.page_bytes, facts.page_tokens)
        loads.append(Fraction(0) if settings.access == "in_place" else per_byte * token_bytes)
    return loads
