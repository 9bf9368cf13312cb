"""Every setting of a scenario changes some metric, and none is left out of this test."""

import re
from functools import cache
from typing import Any

import pytest
from tests.fields import field_paths
from tests.scenarios.short_recordings import RECORDED, short_recordings

from vsim.sim.eviction.state import POLICIES
from vsim.sim.inputs.yaml_input import parse_yaml
from vsim.sim.results.output import Result
from vsim.sim.scenario.scenario import Scenario
from vsim.sim.simulation import simulate

# Conversations that outgrow HBM and host memory.
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
          "engine_wall_s", "bound_wall_s", "verdict"}  # fmt: skip


@cache
def run(*overrides: str) -> Result:
    return simulate(parse_yaml(BASE, "base.yaml", Scenario, overrides))


@cache
def recorded(*overrides: str) -> Result:
    scenario = parse_yaml(RECORDED.read_text(), "recorded.yaml", Scenario, overrides)
    return simulate(scenario, base=short_recordings())


def metrics(*overrides: str) -> dict[str, Any]:
    return measured(run(*overrides))


def measured(result: Result) -> dict[str, Any]:
    """What a run measured, without what it was told and how long the engine took."""
    found = {key: value for key, value in result.summary.items() if key not in ECHOES}
    for section in ("tiers", "links"):
        found[section] = [
            {key: value for key, value in each.items() if key != "capacity_bytes"}
            for each in found[section]
        ]
    if "placement" in found:
        found["placement"] = {
            key: value for key, value in found["placement"].items()
            if key not in ("policy", "oracle", "certificate")
        }  # fmt: skip
    return found


SYNTH = "workload.synth"
FAIR = f"{SYNTH}.tenants=[{{name: a, share: 1}}, {{name: b, share: 2}}]"
URGENT = f"{SYNTH}.tenants=[{{name: a, share: 1, priority: 0}}, {{name: b, share: 2, priority: 1}}]"
ONE_PROMPT = f"{SYNTH}.sessions.system_prompts=1"
BY_PRIORITY = "engine.scheduler=priority"
SGLANG = "engine.profile=sglang"
TIGHT = "tiers.0.capacity=1536MiB"
SLOW_DISK = "tiers=[{tier: hbm, capacity: 1536MiB}, {tier: nvme, capacity: 64GiB}]"
IN_PLACE = "tiers.1.access=in_place"
SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "requests": ((), "workload.requests=100"),
    "rate_scale": ((), "workload.rate_scale=3"),
    "pacing": ((), "workload.pacing=think_times"),
    "alike_experts": (
        ("model=mixtral-8x7b", "tiers=[{tier: hbm}]", "parallel.tensor=2"),
        "workload.alike_experts={share: 0.9, openings: 3}"),
    "share of alike_experts": (
        ("model=mixtral-8x7b", "tiers=[{tier: hbm}]", "parallel.tensor=2",
         "workload.alike_experts={share: 0.9, openings: 1}"),
        "workload.alike_experts.share=0.2"),
    "openings of alike_experts": (
        ("model=mixtral-8x7b", "tiers=[{tier: hbm}]", "parallel.tensor=2",
         "workload.alike_experts={share: 0.9, openings: 1}"),
        "workload.alike_experts.openings=4"),
    "seed": ((), "seed=4"),
    "machine": ((), "machine=h100"),
    "model": ((), "model=llama-2-7b"),
    "tensor": ((), "parallel.tensor=2"),
    "pipeline": ((), "parallel.pipeline=2"),
    "data": (("tiers=[{tier: hbm, capacity: 4GiB}]",), "parallel.data=2"),
    "expert": (
        ("model=mixtral-8x7b", "tiers=[{tier: hbm}]", "parallel.tensor=2"), "parallel.expert=2"),
    "weights": ((), "precision.weights=fp8"),
    "kv": ((), "precision.kv=fp8"),
    "batching": (("tiers=[{tier: hbm, capacity: 4GiB}]", ONE_PROMPT), "engine.batching=static"),
    "max_running_requests": ((), "engine.max_running_requests=4"),
    "max_running_requests of a static batch": (
        ("tiers=[{tier: hbm, capacity: 4GiB}]", ONE_PROMPT, "engine.batching=static"),
        "engine.max_running_requests=3"),
    "token_budget": ((), "engine.token_budget=512"),
    "chunked_prefill": (("engine.token_budget=512",), "engine.chunked_prefill=false"),
    "profile": ((), "engine.profile=vsim"),
    "profile of SGLang": ((), "engine.profile=sglang"),
    "schedule_conservativeness": (
        (SGLANG, TIGHT, f"{SYNTH}.output_tokens=400"), "engine.schedule_conservativeness=0.1"),
    "max_new_tokens": ((SGLANG, TIGHT), "engine.max_new_tokens=2000"),
    "ignore_eos": ((SGLANG, TIGHT), "engine.ignore_eos=true"),
    "cuda_graph_max_bs": ((SGLANG,), "engine.cuda_graph_max_bs=2"),
    "admission": ((TIGHT,), "engine.admission=first_chunk"),
    "admission of whole sequences": ((TIGHT,), "engine.admission=whole_sequence"),
    "watermark": ((TIGHT,), "engine.watermark=0.2"),
    "async_scheduling": ((), "engine.async_scheduling=false"),
    "host_slowdown": ((), "engine.host_slowdown=2"),
    "num_gpu_blocks": (
        ("tiers=[{tier: hbm}, {tier: host, capacity: 2GiB}]",), "engine.num_gpu_blocks=1500"),
    "loading": (("model=llama-2-7b", SLOW_DISK), "engine.loading=always"),
    "offloading": (
        ("tiers=[{tier: hbm, capacity: 1536MiB}, {tier: host, capacity: 2GiB, write: through}]",),
        "engine.offloading=engine"),
    "block_tokens": ((), "engine.block_tokens=32"),
    "page_tokens": ((), "engine.page_tokens=64"),
    "prefix_caching": (
        ("engine.preemption=swap", TIGHT, ONE_PROMPT), "engine.prefix_caching=false"),
    "scheduler by priority": (
        (TIGHT, URGENT, "tiers.0.eviction=priority"), "engine.scheduler=priority"),
    "scheduler by fairness": (
        (TIGHT, URGENT, "tiers.0.eviction=priority"), "engine.scheduler=fair"),
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
    "backlog": (("tiers.1.capacity=64MiB",), "tiers.1.backlog=wait"),
    "a tier less": ((), "tiers=[{tier: hbm, capacity: 4GiB}, {tier: host, capacity: 2GiB}]"),
    "another tier": ((), "tiers.2.tier=network"),
    **{
        f"eviction {policy} in {tier}": (
            (TIGHT, *((URGENT, BY_PRIORITY) if policy == "priority" else ())),
            f"tiers.{index}.eviction={policy}")
        for policy in POLICIES if policy != "lru"
        for index, tier in enumerate(("HBM", "host"))
    },
    "synth requests": ((), f"{SYNTH}.requests=150"),
    "arrival rate": ((), f"{SYNTH}.arrivals.rate_per_s=10"),
    "arrival process": (
        (f"{SYNTH}.arrivals={{process: gamma, rate_per_s: 20, cv: 2}}",),
        f"{SYNTH}.arrivals={{process: poisson, rate_per_s: 20}}"),
    "cv": ((f"{SYNTH}.arrivals={{process: gamma, rate_per_s: 20, cv: 1}}",),
           f"{SYNTH}.arrivals.cv=3"),
    "on_s": ((f"{SYNTH}.arrivals={{process: onoff, rate_per_s: 20, on_s: 1, off_s: 2}}",),
             f"{SYNTH}.arrivals.on_s=2"),
    "off_s": ((f"{SYNTH}.arrivals={{process: onoff, rate_per_s: 20, on_s: 1, off_s: 2}}",),
              f"{SYNTH}.arrivals.off_s=3"),
    "prompt_tokens": ((), f"{SYNTH}.prompt_tokens=900"),
    "output_tokens": ((), f"{SYNTH}.output_tokens=50"),
    "synth block_tokens": ((), f"{SYNTH}.block_tokens=64"),
    "turns_mean": ((), f"{SYNTH}.sessions.turns_mean=6"),
    "think_s_mean": ((), f"{SYNTH}.sessions.think_s_mean=5"),
    "follow_up_tokens": ((), f"{SYNTH}.sessions.follow_up_tokens=100"),
    "most_tokens": ((), f"{SYNTH}.sessions.most_tokens=4000"),
    "system_prompts": ((), f"{SYNTH}.sessions.system_prompts=30"),
    "system_prompt_tokens": ((), f"{SYNTH}.sessions.system_prompt_tokens=1500"),
    "zipf": ((), f"{SYNTH}.sessions.zipf=2"),
    "share": ((TIGHT, FAIR, "engine.scheduler=fair"), f"{SYNTH}.tenants.1.share=8"),
    "priority": ((TIGHT, URGENT, BY_PRIORITY), f"{SYNTH}.tenants.1.priority=-1"),
}  # fmt: skip
RECORDED_SETTINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "attention": ((), "workload.attention=../traces/recorded/lookups.arrow"),
    "steps": ((), "workload.steps=10"),
    "placement": ((), "placement=lru"),
    "kind": ((), "workload.selection={kind: dense}"),
    "kind alone": (
        ("workload.selection={sparsity: 0.7}",),
        "workload.selection={kind: dense}"),
    "score": ((), "workload.selection.score=quest"),
    "sparsity": ((), "workload.selection.sparsity=0.6"),
    "mass_share": (
        ("workload.selection={kind: top-mass, mass_share: 0.9}",),
        "workload.selection.mass_share=0.5"),
    "sinks": (("workload.selection={kind: window, sinks: 1, window: 8}",),
              "workload.selection.sinks=4"),
    "window": (("workload.selection={kind: window, sinks: 1, window: 8}",),
               "workload.selection.window=16"),
    "seed": (("placement=belady-error-50",), "seed=9"),
    "weights": ((), "precision.weights=int4"),
    "kv": ((), "precision.kv=fp8"),
    "token_budget": ((), "engine.token_budget=64"),
    "chunked_prefill": ((), "engine.chunked_prefill=false"),
    "capacity": ((), "tiers.0.capacity=3MiB"),
    "write": ((), "tiers.1.write=back"),
    "machine": ((), "machine=a10"),
}  # fmt: skip
ELSEWHERE = {
    "name": "a label",
    "description": "a label",
    "workload.trace": "where the requests are from; tests/sim/scenario/test_workload.py",
    "workload.synth.seed": "always refused: the scenario's seed counts",
    "workload.synth.tenants[].name": "a label",
    "output.operations": "a table of its own, below",
    "workload.selection.kind": "with the fields of each kind, above",
    "workload.synth.arrivals.process": "with the fields of each process, above",
}
"""Fields that no single setting above changes, and why."""


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_changes_some_metric(name: str) -> None:
    before, setting = SETTINGS[name]
    assert metrics(*before) != metrics(*before, setting)


@pytest.mark.parametrize("name", RECORDED_SETTINGS)
def test_a_setting_of_recorded_attention_changes_some_metric(name: str) -> None:
    before, setting = RECORDED_SETTINGS[name]
    assert measured(recorded(*before)) != measured(recorded(*before, setting))


def test_every_field_of_a_scenario_is_in_the_tables_above() -> None:
    taken = {
        re.sub(r"\.\d+(?=\.|$)", "[]", setting.partition("=")[0])
        for _, setting in (*SETTINGS.values(), *RECORDED_SETTINGS.values())
    }
    assert field_paths(Scenario) - taken == set(ELSEWHERE)


def test_all_policies_differ_from_one_another_somewhere() -> None:
    found = {}
    for policy in POLICIES:
        found[policy] = metrics(TIGHT, URGENT, BY_PRIORITY, f"tiers.0.eviction={policy}")[
            "ttft_ms"
        ]["mean"]
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
