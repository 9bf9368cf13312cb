"""Every tier, policy and workload setting changes some metric."""

from functools import cache
from typing import Any

import pytest

from vsim.sim.eviction.state import POLICIES
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.results.output import Result
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

# Conversations that outgrow HBM and host memory, two tenants of different urgency.
BASE = """\
name: small
seed: 3
workload:
  synth:
    requests: 160
    arrivals: {rate_per_s: 20}
    prompt_tokens: "0.5:1500,0.99:4000"
    output_tokens: "0.5:60,0.99:300"
    sessions:
      turns_mean: 4
      think_s_mean: 2
      follow_up_tokens: "0.5:200,0.99:800"
      most_tokens: 12000
      system_prompts: 3
      system_prompt_tokens: 700
    tenants:
      - {name: a, share: 1, priority: 0}
      - {name: b, share: 2, priority: 1}
machine: 2xh200-nvlink
model: llama-3.1-8b
engine:
  page_tokens: 32
tiers:
  - tier: hbm
    capacity: 4GiB
  - tier: host
    capacity: 2GiB
  - tier: nvme
    capacity: 8GiB
"""
ECHOES = {"scenario", "description", "seed", "source", "machine", "model", "engine",
          "engine_wall_s"}  # fmt: skip


@cache
def run(*overrides: str) -> Result:
    return simulate(parse_yaml(BASE, "base.yaml", Scenario, overrides))


def metrics(*overrides: str) -> dict[str, Any]:
    """What a run measured, without what it was told and how long the engine took."""
    return {key: value for key, value in run(*overrides).summary.items() if key not in ECHOES}


TIGHT = "tiers.0.capacity=1536MiB"
IN_PLACE = "tiers.1.access=in_place"
SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "requests": ((), "workload.requests=100"),
    "rate_scale": ((), "workload.rate_scale=3"),
    "pacing": ((), "workload.pacing=think_times"),
    "seed": ((), "seed=4"),
    "machine": ((), "machine=h100"),
    "model": ((), "model=llama-2-7b"),
    "tensor": ((), "parallel.tensor=2"),
    "pipeline": ((), "parallel.pipeline=2"),
    "weights": ((), "precision.weights=fp8"),
    "kv": ((), "precision.kv=fp8"),
    "batching": (("tiers=[{tier: hbm, capacity: 4GiB}]",), "engine.batching=static"),
    "max_running_requests": ((), "engine.max_running_requests=4"),
    "max_running_requests of a static batch": (
        ("tiers=[{tier: hbm, capacity: 4GiB}]", "engine.batching=static"),
        "engine.max_running_requests=3"),
    "token_budget": ((), "engine.token_budget=512"),
    "chunked_prefill": ((), "engine.chunked_prefill=false"),
    "block_tokens": ((), "engine.block_tokens=32"),
    "page_tokens": ((), "engine.page_tokens=64"),
    "prefix_caching": (("engine.preemption=swap", TIGHT), "engine.prefix_caching=false"),
    "scheduler by priority": ((TIGHT,), "engine.scheduler=priority"),
    "scheduler by fairness": ((TIGHT,), "engine.scheduler=fair"),
    "preemption": ((TIGHT,), "engine.preemption=swap"),
    "max_loading_requests": ((TIGHT,), "engine.max_loading_requests=1"),
    "prefetch_requests": (("engine.max_running_requests=2",), "engine.prefetch_requests=8"),
    "placement": ((IN_PLACE,), "engine.placement=balanced"),
    "movement": ((), "engine.movement=mapped"),
    "reclaim_low": (("engine.reclaim_high=0.3",), "engine.reclaim_low=0.25"),
    "reclaim_high": ((), "engine.reclaim_high=0.3"),
    "capacity of HBM": ((), "tiers.0.capacity=3GiB"),
    "capacity of host": ((), "tiers.1.capacity=1GiB"),
    "capacity of NVMe": ((), "tiers.2.capacity=1GiB"),
    "access": ((), "tiers.1.access=in_place"),
    "write of host": ((), "tiers.1.write=through"),
    "write of NVMe": ((), "tiers.2.write=through"),
    "a tier less": ((), "tiers=[{tier: hbm, capacity: 4GiB}, {tier: host, capacity: 2GiB}]"),
    "another tier": ((), "tiers.2.tier=network"),
    **{
        f"eviction {policy} in {tier}": ((TIGHT,), f"tiers.{index}.eviction={policy}")
        for policy in POLICIES if policy != "lru"
        for index, tier in enumerate(("HBM", "host"))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_changes_some_metric(name: str) -> None:
    before, setting = SETTINGS[name]
    assert metrics(*before) != metrics(*before, setting)


def test_every_field_of_the_engine_and_of_a_tier_is_in_the_table_above() -> None:
    settings = {setting.partition("=")[0] for _, setting in SETTINGS.values()}
    for section, prefix in (("EngineSettings", "engine."), ("TierSettings", "tiers.1.")):
        fields = Scenario.model_json_schema()["$defs"][section]["properties"]
        for field in fields:
            if prefix + field != "tiers.1.tier":
                assert prefix + field in settings, field


def test_all_policies_differ_from_one_another_somewhere() -> None:
    found = {}
    for policy in POLICIES:
        found[policy] = metrics(TIGHT, f"tiers.0.eviction={policy}")["ttft_ms"]["mean"]
    assert len(set(found.values())) == len(POLICIES), found


def test_the_detail_of_operations_is_what_is_asked() -> None:
    assert run().operations is None
    transfers = run("output.operations=transfers").operations
    everything = run("output.operations=all").operations
    assert transfers is not None
    assert everything is not None
    assert set(transfers["kind"].to_pylist()) == {"copy"}
    assert everything.num_rows > transfers.num_rows


def test_recording_operations_changes_nothing_else() -> None:
    assert metrics() == metrics("output.operations=all")


def test_a_policy_of_the_users_own_is_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newest_first.py").write_text(
        "class NewestFirst:\n"
        "    def __init__(self, capacity):\n        self.pages = []\n"
        "    def insert(self, page):\n        self.pages.append(page)\n"
        "    def touch(self, page):\n        pass\n"
        "    def remove(self, page):\n        self.pages.remove(page)\n"
        "    def victim(self, evictable):\n"
        "        for page in reversed(self.pages):\n"
        "            if evictable(page):\n"
        "                self.pages.remove(page)\n                return page\n"
        "        return -1\n"
    )
    scenario = parse_yaml(
        BASE, "base.yaml", Scenario, (TIGHT, "tiers.0.eviction=newest_first:NewestFirst")
    )
    own = simulate(scenario, base=tmp_path).summary
    assert own["requests"]["completed"] == 160
    assert own["ttft_ms"] != metrics(TIGHT)["ttft_ms"]
