from functools import cache
from typing import Any

import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.profiles.rules import with_profile
from vsim.sim.profiles.server_cost import server_cost
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.results.verdict import busy_shares, part_name
from vsim.sim.results.verdict import verdict as verdict_of
from vsim.sim.scenario.scenario import Scenario


@cache
def settings() -> RunSettings:
    """An H100 with a batch limit of 8 and NVMe below."""
    scenario = Scenario.model_validate(
        {
            "name": "case",
            "workload": {"trace": "a.arrow"},
            "machine": "h100",
            "model": "llama-3.1-8b",
            "engine": {"max_running_requests": 8},
            "tiers": [{"tier": "hbm"}, {"tier": "nvme"}],
        }
    )
    machine, model = load_machine("h100"), load_model("llama-3.1-8b")
    scenario = with_profile(scenario, machine)
    return RunSettings(scenario, machine, model, server_cost(scenario, machine, model))


def verdict(summary: dict[str, Any]) -> dict[str, Any]:
    return verdict_of(summary, settings())


SATURATED = {"requests_share": 1.0, "wait_share": 0.5, "wait_ms": 1000.0, "backlog_share": 0.19}
PROMPT = {"requests_share": 1.0, "wait_share": 0.0, "wait_ms": 0.0, "backlog_share": 0.0}


def summary(**share: float) -> dict[str, Any]:
    """A saturated run: requests wait a second for admission and last two."""
    names = {name.replace("__", ":"): value for name, value in share.items()}
    zero = dict.fromkeys(("launch", "compute", "hbm_weights", "hbm_kv", "idle_transfers"), 0.0)
    tier = {"peak_bytes": 0, "mean_bytes": 0, "dropped_pages": 0, "evicted_pages": 0,
            "hit_tokens": 0}  # fmt: skip
    return {
        "requests": {"submitted": 10, "completed": 10, "rejected": 0},
        "engine": {"max_running_requests": 8, "prefix_caching": True, "placement": "balanced",
                   "page_tokens": 16},
        "simulated_s": 100.0,
        "last_arrival_s": 81.0,
        "time_share": zero | names,
        "busiest_stretch": SATURATED,
        "admission_wait_ms": {"mean": 1000.0},
        "e2e_ms": {"mean": 2000.0},
        "preemptions": 0,
        "wait_s_by_cause": {},
        "counters": {},
        "tokens": {"prompt": 10_000, "output": 1000},
        "prefix_hit_tokens": 0,
        "compute_busy_share": 0.1,
        "concurrent_requests": {"mean": 4.0, "peak": 8},
        "prefix_hit_ratio": 0.25,
        "step": {"count": 20, "mean_ms": 20.0, "mean_requests": 4.0, "mean_prefill_tokens": 500.0,
                 "mean_decode_tokens": 4.0, "bound_share": {"compute": 0.5}},
        "tiers": [
            tier | {"name": "hbm", "capacity_bytes": 2**33, "read_busy_share": 1.0},
            tier | {"name": "nvme", "capacity_bytes": 2**36, "read_busy_share": 0.8,
                    "write_busy_share": 0.1},
        ],
        "links": [
            {"name": "host-hbm", "forward_busy_share": 0.2, "reverse_busy_share": 0.9},
            {"name": "nvme-host", "forward_busy_share": 0.3, "reverse_busy_share": 0.1},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("share", "bound_by"),
    [
        ({"compute": 0.7, "hbm_weights": 0.3}, "compute"),
        ({"compute": 0.4, "hbm_weights": 0.3, "hbm_kv": 0.3}, "HBM bandwidth"),
        ({"compute": 0.4, "hbm_weights": 0.2, "small_kernels": 0.3}, "HBM bandwidth"),
        ({"idle_transfers": 0.5, "compute": 0.3}, "link host-hbm"),
        ({"idle_transfers": 0.2, "vmm": 0.4, "compute": 0.3}, "mapping pages"),
        ({"lower_tier__lpddr": 0.5, "compute": 0.3}, "bandwidth to lpddr"),
        ({"idle_capacity": 0.6, "compute": 0.3}, "capacity"),
        ({"launch": 0.6, "compute": 0.3}, "launching steps"),
        ({"communication": 0.6, "compute": 0.3}, "traffic between GPUs"),
    ],
)
def test_a_saturated_run_is_bound_by_where_most_of_its_time_went(
    share: dict[str, float], bound_by: str
) -> None:
    assert verdict(summary(**share))["bound_by"] == bound_by


def test_a_memory_slower_than_its_link_is_named_instead_of_it() -> None:
    run = summary(idle_transfers=0.9)
    run["tiers"][1]["read_busy_share"] = 0.95
    assert verdict(run)["bound_by"] == "read bandwidth of nvme"
    del run["tiers"][1]["read_busy_share"], run["tiers"][1]["write_busy_share"]  # not known
    assert verdict(run)["bound_by"] == "link host-hbm"


def test_a_server_that_keeps_up_is_bound_by_arrivals_and_names_what_its_steps_wait_for() -> None:
    run = summary(hbm_weights=0.8, compute=0.11, idle_no_requests=0.09)
    run["busiest_stretch"] = SATURATED | {"wait_share": 0.199}
    found = verdict(run)
    assert (found["bound_by"], found["step_bound_by"]) == ("arrivals", "HBM bandwidth")
    assert "rate_scale: 2" in found["relief"]
    run["busiest_stretch"] = SATURATED | {"wait_share": 0.2}
    assert verdict(run)["bound_by"] == "HBM bandwidth"


def test_only_the_stretch_of_most_requests_is_judged_however_long_the_server_then_was_idle() -> (
    None
):
    run = summary(compute=0.01, idle_no_requests=0.99)
    assert verdict(run)["bound_by"] == "compute"
    assert "100% of the busy time is arithmetic" in verdict(run)["why"]
    run["busiest_stretch"] = SATURATED | {"requests_share": 0.49}  # it ran empty again and again
    assert verdict(run)["bound_by"] == "arrivals"


def test_waiting_for_the_step_under_way_is_no_waiting() -> None:
    run = summary(compute=0.9)
    run["busiest_stretch"] = SATURATED | {"wait_ms": 39.0}
    assert verdict(run)["bound_by"] == "arrivals"
    run["busiest_stretch"] = SATURATED | {"wait_ms": 40.0}
    assert verdict(run)["bound_by"] == "compute"


def test_a_server_that_works_long_after_the_last_arrival_does_not_keep_up() -> None:
    run = summary(compute=0.95)
    run["busiest_stretch"] = PROMPT | {"backlog_share": 0.19}
    assert verdict(run)["bound_by"] == "arrivals"
    run["busiest_stretch"] = PROMPT | {"backlog_share": 0.2}
    assert verdict(run)["bound_by"] == "compute"


def test_the_busy_time_s_parts_sum_to_one() -> None:
    found = busy_shares(summary(compute=0.3, launch=0.1, idle_no_requests=0.6))
    assert found["compute"] == pytest.approx(0.75)
    assert sum(found.values()) == pytest.approx(1)


def test_reading_weights_for_a_batch_that_found_no_room_is_a_lack_of_capacity() -> None:
    run = summary(hbm_weights=0.6, hbm_kv=0.2)
    run["concurrent_requests"] = {"mean": 4.0, "peak": 5}
    assert verdict(run)["bound_by"] == "HBM bandwidth"
    run["preemptions"] = 3
    found = verdict(run)
    assert found["bound_by"] == "capacity"
    assert "8 GiB" in found["why"]
    assert "3 preemptions" in found["why"]
    run["concurrent_requests"]["peak"] = 8  # the batch limit, not room
    assert verdict(run)["bound_by"] == "HBM bandwidth"


def test_reading_kv_is_bandwidth_however_short_the_room() -> None:
    run = summary(hbm_weights=0.2, hbm_kv=0.6)
    run["concurrent_requests"] = {"mean": 4.0, "peak": 5}
    run["preemptions"] = 3
    run["tokens"] = {"prompt": 100_000, "output": 1000}  # contexts long enough for fp8 to help
    found = verdict(run)
    assert found["bound_by"] == "HBM bandwidth"
    assert "kv: fp8 saves at most" in found["relief"]


def test_a_run_that_served_nothing_is_bound_by_capacity() -> None:
    run = summary()
    run["requests"] = {"submitted": 10, "completed": 0, "rejected": 10}
    run["admission_wait_ms"] = run["e2e_ms"] = {"mean": None}
    assert verdict(run)["bound_by"] == "capacity"


def test_every_part_of_the_time_has_words() -> None:
    assert part_name("lower_tier:host") == "attending in place in host"
    assert part_name("idle_transfers") == "waiting for transfers"
