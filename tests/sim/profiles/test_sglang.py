"""SGLang's defaults by GPU, its captured sizes and what it leaves for KV, in closed form."""

import math
from dataclasses import replace
from typing import Any

import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.captured import captured_sizes
from vsim.sim.profiles.loading import load_profile
from vsim.sim.profiles.rules import ServerRules, server_rules, with_profile
from vsim.sim.profiles.server_cost import reserve_of, server_cost
from vsim.sim.scenario.scenario import Parallel, Scenario
from vsim.sim.simulation import simulate
from vsim.sim.timing.curve import line
from vsim.sim.timing.step_curves import StepCurves
from vsim.sim.timing.step_time import chunk, decodes, step_time_ns

MIB, GIB = 1 << 20, 1 << 30
LLAMA = "llama-3.1-8b"


def filled(machine: str = "h100", tensor: int = 1, model: str = LLAMA, **engine: Any) -> Scenario:
    scenario = Scenario.model_validate(
        {
            "name": "sglang",
            "workload": {"trace": "none"},
            "machine": machine,
            "model": model,
            "parallel": {"tensor": tensor},
            "engine": {"profile": "sglang"} | engine,
            "tiers": [{"tier": "hbm"}],
        }
    )
    return with_profile(scenario, load_machine(machine))


def rules(scenario: Scenario, pipeline: int = 1) -> ServerRules:
    return server_rules(scenario.engine, load_model(scenario.model), 1, pipeline)


@pytest.mark.parametrize(
    ("machine", "tensor", "chunk_tokens", "graph"),
    [
        ("a10", 1, 4096, 48),
        ("rtx4090", 1, 4096, 48),
        ("l40s", 1, 4096, 32),
        ("h100", 1, 8192, 256),
        ("8xh200-nvlink", 2, 8192, 256),
        ("8xh200-nvlink", 4, 8192, 512),
        ("b200", 1, 16384, 512),
    ],
)
def test_chunks_and_graphs_follow_the_gpu_s_memory_and_the_degree(
    machine: str, tensor: int, chunk_tokens: int, graph: int
) -> None:
    engine = filled(machine, tensor).engine
    assert (engine.token_budget, engine.cuda_graph_max_bs) == (chunk_tokens, graph)
    assert (engine.admission, engine.block_tokens, engine.async_scheduling) == ("estimate", 1, True)
    assert engine.max_running_requests == 2048


def test_what_is_written_goes_before_the_defaults() -> None:
    engine = filled(token_budget=2048, cuda_graph_max_bs=100, block_tokens=16).engine
    assert (engine.token_budget, engine.cuda_graph_max_bs, engine.block_tokens) == (2048, 100, 16)


def test_decode_batches_are_captured_at_its_list_of_sizes() -> None:
    listed = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), 512]
    assert list(rules(filled("b200")).graph_sizes) == listed
    small = rules(filled(cuda_graph_max_bs=100)).graph_sizes
    assert small[-3:] == (88, 96, 100)  # the largest is captured, whatever the list says
    few = rules(filled(max_running_requests=5)).graph_sizes
    assert few == (1, 2, 4, 5)
    wide = rules(filled("b200", cuda_graph_max_bs=600)).graph_sizes
    assert wide[-4:] == (512, 544, 576, 600)


def test_steps_of_prompts_are_captured_at_sizes_of_their_own() -> None:
    listed = [
        *range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64),
        *range(1280, 4097, 256), *range(4608, 8193, 512),
    ]  # fmt: skip
    assert list(rules(filled()).prompt_sizes) == listed
    assert rules(filled(), pipeline=2).prompt_sizes == ()
    latent = filled("8xh200-nvlink", 8, "deepseek-v3", token_budget=16384)
    assert rules(latent).prompt_sizes[-1] == 8192


def test_a_step_of_prompts_is_padded_otherwise_than_one_that_decodes() -> None:
    scenario = filled("a10")
    machine, model = load_machine("a10"), load_model(LLAMA)
    cost = server_cost(scenario, machine, model)
    assert cost.measured is not None
    prompts = cost.measured.prompts
    assert prompts is not None
    for tokens, decoded, prefilled in (
        (13, 16, 16),
        (17, 24, 20),
        (33, 33, 48),
        (1025, 1025, 1280),
    ):
        assert cost.measured.small.at(tokens) == cost.measured.small.at(decoded)
        assert prompts.small.at(tokens) == prompts.small.at(prefilled)
    # where 33 decode, they are more than are captured on this GPU
    assert prompts.small.at(33) > cost.measured.small.at(33)


def test_the_reference_takes_the_prompts_times_for_prompts_alone() -> None:
    scenario = filled()
    cost = server_cost(scenario, load_machine("h100"), load_model(LLAMA))
    assert cost.measured is not None
    assert cost.measured.prompts is not None
    slow: StepCurves = replace(cost.measured.prompts, small=line(1.0, 1e9))
    slowed = replace(cost, measured=replace(cost.measured, prompts=slow))
    assert step_time_ns(slowed, chunk(100)) > step_time_ns(cost, chunk(100)) + 9e8
    assert step_time_ns(slowed, decodes(100, 10_000)) == step_time_ns(cost, decodes(100, 10_000))


def share(machine: str, tensor: int = 1, model: str = LLAMA, **engine: Any) -> float:
    found = load_machine(machine)
    scenario = filled(machine, tensor, model, **engine)
    degrees = Parallel(tensor=tensor)
    return reserve_of(scenario.engine, found, load_model(model), degrees).utilisation


def test_what_is_left_for_weights_and_kv_is_its_sum_rounded_to_three_digits() -> None:
    # 512 + 1.5 * 8,192 + 128 + 2 * 256 + 8 * 58 MiB of 80 GiB
    sizes = len(rules(filled()).prompt_sizes)
    assert sizes == 58
    assert share("h100") == round(1 - (512 + 12288 + 128 + 512 + 464) / 81920, 3) == 0.83
    # at least 10 GiB on such GPUs; 512 + 3,072 + 128 + 512 + 8 * 38 are less
    assert share("h100", token_budget=2048) == round(1 - 10 / 80, 3)
    # and on smaller ones what the sum says: 512 + 1.5 * 4,096 + 128 + 2 * 48 + 8 * 50 of 24 GiB
    assert share("a10") == round(1 - (512 + 6144 + 128 + 96 + 400) / (24 * 1024), 3)
    # fewer tokens count as 2,048
    few = round(1 - (512 + 3072 + 128 + 96 + 8 * 14) / (24 * 1024), 3)
    assert share("a10", token_budget=128) == pytest.approx(few, abs=2e-3)
    # 8 GPUs; 1.5 GiB for all graphs of prompts with latent attention
    latent = 512 + 12288 + 1024 + 1024 + 1536
    capacity = load_machine("8xh200-nvlink").hbm.capacity.value / MIB
    assert share("8xh200-nvlink", 8, "deepseek-v3") == round(1 - latent / capacity, 3)


def test_kv_has_the_share_of_what_is_free_before_the_weights_less_these() -> None:
    scenario = filled()
    model = load_model(LLAMA)
    cost = server_cost(scenario, load_machine("h100"), model)
    left = 0.83 * (80 * GIB - 600 * MIB) - model.weight_bytes("bf16")
    tokens = math.floor(left / cost.kv_bytes_per_token)
    assert abs(cost.kv_capacity_bytes // cost.kv_bytes_per_token - tokens) <= 1


def test_the_ratio_starts_at_its_setting_and_takes_600_steps_to_a_seventh() -> None:
    estimate = rules(filled()).estimate
    assert estimate is not None
    assert estimate.first_ratio == 0.7
    assert estimate.least_ratio == 0.7 * 0.14
    assert estimate.decay == (0.7 - 0.7 * 0.14) / 600
    bold = rules(filled(schedule_conservativeness=0.5)).estimate
    assert bold is not None
    assert bold.first_ratio == 0.35
    shy = rules(filled(schedule_conservativeness=2.0)).estimate
    assert shy is not None
    assert (shy.first_ratio, shy.least_ratio) == (1.0, 0.14)


def test_prompts_are_launched_in_pieces_and_large_decodes_without_graphs() -> None:
    found = rules(filled())
    host = load_profile("sglang").host
    assert host is not None
    assert found.pipelined
    assert found.delays_tokens
    eager = 32 * host.eager_layer.value
    assert found.graph_launch.at(256) == host.graph_launch.value
    assert found.graph_launch.at(258) == eager
    assert found.eager_launch.at(8192) == host.piece_launch.value


def test_vllm_s_sizes_are_what_they_were() -> None:
    assert captured_sizes(None, 512) == (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
    assert captured_sizes(None, 20) == (1, 2, 4, 8, 16)


def test_an_sglang_server_computes_prompts_before_answers() -> None:
    scenario = Scenario.model_validate(
        {
            "name": "sglang",
            "workload": {
                "synth": {
                    "requests": 40,
                    "arrivals": {"rate_per_s": 20},
                    "prompt_tokens": 700,
                    "output_tokens": 50,
                }
            },
            "machine": "h100",
            "model": LLAMA,
            "engine": {"profile": "sglang"},
            "tiers": [{"tier": "hbm"}],
        }
    )
    result = simulate(scenario)
    assert result.summary["requests"]["completed"] == 40
    steps = result.steps
    assert steps is not None
    both = zip(steps["prefill_tokens"].to_pylist(), steps["decode_tokens"].to_pylist(), strict=True)
    assert all(prefill == 0 or decode == 0 for prefill, decode in both)
