"""A setting that can't act is refused; the same setting where it can act is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.machine.machine import Machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.rules import has_host_times, with_profile
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.scenario.applicability import refuse_what_cannot_act
from vsim.sim.scenario.case import Case
from vsim.sim.scenario.scenario import Scenario, load_scenario
from vsim.traces.faults import InputError
from vsim.traces.requests import Requests

GIB = 2**30
HBM: dict[str, Any] = {"tier": "hbm", "capacity": 4 * GIB}
HOST: dict[str, Any] = {"tier": "host", "capacity": 8 * GIB}
NVME: dict[str, Any] = {"tier": "nvme", "capacity": 64 * GIB}


def requests(**changes: Any) -> Requests:
    """Four requests of 1,100 + 20 tokens with prefix blocks of 512 tokens."""
    n = 4
    fields: dict[str, Any] = {
        "id": np.arange(n),
        "arrival_ns": np.arange(n) * 10**9,
        "prompt_tokens": np.full(n, 1100),
        "output_tokens": np.full(n, 20),
        "session": np.full(n, -1),
        "parent": np.full(n, -1),
        "think_ns": np.full(n, -1),
        "tenant": np.zeros(n, np.int32),
        "tenant_names": ("",),
        "priority": np.zeros(n, np.int32),
        "prefix_offsets": np.arange(n + 1) * 2,
        "prefix_ids": np.array([1, 2] * n),
        "block_tokens": 512,
        "source": "by hand",
    }
    return Requests(**(fields | changes))


NO_PREFIXES: dict[str, Any] = {
    "prefix_offsets": np.zeros(5, np.int64),
    "prefix_ids": np.zeros(0, np.int64),
    "block_tokens": 0,
}


def scenario_of(
    engine: dict[str, Any],
    tiers: list[dict[str, Any]],
    workload: dict[str, Any],
    top: dict[str, Any],
    machine: str = "h100",
) -> Scenario:
    source = {} if "synth" in workload else {"trace": "a.arrow"}
    return Scenario.model_validate(
        {
            "name": "case",
            "workload": source | workload,
            "machine": machine,
            "model": "llama-3.1-8b",
            "engine": engine,
            "tiers": tiers,
            **top,
        }
    )


def places(
    engine: dict[str, Any],
    tiers: list[dict[str, Any]],
    trace: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
    machine: str = "h100",
    top: dict[str, Any] | None = None,
    *,
    seeded: bool = True,
    described: Machine | None = None,
) -> list[str | None]:
    """The fields that are refused."""
    scenario = scenario_of(engine, tiers, workload or {}, top or {}, machine)
    described = described or load_machine(machine)
    scenario = with_profile(scenario, described)
    cost = server_cost(scenario, described, load_model("llama-3.1-8b"))
    asked = requests(**(trace or {}))
    hosted = has_host_times(scenario.engine)
    case = Case(scenario, described, cost, asked, seeded=seeded, host_times=hosted)
    try:
        refuse_what_cannot_act(case)
    except InputError as error:
        return [fault.place if fault.file == "scenario" else fault.file for fault in error.faults]
    return []


URGENT = {"priority": np.array([0, 1, 0, 1], np.int32)}
TENANTS = {"tenant": np.array([0, 1, 0, 1], np.int32), "tenant_names": ("a", "b")}
THINKING = {"parent": np.array([-1, 0, 1, 2]), "think_ns": np.array([-1, 5, 5, 5])}
IN_PLACE = {**HOST, "access": "in_place"}
OFF = {"prefix_caching": False}
SWAP = {"prefix_caching": False, "preemption": "swap"}
STATIC = {"batching": "static"}
SYNCHRONOUS = {"profile": "vsim"}
SGLANG = {"profile": "sglang"}


@pytest.mark.parametrize(
    ("engine", "tiers", "trace"),
    [
        ({}, [HBM], {}),
        ({}, [HBM, HOST, NVME], {}),
        ({"prefix_caching": True}, [HBM], {}),
        (OFF, [HBM], NO_PREFIXES),
        ({"page_tokens": 64}, [HBM, HOST], {}),
        ({"block_tokens": 512}, [HBM], {}),
        ({"block_tokens": 1024}, [HBM], {}),
        ({"block_tokens": 512, "page_tokens": 1024}, [HBM], {}),
        ({"page_tokens": 512, "movement": "mapped"}, [HBM, HOST], {}),
        ({"page_tokens": 16, "movement": "mapped"}, [HBM, NVME], {}),
        ({"prefetch_requests": 4, "max_loading_requests": 8}, [HBM, HOST], {}),
        ({"placement": "balanced"}, [HBM, IN_PLACE], {}),
        ({"scheduler": "priority"}, [HBM], URGENT),
        ({"scheduler": "fair"}, [HBM], TENANTS),
        ({"reclaim_low": 0.1, "reclaim_high": 0.1}, [HBM], {}),
        ({"reclaim_low": 0.0}, [HBM], {}),
        ({"reclaim_low": 0.0, "reclaim_high": 0.1, "prefetch_requests": 2}, [HBM, HOST], {}),
        (SWAP, [HBM, HOST], {}),
        ({"preemption": "swap"}, [HBM, HOST], NO_PREFIXES),
        ({**SWAP, "max_loading_requests": 2}, [HBM, IN_PLACE], {}),
        (OFF, [HBM, IN_PLACE], {}),
        ({"admission": "first_chunk"}, [HBM], {}),
        ({"admission": "whole_sequence", "watermark": 0.01}, [HBM], {}),
        ({"watermark": 0.01}, [HBM], {}),  # vLLM's admission: whole_prompt
        ({"watermark": 0.0, **SYNCHRONOUS}, [HBM], {}),
        ({"async_scheduling": True}, [HBM], {}),
        ({"host_slowdown": 2.0}, [HBM], {}),
        ({"async_scheduling": False}, [HBM], {}),
        ({"async_scheduling": False, **SYNCHRONOUS}, [HBM], {}),
        ({"num_gpu_blocks": 20_000}, [{"tier": "hbm"}], {}),
        ({**STATIC, "num_gpu_blocks": 20_000}, [{"tier": "hbm"}], {}),
        (STATIC, [HBM], {}),
        ({**STATIC, "max_running_requests": 8, "scheduler": "fair"}, [HBM], TENANTS),
        ({**STATIC, "placement": "balanced"}, [HBM, IN_PLACE], {}),
        (SGLANG, [HBM, HOST], {}),
        ({**SGLANG, "schedule_conservativeness": 0.3, "max_new_tokens": 64}, [HBM], {}),
        ({**SGLANG, "ignore_eos": True, "cuda_graph_max_bs": 64}, [HBM], {}),
        ({**SGLANG, "block_tokens": 16, "token_budget": 160}, [HBM], {}),
        ({**SGLANG, "admission": "estimate"}, [HBM], {}),
        ({**SGLANG, "token_budget": 16384}, [HBM], {}),
        ({**SGLANG, **STATIC, "cuda_graph_max_bs": 64}, [HBM], {}),
        ({}, [{**HBM, "eviction": "priority"}], URGENT),
        ({}, [HBM, {**HOST, "eviction": "arc", "write": "through", "backlog": "wait"}], {}),
    ],
)
def test_settings_that_can_act_are_taken(
    engine: dict[str, Any], tiers: list[dict[str, Any]], trace: dict[str, Any]
) -> None:
    assert places(engine, tiers, trace) == []


@pytest.mark.parametrize(
    ("engine", "tiers", "trace", "refused"),
    [
        ({}, [HBM, HBM], {}, ["tiers.1.tier"]),
        ({}, [HOST, HBM], {}, ["tiers.0.tier", "tiers.1.tier"]),
        ({}, [HBM, {"tier": "lpddr"}], {}, ["tiers.1.tier"]),
        ({}, [{**HBM, "access": "promote", "write": "back", "backlog": "wait"}], {},
         ["tiers.0.access", "tiers.0.write", "tiers.0.backlog"]),
        ({}, [HBM, {**NVME, "access": "in_place"}], {}, ["tiers.1.access"]),
        ({}, [{"tier": "hbm", "capacity": 70 * GIB}], {}, ["tiers.0.capacity"]),
        ({}, [HBM, {"tier": "host", "capacity": 2 * 1024 * GIB}], {}, ["tiers.1.capacity"]),
        ({}, [HBM, {"tier": "host", "capacity": 1024}], {}, ["tiers.1.capacity"]),
        # 1,120 tokens are 70 pages of 2 MiB
        ({}, [{"tier": "hbm", "capacity": 69 * 2**21}], {}, ["tiers.0.capacity"]),
        ({"page_tokens": 24}, [HBM], {}, ["engine.page_tokens"]),
        ({"block_tokens": 48}, [HBM], {}, ["engine.block_tokens"]),
        ({"page_tokens": 48}, [HBM], {}, ["engine.page_tokens"]),
        ({"block_tokens": 16, "page_tokens": 64}, [HBM], {}, ["engine.block_tokens"]),
        ({"block_tokens": 256, "page_tokens": 1024}, [HBM], {}, ["engine.block_tokens"]),
        ({**OFF, "block_tokens": 16, "page_tokens": 64}, [HBM], {}, ["engine.block_tokens"]),
        ({"block_tokens": 8, "movement": "mapped"}, [HBM], {}, ["engine.page_tokens"]),
        ({"prefetch_requests": 4}, [HBM], {}, ["engine.prefetch_requests"]),
        ({"prefetch_requests": 4}, [HBM, IN_PLACE], {}, ["engine.prefetch_requests"]),
        ({"max_loading_requests": 4}, [HBM], {}, ["engine.max_loading_requests"]),
        ({"placement": "balanced"}, [HBM, HOST], {}, ["engine.placement"]),
        ({"scheduler": "priority"}, [HBM], TENANTS, ["engine.scheduler"]),
        ({"scheduler": "fair"}, [HBM], URGENT, ["engine.scheduler"]),
        ({"preemption": "swap"}, [HBM], {}, ["engine.preemption"]),
        ({"prefix_caching": True}, [HBM], NO_PREFIXES, ["engine.prefix_caching"]),
        # of the largest tier's 2,048 pages, less than one
        ({"reclaim_low": 0.0004}, [HBM], {}, ["engine.reclaim_low"]),
        ({"reclaim_low": 0.0, "reclaim_high": 0.1}, [HBM], {}, ["engine.reclaim_high"]),
        ({}, [HBM, HOST], NO_PREFIXES, ["tiers.1"]),
        (OFF, [HBM, HOST], {}, ["tiers.1"]),
        ({**OFF, "reclaim_low": 0.1, "reclaim_high": 0.2}, [HBM], {},
         ["engine.reclaim_low", "engine.reclaim_high"]),
        (SWAP, [HBM, {**HOST, "write": "through", "backlog": "wait"}], {},
         ["tiers.1.write", "tiers.1.backlog"]),
        (SWAP, [{**HBM, "eviction": "fifo"}, {**HOST, "eviction": "lru"}], {},
         ["tiers.0.eviction", "tiers.1.eviction"]),
        (STATIC, [HBM, HOST], {}, ["tiers.1"]),
        (STATIC, [HBM, IN_PLACE], {}, ["tiers.1"]),
        ({**STATIC, "token_budget": 512, "chunked_prefill": False}, [HBM], {},
         ["engine.chunked_prefill", "engine.token_budget"]),
        ({**STATIC, "admission": "first_chunk", "watermark": 0.1, "async_scheduling": True,
          "host_slowdown": 2.0}, [HBM], {},
         ["engine.admission", "engine.watermark", "engine.async_scheduling",
          "engine.host_slowdown"]),
        ({"watermark": 0.1, **SYNCHRONOUS}, [HBM], {}, ["engine.watermark"]),
        ({"watermark": 0.1, "admission": "first_chunk"}, [HBM], {}, ["engine.watermark"]),
        # of 2,048 pages, less than one
        ({"watermark": 0.0004}, [HBM], {}, ["engine.watermark"]),
        ({"async_scheduling": True, **SYNCHRONOUS}, [HBM], {}, ["engine.async_scheduling"]),
        ({"host_slowdown": 2.0, **SYNCHRONOUS}, [HBM], {}, ["engine.host_slowdown"]),
        ({"host_slowdown": 2.0, "async_scheduling": False}, [HBM], {}, ["engine.host_slowdown"]),
        ({"num_gpu_blocks": 2048}, [HBM], {}, ["engine.num_gpu_blocks"]),
        # 16.06 GB of weights leave 69.84 GB of 80 GiB: 33,301 blocks of 2 MiB
        ({"num_gpu_blocks": 33_302}, [{"tier": "hbm"}], {}, ["engine.num_gpu_blocks"]),
        ({"schedule_conservativeness": 0.3, "max_new_tokens": 64, "ignore_eos": True,
          "cuda_graph_max_bs": 64, "admission": "estimate"}, [HBM], {},
         ["engine.schedule_conservativeness", "engine.max_new_tokens", "engine.ignore_eos",
          "engine.cuda_graph_max_bs", "engine.admission"]),
        ({**SGLANG, "admission": "whole_prompt"}, [HBM], {}, ["engine.admission"]),
        ({**SGLANG, "scheduler": "fair"}, [HBM], TENANTS, ["engine.scheduler"]),
        ({**SGLANG, "preemption": "swap", "chunked_prefill": False, "watermark": 0.1},
         [HBM, HOST], {}, ["engine.preemption", "engine.chunked_prefill", "engine.watermark"]),
        ({**SGLANG, "placement": "balanced"}, [HBM, IN_PLACE], {},
         ["engine.placement", "tiers.1.access"]),
        ({**SGLANG, "block_tokens": 16, "token_budget": 100}, [HBM], {}, ["engine.token_budget"]),
        ({**SGLANG, "token_budget": 16385}, [HBM], {}, ["engine.token_budget"]),
        ({**SGLANG, "max_new_tokens": 20}, [HBM], {}, ["engine.max_new_tokens"]),
        ({**SGLANG, "ignore_eos": True, "schedule_conservativeness": 0.5}, [HBM], {},
         ["engine.schedule_conservativeness"]),
        ({**SGLANG, "offloading": "engine"}, [HBM, {**HOST, "write": "through"}], {},
         ["engine.offloading"]),
        ({**SGLANG, **STATIC, "ignore_eos": True, "max_new_tokens": 64}, [HBM], {},
         ["engine.max_new_tokens", "engine.ignore_eos"]),
        ({}, [{**HBM, "eviction": "priority"}], {}, ["tiers.0.eviction"]),
        ({}, [{**HBM, "eviction": "no_such_module:Policy"}], {}, ["tiers.0.eviction"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_act_are_refused(
    engine: dict[str, Any],
    tiers: list[dict[str, Any]],
    trace: dict[str, Any],
    refused: list[str],
) -> None:
    assert places(engine, tiers, trace) == refused


def test_a_workload_setting_needs_a_trace_that_it_can_act_on() -> None:
    assert places({}, [HBM], workload={"pacing": "think_times"}) == ["workload.pacing"]
    assert places({}, [HBM], THINKING, workload={"pacing": "think_times"}) == []
    assert places({}, [HBM], workload={"requests": 5}) == ["workload.requests"]
    assert places({}, [HBM], workload={"requests": 4}) == []


def test_think_times_without_turns_before_them_do_nothing() -> None:
    alone = {"think_ns": np.array([5, 5, 5, 5])}
    assert places({}, [HBM], alone, {"pacing": "think_times"}) == ["workload.pacing"]


def test_scaling_arrivals_that_are_all_at_once_does_nothing() -> None:
    at_once = {"arrival_ns": np.zeros(4, np.int64)}
    assert places({}, [HBM], at_once, {"rate_scale": 2.0}) == ["workload.rate_scale"]
    assert places({}, [HBM], at_once, {"rate_scale": 1.0}) == []
    alike = {"alike_experts": {"share": 0.5, "openings": 2}}
    assert "workload.alike_experts" in places({}, [HBM], at_once, alike)


def test_a_machine_without_a_row_for_hbm_can_not_map() -> None:
    machine = load_machine("h100")
    rows = tuple(row for row in machine.vmm if row.kind == "host")
    lacking = machine.model_copy(update={"vmm": rows})
    assert places({"movement": "mapped"}, [HBM], described=lacking) == ["engine.movement"]


def test_the_seed_is_refused_where_nothing_is_drawn() -> None:
    assert places({}, [HBM], top={"seed": 1}, seeded=False) == ["seed"]
    assert places({}, [HBM], top={"seed": 1}) == []
    assert places({}, [HBM], seeded=False) == []


def test_a_files_seed_serves_any_workload_and_one_that_is_set_must_act(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nseed: 3\nworkload: {trace: t.arrow}\nmachine: h100\nmodel: llama-3.1-8b\n"
        "tiers: [{tier: hbm}]\n"
    )
    of_file, asked = load_scenario(path), load_scenario(path, ["seed=4"])
    assert of_file.seed == 3
    assert "seed" not in of_file.model_fields_set
    assert "seed" in asked.with_trace("b.arrow").model_fields_set


SYNTH: dict[str, Any] = {
    "requests": 4, "arrivals": {"rate_per_s": 1}, "prompt_tokens": 1100, "output_tokens": 20,
}  # fmt: skip
SHARED = {"sessions": {"system_prompts": 4, "system_prompt_tokens": 700}}
SKEWED = {"sessions": {"system_prompts": 4, "system_prompt_tokens": 700, "zipf": 1.0}}
ALIKE = {"tenants": [{"name": "a", "share": 1}, {"name": "b", "share": 1}]}
RANKED = {"tenants": [{"name": "a", "share": 1}, {"name": "b", "share": 1, "priority": 1}]}


@pytest.mark.parametrize(
    ("engine", "tiers", "synth", "trace", "refused"),
    [
        ({}, [HBM], SKEWED, {}, []),
        (OFF, [HBM], {"sessions": {"system_prompts": 1, "system_prompt_tokens": 700}}, {}, []),
        (OFF, [HBM], SHARED, {}, ["sessions.system_prompts"]),
        (OFF, [HBM], SKEWED, {}, ["sessions.system_prompts", "sessions.zipf"]),
        (STATIC, [HBM], SKEWED, {}, ["sessions.system_prompts", "sessions.zipf"]),
        ({}, [HBM], {"block_tokens": 16}, {}, []),
        ({}, [HBM], {"block_tokens": 0}, NO_PREFIXES, []),
        ({}, [HBM], {"block_tokens": 8}, {}, ["block_tokens"]),
        (OFF, [HBM], {"block_tokens": 16}, {}, ["block_tokens"]),
        (STATIC, [HBM], {"block_tokens": 0}, NO_PREFIXES, ["block_tokens"]),
        ({}, [HBM], ALIKE, TENANTS, ["tenants"]),
        ({}, [HBM], RANKED, {**TENANTS, **URGENT}, ["tenants"]),
        ({"scheduler": "fair"}, [HBM], ALIKE, TENANTS, []),
        ({"scheduler": "fair"}, [HBM], RANKED, {**TENANTS, **URGENT}, ["tenants.1.priority"]),
        ({"scheduler": "priority"}, [HBM], RANKED, {**TENANTS, **URGENT}, []),
        ({}, [{**HBM, "eviction": "priority"}], RANKED, {**TENANTS, **URGENT}, []),
        ({"scheduler": "fair"}, [{**HBM, "eviction": "priority"}], RANKED, {**TENANTS, **URGENT},
         []),
        ({}, [HBM], {"seed": 3}, {}, ["seed"]),
    ],
)  # fmt: skip
def test_what_a_drawn_workload_says_must_be_seen_by_something(
    engine: dict[str, Any],
    tiers: list[dict[str, Any]],
    synth: dict[str, Any],
    trace: dict[str, Any],
    refused: list[str],
) -> None:
    found = places(engine, tiers, trace, {"synth": SYNTH | synth})
    assert found == [f"workload.synth.{place}" for place in refused]


def test_a_single_tenant_is_as_good_as_none() -> None:
    one = {"tenants": [{"name": "a"}]}
    found = places({"scheduler": "fair"}, [HBM], workload={"synth": SYNTH | one})
    assert found == ["engine.scheduler", "workload.synth.tenants"]


def test_a_default_that_happens_to_do_nothing_is_no_fault() -> None:
    assert places({}, [HBM], NO_PREFIXES) == []
    assert places(STATIC, [HBM]) == []
