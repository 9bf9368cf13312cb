"""The fuzzer of scenario, machine and model files: a mutated file is simulated, or refused.

Run it for as long as you like: `python -m tests.fuzz.input_files 20000`. Each case has a number,
and `case(number)` makes it again.
"""

import json
import math
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.mutations import as_bytes, mutated

import vsim.sim.machine
import vsim.sim.model
from vsim.sim.scenario.scenario import Scenario, load_scenario
from vsim.sim.simulation import simulate
from vsim.traces.faults import InputError

_MACHINES = Path(vsim.sim.machine.__file__).parent / "catalogue"
_MODELS = Path(vsim.sim.model.__file__).parent / "catalogue"
_MOST_TOKENS = 2_000_000  # of a workload that is simulated here
_MOST_REQUESTS = 50

SCENARIOS = (
    """\
name: plain
seed: 1
workload:
  synth: {requests: 6, arrivals: {rate_per_s: 5}, prompt_tokens: 600, output_tokens: 20}
machine: machine.yaml
model: model.yaml
tiers:
  - {tier: hbm, capacity: 2GiB}
""",
    """\
name: much
description: Much is written down.
seed: 2
workload:
  rate_scale: 2.0
  requests: 6
  pacing: think_times
  synth:
    requests: 8
    arrivals: {process: gamma, rate_per_s: 5, cv: 1.5}
    prompt_tokens: "0.5:500,0.99:900"
    output_tokens: "0.5:20,0.99:60"
    sessions: {turns_mean: 2, think_s_mean: 1, follow_up_tokens: 100, most_tokens: 4000,
               system_prompts: 2, system_prompt_tokens: 256, zipf: 1.0}
    tenants: [{name: a, share: 1, priority: 0}, {name: b, share: 2, priority: 1}]
    block_tokens: 16
machine: machine.yaml
model: model.yaml
parallel: {tensor: 1, pipeline: 1}
precision: {weights: fp8, kv: bf16}
engine:
  batching: continuous
  max_running_requests: 4
  token_budget: 512
  chunked_prefill: true
  block_tokens: 16
  page_tokens: 32
  prefix_caching: true
  scheduler: priority
  preemption: swap
  max_loading_requests: 4
  prefetch_requests: 2
  placement: hbm_first
  movement: paged
  reclaim_low: 0.02
  reclaim_high: 0.05
tiers:
  - {tier: hbm, capacity: 1GiB, eviction: priority}
  - {tier: host, capacity: 1GiB, eviction: lru, access: promote, write: through}
  - {tier: nvme, capacity: 4GiB, eviction: s3-fifo}
output: {operations: all}
""",
    """\
name: static
workload:
  synth: {requests: 6, arrivals: {rate_per_s: 5}, prompt_tokens: 60, output_tokens: 20}
machine: machine.yaml
model: model.yaml
engine: {batching: static, max_running_requests: 3, placement: balanced}
tiers:
  - {tier: hbm, capacity: 2GiB}
  - {tier: host, access: in_place, capacity: 2GiB}
""",
)
MODELS = (
    "name: dense\nlayers: 8\nhidden: 1024\nheads: 16\nkv_heads: 4\nhead_dim: 64\n"
    "ffn_hidden: 4096\nvocabulary: 32000\ntied_embeddings: true\nqk_norm: true\n"
    "sliding_window: {tokens: 128, layers: 4}\n",
    "name: latent\nlayers: 8\nhidden: 1024\nheads: 16\nkv_heads: 16\nhead_dim: 192\n"
    "vocabulary: 32000\nffn_hidden: 4096\nattention: {kind: mla, kv_lora_rank: 512,"
    " qk_rope_head_dim: 64,\n  qk_nope_head_dim: 128, v_head_dim: 128, q_lora_rank: 768}\n"
    "moe: {experts: 16, experts_per_token: 2, expert_hidden: 512, shared_experts: 1,"
    " dense_layers: 1, router_bias: true}\n",
)
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": 4,
    "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
    "intermediate_size": 1024, "vocab_size": 1000, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 256, "sliding_window": 128, "max_position_embeddings": 4096,
    "use_sliding_window": True, "max_window_layers": 2, "tie_word_embeddings": False,
    "mlp_only_layers": [], "decoder_sparse_step": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    """The texts of one case, one of them mutated."""

    scenario: bytes
    machine: bytes
    model: bytes
    model_name: str


def case(number: int) -> Files:
    """Make the files of a case again."""
    draw = np.random.Generator(np.random.PCG64(number))
    scenario = SCENARIOS[int(draw.integers(len(SCENARIOS)))]
    names = sorted(_MACHINES.glob("*.yaml"))
    machine = names[int(draw.integers(len(names)))].read_text()
    if draw.random() < 0.9:
        machine = (_MACHINES / "h100.yaml").read_text()
    models = [(text, "model.yaml") for text in MODELS]
    models += [((_MODELS / "llama-3.1-8b.yaml").read_text(), "model.yaml")]
    models += [(json.dumps(CONFIG), "config.json")] * len(models)
    model, model_name = models[int(draw.integers(len(models)))]
    which = draw.random()
    if which < 0.6:
        scenario = mutated(scenario, draw)
    elif which < 0.8:
        machine = mutated(machine, draw)
    else:
        model = mutated(model, draw)
    scenario = scenario.replace("model.yaml", model_name)
    texts = [as_bytes(text, draw) for text in (scenario, machine, model)]
    return Files(texts[0], texts[1], texts[2], model_name)


def outcome(files: Files, folder: Path) -> str:
    """Simulate a case. Returns `simulated`, `loaded` or `refused`.

    Raises:
        AssertionError: a result that is not sane, or a refusal that is not one line a fault.
        Exception: whatever else went wrong.
    """
    (folder / "scenario.yaml").write_bytes(files.scenario)
    (folder / "machine.yaml").write_bytes(files.machine)
    (folder / files.model_name).write_bytes(files.model)
    for tables in _MACHINES.glob("*.kernels.arrow"):
        if not (folder / tables.name).exists():
            (folder / tables.name).symlink_to(tables)
    try:
        scenario = load_scenario(folder / "scenario.yaml")
        if not _is_small(scenario):
            return "loaded"
        summary = simulate(scenario, base=folder).summary
    except InputError as error:
        faults = [str(fault) for fault in error.faults]
    else:
        check(summary)
        return "simulated"
    assert faults, "refused without a fault"
    for line in faults:
        assert len(line.splitlines()) == 1, line
        assert len(line) < 1500, line
        line.encode()
    return "refused"


def _is_small(scenario: Scenario) -> bool:
    synth = scenario.workload.synth
    if synth is None:
        return scenario.workload.trace is not None
    shape = synth.sessions
    turns = max(1.0, shape.turns_mean)
    lengths = (*synth.prompt_tokens, *synth.output_tokens, *(shape.follow_up_tokens or ()))
    tokens = (max(each for _, each in lengths) + (shape.system_prompt_tokens or 0)) * turns
    # drawing takes sessions as a whole, however few requests are kept of them
    return synth.requests * turns < _MOST_REQUESTS * 100 and (
        synth.requests <= _MOST_REQUESTS and synth.requests * tokens * turns < _MOST_TOKENS * 100
    )


def check(summary: Any) -> None:
    """Assert that a summary's numbers can be."""
    json.dumps(summary, allow_nan=False)
    assert 0 <= summary["simulated_s"] < 2**63 / 1e9, summary["simulated_s"]
    requests = summary["requests"]
    assert requests["completed"] + requests["rejected"] == requests["submitted"]
    shares = summary["time_share"]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in shares.values()), shares
    assert math.isclose(sum(shares.values()), 1, abs_tol=1e-6) or not summary["simulated_s"], shares
    for key in ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "admission_wait_ms"):
        ranks = [summary[key][name] for name in ("p50", "p90", "p99")]
        if ranks[0] is not None:
            assert 0 <= ranks[0] <= ranks[1] <= ranks[2], (key, ranks)
    for tier in summary["tiers"]:
        assert 0 <= tier["mean_bytes"] <= tier["peak_bytes"] * (1 + 1e-9), tier
        assert tier["peak_bytes"] <= tier["capacity_bytes"], tier
    for advice in summary["verdict"]["advice"]:
        assert 0 <= advice["saves_at_most"] <= 1, advice


def main(cases: int, first: int = 0) -> None:
    """Try cases, and print those that went wrong."""
    found: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for number in range(first, first + cases):
            start = time.monotonic()
            try:
                found[outcome(case(number), Path(name))] += 1
            except Exception as error:  # noqa: BLE001 - anything but an InputError is a finding
                found["wrong"] += 1
                print(f"case {number}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            if time.monotonic() - start > 5:
                print(f"case {number}: took {time.monotonic() - start:.0f} s", flush=True)
    print(dict(found), f"in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
