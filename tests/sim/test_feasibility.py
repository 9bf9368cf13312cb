"""What a run would take of memory and time is known, and refused, before anything is allocated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.sim import feasibility
from vsim.sim.engine.setup import build_state
from vsim.sim.feasibility import memory_needs, refuse_what_is_infeasible
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.scenario.case import Case
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.scenario.workload import load_requests
from vsim.sim.simulation import simulate
from vsim.sim.timing.step_cost import step_cost
from vsim.traces.faults import InputError
from vsim.traces.requests import Requests

BASE = """\
name: small
workload:
  synth:
    requests: 400
    arrivals: {rate_per_s: 20}
    prompt_tokens: 1500
    output_tokens: 60
machine: h100
model: llama-3.1-8b
tiers:
  - {tier: hbm, capacity: 4GiB}
  - {tier: host, capacity: 2GiB}
"""


def case_of(*overrides: str, requests: Requests | None = None) -> Case:
    scenario = parse_yaml(BASE, "base.yaml", Scenario, overrides)
    machine = load_machine(scenario.machine)
    cost = step_cost(machine, load_model(scenario.model))
    return Case(scenario, machine, cost, requests or load_requests(scenario))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("engine.block_tokens=1",),
        ("engine.page_tokens=512", "tiers.0.eviction=arc", "tiers.1.eviction=lfu"),
        ("engine.preemption=swap", "engine.max_running_requests=20000"),
        ("engine.max_loading_requests=50000", "engine.prefetch_requests=9000"),
        ("engine.prefix_caching=false", "tiers=[{tier: hbm}]"),
        ("engine.batching=static", "tiers=[{tier: hbm}]"),
        ("workload.synth.requests=20000", "workload.synth.prompt_tokens=20"),
        ("workload.synth.prompt_tokens=200000", "workload.synth.requests=400"),
    ],
)
def test_the_estimate_is_as_much_as_the_arrays_and_not_many_times_more(
    overrides: tuple[str, ...],
) -> None:
    case = case_of(*overrides)
    estimate = sum(need.bytes for need in memory_needs(case))
    state = build_state(case.scenario, case.machine, case.cost, case.requests)
    arrays = dict(state.arrays)
    # rows that no request can take are never touched
    rows = int(state.control["rows"])
    used = min(rows, len(case.requests))
    table = arrays.pop("table").nbytes * used // rows
    allocated = table + sum(array.nbytes for array in arrays.values())
    assert allocated <= estimate
    assert estimate < 4 * allocated + 40 * 2**20


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    (fault,) = caught.value.faults
    assert "\n" not in str(fault)
    return str(fault)


def long_request(tokens: int) -> Requests:
    found = load_requests(parse_yaml(BASE, "base.yaml", Scenario, ["workload.synth.requests=3"]))
    prompt = found.prompt_tokens.copy()
    prompt[-1] = tokens
    return replace(found, prompt_tokens=prompt)


@pytest.mark.parametrize(
    ("overrides", "words", "place"),
    [
        (
            (
                "engine.max_running_requests=1048576",
                "workload.synth.prompt_tokens=1000000",
                "workload.synth.block_tokens=0",
                "tiers=[{tier: hbm}]",
            ),
            "page tables of 400 x",
            "engine.max_running_requests",
        ),
        (("engine.max_loading_requests=1048576",), "requests at a time", "max_running_requests"),
        (("engine.block_tokens=1", "tiers.1.capacity=64GiB"), "page slots", "tiers.1.capacity"),
    ],
)
def test_settings_that_ask_for_more_memory_than_there_is_are_refused_with_the_arithmetic(
    overrides: tuple[str, ...], words: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(*overrides)
    monkeypatch.setattr("vsim.traces.machine_memory.machine_bytes", lambda: 18 * 2**20)
    found = refusal(lambda: refuse_what_is_infeasible(case))
    assert words in found
    assert f"{place}: " in found
    assert "this machine has 18 MiB" in found


def test_more_pages_than_can_be_numbered_are_refused() -> None:
    overrides = ("model=smollm2-135m", "engine.block_tokens=1", "tiers=[{tier: hbm}]",
                 "workload.synth.prompt_tokens=90000000", "workload.synth.block_tokens=0",
                 "workload.synth.requests=100")  # fmt: skip
    case = case_of(*overrides)
    roomy = case.scenario.model_copy(
        update={"tiers": (case.scenario.tiers[0].model_copy(update={"capacity": 2**60}),)}
    )
    assert "more than 32 bits can number" in refusal(
        lambda: memory_needs(replace(case, scenario=roomy))
    )


def test_memory_that_the_system_does_not_give_is_a_fault_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("vsim.sim.simulation.build_state", nothing)
    scenario = parse_yaml(BASE, "base.yaml", Scenario)
    assert "the system gives no more" in refusal(lambda: simulate(scenario))


def machine_with(folder: Path, old: str, new: str) -> str:
    catalogue = Path(feasibility.__file__).parent / "machine" / "catalogue"
    text = (catalogue / "h100.yaml").read_text()
    assert old in text
    # without tables, whose times stay what they are whatever the figures
    text = text[: text.index("kernels:")] + text[text.index("power:") :]
    (folder / "m.yaml").write_text(text.replace(old, new))
    return "machine=m.yaml"


@pytest.mark.parametrize(
    ("old", "new", "overrides", "words"),
    [
        ("989TFLOP/s", "1GFLOP/s", ("workload.synth.prompt_tokens=200000", "tiers.0.capacity=40GiB",
          "engine.token_budget=200000"), "a step of"),
        ("3.35TB/s", "1MB/s", ("tiers.0.capacity=50GiB", "workload.synth.prompt_tokens=90000"), ""),
    ],
)  # fmt: skip
def test_a_step_that_would_take_days_is_refused_or_its_times_are_sane(
    old: str, new: str, overrides: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    scenario = parse_yaml(BASE, "b", Scenario,
                          (*overrides, machine_with(tmp_path, old, new),
                           "workload.synth.requests=2"))  # fmt: skip
    if words:
        assert words in refusal(lambda: simulate(scenario, base=tmp_path))
    else:
        summary = simulate(scenario, base=tmp_path).summary
        assert 0 < summary["simulated_s"] < 2**63 / 1e9
        assert sum(summary["time_share"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_tokens": np.array([60, 0, 60])}, "output_tokens: is 0"),
        ({"prompt_tokens": np.array([60, -5, 60])}, "prompt_tokens: is -5"),
        ({"tenant": np.array([0, 7, 0], np.int32)}, "tenant"),
        ({"arrival_ns": np.array([9, 5, 1])}, "arrival_ns"),
        ({"arrival_ns": np.array([0, 1, 2**62])}, "arrival_ns"),
        ({"parent": np.array([-1, 2, -1])}, "parent"),
        ({"prompt_tokens": np.array([60.0, 5.0, 60.0])}, "prompt_tokens"),
        ({"id": np.array([1, 1, 2])}, "id"),
        ({"output_tokens": np.array([60])}, "output_tokens"),
    ],
)
def test_requests_handed_over_in_python_are_checked_as_those_of_a_file(
    change: dict[str, Any], words: str
) -> None:
    scenario = parse_yaml(BASE, "base.yaml", Scenario)
    wrong = replace(long_request(500), **change)
    with pytest.raises(InputError, match=words):
        simulate(scenario, requests=wrong)


def test_a_request_that_can_never_fit_is_rejected_not_fatal() -> None:
    scenario = parse_yaml(BASE, "base.yaml", Scenario)
    summary = simulate(scenario, requests=long_request(10_000_000)).summary
    assert summary["requests"] == {"submitted": 3, "completed": 2, "rejected": 1}
