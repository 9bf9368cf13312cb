"""A measured server's settings become the scenario that predicts it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sim.fidelity.tiny import repeat_of, requests, run_of

from vsim.sim.fidelity.measured import MeasuredRun
from vsim.sim.fidelity.scenario_for import (
    ALIKE_OF_DRAWN_WEIGHTS,
    RECORDED_HOSTS,
    NotScoredError,
    machine_for,
    scenario_for,
)
from vsim.sim.fidelity.settings import ServerSettings
from vsim.sim.model.loading import load_model
from vsim.sim.simulation import simulate
from vsim.traces.faults import InputError

KV_BYTES = 131_072  # of a token of Llama-3.1-8B: 2 x 32 layers x 8 heads x 128 x 2 bytes
SHAPE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000,
    "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


def with_prefixes(**settings: Any) -> MeasuredRun:
    asked = requests(2)
    asked = replace(
        asked, prefix_offsets=np.array([0, 4, 8]), prefix_ids=np.arange(8), block_tokens=16
    )
    times = np.array([1, 1]) + asked.arrival_ns
    return run_of(repeat_of(asked, times, times, times), settings=ServerSettings(**settings))


def test_limits_blocks_precisions_and_parallelism_are_the_server_s(tmp_path: Path) -> None:
    run = with_prefixes(
        token_budget=4096, max_requests=64, block_tokens=16, num_gpu_blocks=3000, weights="fp8"
    )
    scenario = scenario_for(run, tmp_path)
    assert (scenario.machine, scenario.model) == ("h100", "llama-3.1-8b")
    assert (scenario.engine.token_budget, scenario.engine.max_running_requests) == (4096, 64)
    assert (scenario.precision.weights, scenario.precision.kv) == ("fp8", "bf16")
    assert scenario.engine.num_gpu_blocks == 3000
    assert [(each.tier, each.capacity) for each in scenario.tiers] == [("hbm", None)]
    (hbm,) = simulate(scenario, requests=run.repeats[0].requests).summary["tiers"]
    assert hbm["capacity_bytes"] == (3000 - 1) * 16 * KV_BYTES  # but for vLLM's null block


def test_room_for_offloading_is_a_tier_that_is_written_through(tmp_path: Path) -> None:
    scenario = scenario_for(with_prefixes(host_bytes=6 * 2**30), tmp_path)
    host = scenario.tiers[1]
    assert (host.tier, host.capacity, host.write) == ("host", 6 * 2**30, "through")


def test_without_a_number_of_blocks_there_is_the_room_that_the_engine_leaves(
    tmp_path: Path,
) -> None:
    run = with_prefixes(block_tokens=16)
    scenario = scenario_for(run, tmp_path)
    assert scenario.engine.num_gpu_blocks is None
    (hbm,) = simulate(scenario, requests=run.repeats[0].requests).summary["tiers"]
    weights = load_model("llama-3.1-8b").weight_bytes("bf16")
    left = 0.92 * 80 * 2**30 - weights - 2440 * 2**20  # of an H100, under vLLM 0.25
    blocks = int(left // (16 * KV_BYTES)) - 1
    assert hbm["capacity_bytes"] == blocks * 16 * KV_BYTES


@pytest.mark.parametrize(
    ("engine", "version", "profile"),
    [
        ("vLLM", "0.25.1", "vllm"),
        ("vLLM", "0.22.0", "vllm"),
        ("vLLM", "0.21.3", "vllm-0.19"),
        ("vLLM", "0.19.0", "vllm-0.19"),
        ("vLLM", "", "vllm"),
        ("unknown", "", "vllm"),
        ("TensorRT-LLM", "1.0", "tensorrt-llm"),
        ("SGLang", "0.5.23", "sglang"),
    ],
)
def test_the_profile_is_that_of_the_engine_and_its_version(
    tmp_path: Path, engine: str, version: str, profile: str
) -> None:
    run = replace(with_prefixes(), engine=engine, version=version)
    assert scenario_for(run, tmp_path).engine.profile == profile


def test_a_model_s_own_shape_is_taken_where_it_was_recorded(tmp_path: Path) -> None:
    scenario = scenario_for(replace(with_prefixes(), model_shape=SHAPE), tmp_path)
    assert load_model(tmp_path / scenario.model).layers == 3


def test_drawn_experts_are_chosen_alike_where_prompts_begin_alike(tmp_path: Path) -> None:
    moe = SHAPE | {
        "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 64, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "norm_topk_prob": True,
    }  # fmt: skip
    asked = requests(3)
    asked = replace(
        asked, prefix_offsets=np.array([0, 2, 4, 6]), prefix_ids=np.array([7, 1, 7, 2, 9, 3]),
        block_tokens=16,
    )  # fmt: skip
    times = np.ones(3, np.int64) + asked.arrival_ns
    run = run_of(repeat_of(asked, times, times, times), settings=ServerSettings())
    drawn = replace(run, model_shape=moe, drawn_weights=True)
    told = scenario_for(drawn, tmp_path).workload.alike_experts
    assert told is not None
    assert (told.share, told.openings) == (ALIKE_OF_DRAWN_WEIGHTS, 2)
    apart = replace(asked, prefix_ids=np.arange(6))
    own = replace(drawn, repeats=(repeat_of(apart, times, times, times),))
    for other in (replace(drawn, drawn_weights=False), replace(drawn, model_shape=SHAPE), own):
        assert scenario_for(other, tmp_path).workload.alike_experts is None


def test_a_model_s_shape_may_stand_beside_the_run_under_its_name(tmp_path: Path) -> None:
    run = replace(with_prefixes(), model="org/Own-3B", file=str(tmp_path / "run.parquet"))
    (tmp_path / "Own-3B.json").write_text(json.dumps(SHAPE))
    (tmp_path / "work").mkdir()
    scenario = scenario_for(run, tmp_path / "work")
    assert load_model(tmp_path / "work" / scenario.model).layers == 3
    (tmp_path / "Own-3B.json").write_text(json.dumps({**SHAPE, "hidden_size": "wide"}))
    with pytest.raises(InputError) as raised:
        scenario_for(run, tmp_path / "work")
    assert str(raised.value).startswith(f"{tmp_path / 'Own-3B.json'}: hidden_size: ")


@pytest.mark.parametrize(
    ("name", "catalogue"),
    [
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("mistralai/Mixtral-8x7B", "mixtral-8x7b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
    ],
)
def test_a_model_of_the_catalogue_is_known_by_its_hugging_face_name(
    tmp_path: Path, name: str, catalogue: str
) -> None:
    settings = ServerSettings(weights="int4")
    run = replace(with_prefixes(), model=name, settings=settings)
    assert scenario_for(run, tmp_path).model == catalogue


@pytest.mark.parametrize(
    ("gpu", "gpus", "machine"),
    [
        ("NVIDIA H200", 1, "h200"),
        ("NVIDIA H200", 2, "2xh200-nvlink"),
        ("NVIDIA H200", 4, "8xh200-nvlink"),
        ("NVIDIA H100 80GB HBM3", 1, "h100"),
        ("NVIDIA GH200 480GB", 1, "gh200"),
        ("NVIDIA GeForce RTX 4090", 1, "rtx4090"),
        ("NVIDIA A100-SXM4-80GB", 1, "a100-80g"),
        ("NVIDIA A10", 1, "a10"),
        ("h200", 1, "h200"),
    ],
)
def test_a_gpu_is_known_by_what_its_driver_calls_it(gpu: str, gpus: int, machine: str) -> None:
    assert machine_for(gpu, gpus) == machine


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"gpu": "NVIDIA T4"}, "the catalogue has no machine with 1 of NVIDIA T4"),
        ({"gpus": 3}, "the catalogue has no machine with 3 of NVIDIA H100"),
        ({"gpu": ""}, "its file does not say which GPU"),
        ({"model": "gpt-9"}, "the catalogue has no model gpt-9"),
        ({"model": ""}, "no model is named"),
        ({"engine": "TGI"}, "there is no profile of TGI yet"),
        ({"repeats": ()}, "it holds no request by itself, only counters"),
        ({"settings": ServerSettings(data=2)}, "data parallelism of 2 can't be said yet"),
        ({"settings": ServerSettings(unclear=("quantization 'x'",))}, "quantization 'x'"),
        ({"model": "llama-3.1-70b"}, "needs 141.11 GB of weights"),
    ],
)  # fmt: skip
def test_what_can_t_be_predicted_says_why(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NotScoredError) as raised:
        scenario_for(replace(with_prefixes(), **changed), tmp_path)
    assert reason in str(raised.value)


def test_only_the_host_of_a_recorded_machine_is_known_to_be_slow(tmp_path: Path) -> None:
    run = with_prefixes()
    slow = scenario_for(run, tmp_path).engine
    assert slow.host_slowdown == RECORDED_HOSTS["H100"] > 1.0
    for other in (replace(run, origin="public"), replace(run, gpu="NVIDIA H200")):
        assert "host_slowdown" not in scenario_for(other, tmp_path).engine.model_fields_set


def test_turns_follow_the_predicted_answer_only_where_that_is_asked_for(tmp_path: Path) -> None:
    run = with_prefixes()
    assert scenario_for(run, tmp_path, "think_times").workload.pacing == "arrivals"  # no turns
    asked = replace(
        run.repeats[0].requests, parent=np.array([-1, 0]), think_ns=np.array([-1, 5]),
        session=np.array([0, 0]),
    )  # fmt: skip
    turns = replace(run, repeats=(replace(run.repeats[0], requests=asked),))
    assert scenario_for(turns, tmp_path).workload.pacing == "arrivals"
    assert scenario_for(turns, tmp_path, "think_times").workload.pacing == "think_times"


def test_arrivals_that_are_not_known_can_t_be_predicted(tmp_path: Path) -> None:
    run = with_prefixes()
    asked = replace(run.repeats[0].requests, arrival_ns=np.array([-1, -1]))
    unknown = replace(run, repeats=(replace(run.repeats[0], requests=asked),))
    with pytest.raises(NotScoredError, match="its arrivals are not known"):
        scenario_for(unknown, tmp_path)
