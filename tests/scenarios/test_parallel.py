"""Replicas, and experts dealt to GPUs: what they change, and what is refused."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sim.engine.conftest import make_requests

from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.rules import server_rules, with_profile
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.results.output import WALL_CLOCK_KEYS
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate
from vsim.sim.timing.experts import ExpertShape
from vsim.sim.timing.joint_curves import dealt_tokens
from vsim.sim.timing.kernels import kernels_of
from vsim.sim.timing.step_cost import StepCost
from vsim.sim.timing.step_time import chunk, decodes, lockstep_time_ns, step_time_ns
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
    staged = "parallel={data: 2, tensor: 2, pipeline: 2}"
    assert "lockstep" in refused(staged, *MOE)["parallel.pipeline"]
    assert "no replicas" in refused(two, "engine.profile=tensorrt-llm")["parallel.data"]
    assert "write fewer" in refused("parallel.data=4", "workload.requests=3")["parallel.data"]
    sessions = "workload.synth.sessions={turns_mean: 3, think_s_mean: 1, follow_up_tokens: 100}"
    assert set(refused(two, sessions, "workload.pacing=think_times")) == {"workload.pacing"}


def test_replicas_of_sglang_may_have_experts_for_each_is_a_model_of_its_own() -> None:
    result = simulate(scenario("parallel={data: 2, tensor: 2}", *MOE, "engine.profile=sglang"))
    assert result.summary["requests"]["completed"] == 90


def test_vllm_s_replicas_of_a_model_with_experts_go_in_lockstep() -> None:
    result = simulate(scenario("parallel={data: 2, tensor: 2}", *MOE))
    assert result.summary["requests"]["completed"] == 90
    steps = result.steps
    spans = [
        set(zip(*(own.column(name).to_pylist() for name in ("start_ns", "end_ns")), strict=True))
        for own in (
            steps.filter(np.equal(steps.column("replica").to_numpy(), replica))
            for replica in range(2)
        )
    ]
    every = sorted(spans[0] | spans[1])
    assert spans[0] & spans[1]
    assert all(one[1] <= other[0] for one, other in pairwise(every))


def test_experts_that_replicas_share_are_held_once() -> None:
    """8 experts of 3 matrices of 4096 x 14336 in 32 layers: 90.2 GB of Mixtral's 93.4 GB."""
    experts = 8 * 3 * 4096 * 14336 * 32 * 2
    alone = _cost("8xh200-nvlink", 2, 1)
    shared = _cost("8xh200-nvlink", 2, 1, data=4)
    assert alone.weight_bytes - shared.weight_bytes == pytest.approx(experts * 3 / 4, abs=1)
    more = shared.kv_capacity_bytes - alone.kv_capacity_bytes
    assert more == pytest.approx(experts * 3 / 4, abs=alone.kv_bytes_per_token)
    summary = simulate(scenario("parallel={data: 4, tensor: 2}", *MOE)).summary
    assert summary["model"]["weight_bytes"] == 4 * shared.weight_bytes


def test_experts_of_replicas_in_lockstep_are_timed_on_the_gpus_of_all() -> None:
    """Two times two GPUs have the experts that four would have, and gather the tokens of both."""
    four, two = _cost("8xh200-nvlink", 4, 1), _cost("8xh200-nvlink", 2, 1, data=2)
    assert four.measured is not None
    assert two.measured is not None
    joint = two.measured.joint
    assert joint is not None
    kernels = kernels_of(load_machine("8xh200-nvlink"), "vllm")
    for tokens in (1, 64, 4096):
        layer = float(kernels.experts_ns("bf16", tokens, ExpertShape(4096, 14336, 2, 8, 4, 1)))
        assert joint.experts.at(tokens) == pytest.approx(32 * layer, rel=1e-9)
        size = tokens * 4096 * 2
        sent = kernels.collective_ns("all_gather", 4, size)
        sent = sent + kernels.collective_ns("reduce_scatter", 4, size)
        sent = sent + kernels.collective_ns("all_gather", 2, size / 2)
        assert joint.exchange.at(tokens) == pytest.approx(32 * float(sent), rel=1e-9)
    # of two all-reduces a layer one is left, over two GPUs
    reduced = 32 * float(kernels.collective_ns("all_reduce", 2, 64 * 8192))
    assert two.measured.communication.at(64) == pytest.approx(reduced, rel=1e-9)


def test_a_step_in_lockstep_takes_what_the_reference_says() -> None:
    """Two prompts, then decodes; one replica's is four times as long as the other's."""
    told = scenario("parallel={data: 2, tensor: 2}", *MOE)
    requests = make_requests([0, 0], [4000, 1000], [30, 30])
    steps = simulate(told, requests=requests).steps
    cost = _cost("8xh200-nvlink", 2, 1, data=2)
    machine, model = load_machine("8xh200-nvlink"), load_model("mixtral-8x7b")
    engine = with_profile(told, machine).engine
    sizes = server_rules(engine, model, 2).graph_sizes
    joint = cost.curves.joint
    assert joint is not None
    rows = [row for row in steps.to_pylist() if row["prefill_tokens"] + row["decode_tokens"]]
    starts = sorted({row["start_ns"] for row in rows})
    assert len(starts) == 30
    for start in starts:
        both = [row for row in rows if row["start_ns"] == start]
        assert [row["replica"] for row in both] == [0, 1]
        batches = [
            chunk(row["prefill_tokens"]) if row["prefill_tokens"]
            else decodes(1, row["context_tokens"])
            for row in both
        ]  # fmt: skip
        padded, of_all = dealt_tokens([batch.tokens for batch in batches], sizes)
        bodies = []
        for batch, row in zip(batches, both, strict=True):
            own = step_time_ns(cost, batch, padded_to=padded) + joint.experts.at(of_all)
            before = cost.launch_ns + cost.curves.communication.at(max(batch.tokens, padded))
            bodies.append(own - before)
            assert row["body_ns"] == pytest.approx(own - before, abs=1.001)
        whole = lockstep_time_ns(cost, batches, sizes)
        exchange = joint.exchange.at(of_all)
        before = cost.launch_ns + cost.curves.communication.at(
            max(max(batch.tokens for batch in batches), padded)
        )
        if padded:  # else the shorter batch has less to reduce
            assert whole == pytest.approx(before + exchange + max(bodies), rel=1e-9)


def test_how_replicas_in_lockstep_deal_experts_is_all_or_nothing() -> None:
    assert (
        "neither 1 nor tensor x data, 4"
        in refused("parallel={data: 2, tensor: 2, expert: 2}", *MOE)["parallel.expert"]
    )
    cut, dealt = (
        simulate(scenario(f"parallel={{data: 2, tensor: 2, expert: {expert}}}", *MOE)).summary
        for expert in (1, 4)
    )
    assert cut["tpot_ms"] != dealt["tpot_ms"]
    odd = refused("parallel={data: 3, expert: 3}", *MOE)["parallel.expert"]
    assert "does not divide" in odd
    large = refused("parallel={data: 4}", "model=kimi-k2", "tiers=[{tier: hbm}]")["parallel"]
    assert large.startswith("kimi-k2 in its checkpoint's precisions needs ")


def test_a_run_in_lockstep_gives_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        simulate(scenario("parallel={data: 4, tensor: 2}", *MOE), out=tmp_path / name)
    for file in ("requests.arrow", "steps.arrow"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


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


def _cost(machine: str, tensor: int, expert: int, profile: str = "vllm", data: int = 1) -> StepCost:
    parallel = f"parallel={{tensor: {tensor}, expert: {expert}, data: {data}}}"
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
