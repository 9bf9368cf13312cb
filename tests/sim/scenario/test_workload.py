import json
from pathlib import Path

import numpy as np
import pytest

from vsim.sim.scenario.scenario import Scenario, TierSettings, Workload
from vsim.sim.scenario.workload import load_requests, shape_requests
from vsim.traces.faults import InputError
from vsim.traces.requests import write_requests
from vsim.traces.synth import SynthSpec

SPEC = {"requests": 50, "arrivals": {"rate_per_s": 3}, "prompt_tokens": 100, "output_tokens": 5}


def scenario(workload: Workload, seed: int = 1) -> Scenario:
    return Scenario(
        name="x",
        seed=seed,
        workload=workload,
        machine="h100",
        model="llama-3.1-8b",
        tiers=(TierSettings(tier="hbm"),),
    )


DRAWN = Workload(synth=SynthSpec.model_validate(SPEC))


def test_the_scenarios_seed_decides_what_is_drawn() -> None:
    first, again = (load_requests(scenario(DRAWN)).arrival_ns for _ in range(2))
    other = load_requests(scenario(DRAWN, seed=2)).arrival_ns
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_relative_trace_starts_at_the_scenarios_folder(tmp_path: Path) -> None:
    requests = load_requests(scenario(DRAWN))
    write_requests(requests, tmp_path / "a.arrow")
    found = load_requests(scenario(Workload(trace="a.arrow")), tmp_path)
    assert np.array_equal(found.arrival_ns, requests.arrival_ns)


def test_a_trace_that_is_not_there_is_a_fault_of_its_field(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_requests(scenario(Workload(trace="gone.arrow")), tmp_path)
    (fault,) = raised.value.faults
    assert (fault.file, fault.place) == ("scenario", "workload.trace")


def test_arrivals_that_a_format_leaves_open_are_drawn_from_the_scenarios_seed(
    tmp_path: Path,
) -> None:
    turns = [{"from": "human", "value": "a b c"}, {"from": "gpt", "value": "d"}]
    (tmp_path / "chat.json").write_text(json.dumps([{"conversations": turns}] * 2))
    trace = Workload(trace="chat.json")
    first = load_requests(scenario(trace), tmp_path).arrival_ns
    other = load_requests(scenario(trace, seed=2), tmp_path).arrival_ns
    assert not np.array_equal(first, other)


def test_the_first_requests_are_kept_and_arrive_faster() -> None:
    requests = load_requests(scenario(DRAWN))
    workload = DRAWN.model_copy(update={"requests": 7, "rate_scale": 4.0})
    shaped = shape_requests(scenario(workload), requests)
    assert len(shaped) == 7
    assert shaped.arrival_ns.tolist() == [int(t / 4) for t in requests.arrival_ns[:7].tolist()]
    assert shape_requests(scenario(DRAWN), requests) is requests
