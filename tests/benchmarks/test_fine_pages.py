"""Pages as fine as a block: prompts of hundreds of pages and more, which move between tiers.

Measured as in `test_engine`, for each page of the prompts: it is looked up, and found in some tier
or computed. The figure is a ratio to a plain SimPy loop of one event a page, in the same run, both
in the process's own time. With pages handled one by one it was above the limits, so they tell
whether runs of pages are taken together. What a run does is asserted exactly.
"""

import time
from dataclasses import dataclass

import pytest

from vsim.sim.engine.entry import compile_kernels
from vsim.sim.engine.run import run_engine
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.setup import build_state
from vsim.sim.results.known_prefixes import compile_counting
from vsim.sim.results.output import make_result
from vsim.sim.scenario.scenario import Scenario, load_scenario
from vsim.traces.requests import Requests
from vsim.traces.synth import synthesise

from .simpy_events import simpy_event_s
from .test_engine import MOONCAKE_SHAPE, REPOSITORY, server_of


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario, the engine's settings that differ, what a run does, and how long it may take.

    Args:
        scenario: its name.
        engine: settings of the engine.
        pages: pages of all prompts.
        work: what a run counts.
        allowed: SimPy's events a page, at most.
    """

    scenario: str
    engine: dict[str, int]
    pages: int
    work: dict[str, int]
    allowed: float


CASES = {
    "mooncake-like": Case(
        "mooncake_offload",
        {"block_tokens": 16, "page_tokens": 16},
        9_169_791,
        {"steps": 272_582, "flow_events": 25_534, "promoted": 3_150_256, "stalls": 954},
        0.15,
    ),
    "agentic-like": Case(
        "agentic_sessions",
        {"block_tokens": 64, "page_tokens": 64},
        4_520_480,
        {"steps": 186_260, "flow_events": 15_282, "promoted": 3_517_892, "stalls": 55},
        0.085,
    ),
}


def requests_of(scenario: Scenario) -> Requests:
    if scenario.workload.synth is None:
        return synthesise(MOONCAKE_SHAPE)
    busier = scenario.workload.synth.arrivals.model_copy(update={"rate_per_s": 2.0})
    return synthesise(scenario.workload.synth.model_copy(update={"arrivals": busier}))


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("name", list(CASES))
def test_fine_pages(benchmark, name):
    case = CASES[name]
    scenario = load_scenario(REPOSITORY / "scenarios" / f"{case.scenario}.yaml")
    engine = scenario.engine.model_copy(update=case.engine)
    scenario = scenario.model_copy(update={"engine": engine})
    requests = requests_of(scenario)
    machine, model, cost = server_of(scenario)
    compile_kernels()
    compile_counting()

    def run():
        state = build_state(scenario, machine, cost, requests)
        return run_engine(state, log=RunLog(keep=False))

    def summed_up_s():
        began = time.process_time()
        make_result(
            scenario, cost, requests, result, engine_wall_s=0.0, machine=machine, model=model
        )
        return time.process_time() - began

    result = benchmark.pedantic(run, rounds=5, iterations=1, warmup_rounds=1)
    summed_up_s()
    pages = int((requests.prompt_tokens // engine.page_tokens).sum())
    assert (result.status == 0).all()
    assert pages == case.pages
    assert all(tier.hit_tokens > 0 for tier in result.tiers), "a tier is not in use"
    assert {key: result.counters[key] for key in case.work} == case.work
    if benchmark.enabled:
        best = benchmark.stats.stats.min
        events = best / pages / simpy_event_s(1_000_000, time.process_time)
        benchmark.extra_info["pages_per_s"] = round(pages / best)
        benchmark.extra_info["simpy_events_a_page"] = round(events, 3)
        assert events < case.allowed
        # what no cache could pass is certified in every run, in two fifths of its time at most
        share = min(summed_up_s() for _ in range(3)) / best
        benchmark.extra_info["share_of_results"] = round(share, 3)
        assert share < 0.4
