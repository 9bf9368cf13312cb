"""Replicas, and experts dealt to GPUs: what they change, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.rules import with_profile
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.results.output import WALL_CLOCK_KEYS
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.traces.faults import InputError

YAML = """\
name: replicas
workload:
  synth:
    requests: 90
    arrivals: {rate_per_s: 30}
    prompt_tokens: "0.5:600,0.99:2000"
    output_tokens: "0.5:60,0.99:200"
machine: 8xh200-nvlink
model: llama-3.1-8b
tiers: [{tier: hbm, capacity: 3GiB}]
"""
MOE = ("model=mixtral-8x7b", "tiers=[{tier: hbm}]")


def scenario(*overrides: str) -> Scenario:
    return parse_yaml(YAML, "replicas.yaml", Scenario, overrides)


def refused(*overrides: str) -> dict[str | None, str]:
    with pytest.raises(InputError) as error:
        simulate(scenario(*overrides))
    return {fault.place: fault.message for fault in error.value.faults}


def measured(summary: Any) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in WALL_CLOCK_KEYS}


def test_replicas_serve_everybody_sooner_and_count_all_gpus() -> None:
    one = simulate(scenario()).summary
    four = simulate(scenario("parallel.data=4")).summary
    assert four["requests"]["completed"] == one["requests"]["completed"] == 90
    assert four["tokens"] == one["tokens"]
    assert four["machine"] == {"name": "8xh200-nvlink", "gpus": 4, "replicas": 4}
    assert four["ttft_ms"]["p90"] < one["ttft_ms"]["p90"]
    assert four["model"]["weight_bytes"] == 4 * one["model"]["weight_bytes"]
    assert four["tiers"][0]["capacity_bytes"] == 4 * one["tiers"][0]["capacity_bytes"]
    assert sum(four["time_share"].values()) == pytest.approx(1)
    assert four["time_share"]["idle_no_requests"] > one["time_share"]["idle_no_requests"]


def test_a_replica_does_what_it_would_do_alone_with_its_share() -> None:
    both = simulate(scenario("parallel.data=2"))
    assert both.steps.column("replica").to_numpy().max() == 1
    table = both.requests
    for replica in range(2):
        alone = simulate(scenario(), requests=_share(replica))
        own = table.take(np.arange(replica, 90, 2))
        for column in ("first_token_ns", "last_token_ns", "preemptions", "hit_tokens"):
            assert own.column(column).equals(alone.requests.column(column)), column
        steps = both.steps.filter(np.equal(both.steps.column("replica").to_numpy(), replica))
        wanted = alone.steps.drop_columns(["step"])
        assert steps.drop_columns(["step", "replica"]).equals(wanted)


def _share(replica: int) -> Any:
    from vsim.sim.engine.replicas import shares
    from vsim.sim.scenario.workload import load_requests, shape_requests

    whole = scenario()
    return shares(shape_requests(whole, load_requests(whole, ".")), 2)[replica].requests


def test_a_run_of_replicas_gives_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        simulate(scenario("parallel.data=3"), out=tmp_path / name)
    for file in ("requests.arrow", "steps.arrow"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    first, second = (simulate(scenario("parallel.data=3")).summary for _ in range(2))
    assert measured(first) == measured(second)


def test_all_drivers_give_replicas_the_same_result() -> None:
    fast, oracle = (
        simulate(scenario("parallel.data=2"), mode=mode) for mode in ("fast", "backend")
    )
    assert fast.requests.equals(oracle.requests)
    assert fast.steps.equals(oracle.steps)


def test_the_progress_of_replicas_adds_up() -> None:
    told: list[tuple[int, int]] = []
    simulate(scenario("parallel.data=2"), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (90, 90)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_what_replicas_would_wait_for_each_other_for_is_refused() -> None:
    two = "parallel.data=2"
    assert refused("parallel.data=9") == {
        "parallel.data": "9 replicas need 9 GPUs, and 8xh200-nvlink has 8; write 8"
    }
    assert "write 4" in refused("parallel={data: 5, tensor: 2}")["parallel.data"]
    assert set(refused(two, "tiers=[{tier: hbm, capacity: 3GiB}, {tier: host}]")) >= {"tiers.1"}
    assert "lockstep" in refused(two, *MOE, "parallel.tensor=2")["parallel.data"]
    assert "no replicas" in refused(two, "engine.profile=tensorrt-llm")["parallel.data"]
    assert "write fewer" in refused("parallel.data=4", "workload.requests=3")["parallel.data"]
    sessions = "workload.synth.sessions={turns_mean: 3, think_s_mean: 1, follow_up_tokens: 100}"
    assert set(refused(two, sessions, "workload.pacing=think_times")) == {"workload.pacing"}


def test_replicas_of_sglang_may_have_experts_for_each_is_a_model_of_its_own() -> None:
    result = simulate(scenario("parallel={data: 2, tensor: 2}", *MOE, "engine.profile=sglang"))
    assert result.summary["requests"]["completed"] == 90


def test_operations_of_replicas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not known of replicas"):
        simulate(scenario("parallel.data=2", "output.operations=transfers"), out=tmp_path / "out")


def test_dealt_experts_take_what_the_tables_say_of_them() -> None:
    cut, dealt = (_cost("8xh200-nvlink", 4, expert) for expert in (1, 4))
    assert cut.weight_bytes == dealt.weight_bytes
    assert cut.kv_capacity_bytes == dealt.kv_capacity_bytes
    assert cut.measured is not None
    assert dealt.measured is not None
    # all-reduces and all else are as they were
    np.testing.assert_array_equal(cut.measured.communication.ns, dealt.measured.communication.ns)
    np.testing.assert_array_equal(cut.measured.small.ns, dealt.measured.small.ns)
    assert (cut.measured.products.ns != dealt.measured.products.ns).any()


def _cost(machine: str, tensor: int, expert: int, profile: str = "vllm") -> Any:
    parallel = f"parallel={{tensor: {tensor}, expert: {expert}}}"
    told = scenario(f"machine={machine}", parallel, *MOE, f"engine.profile={profile}")
    found = load_machine(machine)
    return server_cost(with_profile(told, found), found, load_model("mixtral-8x7b"))


def test_experts_that_can_not_be_dealt_so_are_refused() -> None:
    assert "no experts" in refused("parallel={tensor: 2, expert: 2}")["parallel.expert"]
    wrong = refused("parallel={tensor: 4, expert: 3}", *MOE)
    assert "does not divide tensor" in wrong["parallel.expert"]
    part = ("parallel={tensor: 4, expert: 2}", *MOE)
    assert "only SGLang" in refused(*part)["parallel.expert"]
    assert simulate(scenario(*part, "engine.profile=sglang")).summary["requests"]["completed"] == 90


def test_dealing_experts_is_refused_where_no_table_knows_of_it() -> None:
    bare = load_machine("4xa100-nvlink").model_copy(update={"kernels": ()})
    parallel = "parallel={tensor: 4, expert: 4}"
    told = with_profile(scenario("machine=4xa100-nvlink", parallel, *MOE), bare)
    with pytest.raises(InputError, match="without tables of experts"):
        server_cost(told, bare, load_model("mixtral-8x7b"))
