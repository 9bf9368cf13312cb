from typing import Any

import pytest

from vsim.sim.results.verdict import part_name, verdict


def summary(**share: float) -> dict[str, Any]:
    """A saturated run: requests wait a second for admission and last two."""
    names = {name.replace("__", ":"): value for name, value in share.items()}
    zero = dict.fromkeys(("launch", "compute", "hbm_weights", "hbm_kv", "idle_transfers"), 0.0)
    return {
        "requests": {"submitted": 10, "completed": 10, "rejected": 0},
        "engine": {"max_running_requests": 8, "prefix_caching": True, "placement": "balanced"},
        "simulated_s": 100.0,
        "last_arrival_s": 81.0,
        "time_share": zero | names,
        "admission_wait_ms": {"mean": 1000.0},
        "e2e_ms": {"mean": 2000.0},
        "preemptions": 0,
        "wait_s_by_cause": {},
        "concurrent_requests": {"mean": 4.0, "peak": 8},
        "prefix_hit_ratio": 0.25,
        "step": {"mean_requests": 4.0, "mean_prefill_tokens": 500.0},
        "tiers": [
            {"name": "hbm", "capacity_bytes": 2**33, "read_busy_share": 1.0},
            {"name": "nvme", "read_busy_share": 0.8, "write_busy_share": 0.1},
        ],
        "links": [
            {"name": "host-hbm", "forward_busy_share": 0.2, "reverse_busy_share": 0.9},
            {"name": "nvme-host", "forward_busy_share": 0.3, "reverse_busy_share": 0.1},
        ],
    }


@pytest.mark.parametrize(
    ("share", "bound_by"),
    [
        ({"compute": 0.7, "hbm_weights": 0.3}, "compute"),
        ({"compute": 0.4, "hbm_weights": 0.3, "hbm_kv": 0.3}, "HBM bandwidth"),
        ({"idle_transfers": 0.5, "compute": 0.3}, "link host-hbm"),
        ({"idle_transfers": 0.2, "vmm": 0.3, "compute": 0.3}, "link host-hbm"),
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
    run["tiers"][1] = {"name": "nvme"}  # not known
    assert verdict(run)["bound_by"] == "link host-hbm"


def test_a_server_that_keeps_up_is_bound_by_arrivals_and_names_what_its_steps_wait_for() -> None:
    run = summary(hbm_weights=0.8, compute=0.11, idle_no_requests=0.09)
    run["admission_wait_ms"] = {"mean": 399.0}
    found = verdict(run)
    assert (found["bound_by"], found["step_bound_by"]) == ("arrivals", "HBM bandwidth")
    assert "rate_scale" in found["relief"]
    run["admission_wait_ms"] = {"mean": 400.0}
    assert verdict(run)["bound_by"] == "HBM bandwidth"


def test_a_server_that_is_often_idle_is_bound_by_arrivals_although_bursts_wait() -> None:
    assert verdict(summary(compute=0.9, idle_no_requests=0.1))["bound_by"] == "arrivals"
    assert verdict(summary(compute=0.91, idle_no_requests=0.09))["bound_by"] == "compute"


def test_a_server_that_works_long_after_the_last_arrival_does_not_keep_up() -> None:
    run = summary(compute=0.95)
    run["admission_wait_ms"] = {"mean": 0.0}
    assert verdict(run)["bound_by"] == "arrivals"
    run["last_arrival_s"] = 80.0
    assert verdict(run)["bound_by"] == "compute"


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
    found = verdict(run)
    assert found["bound_by"] == "HBM bandwidth"
    assert "halves the KV" in found["relief"]


def test_a_run_that_served_nothing_is_bound_by_capacity() -> None:
    run = summary()
    run["requests"] = {"submitted": 10, "completed": 0, "rejected": 10}
    run["admission_wait_ms"] = run["e2e_ms"] = {"mean": None}
    assert verdict(run)["bound_by"] == "capacity"


def test_every_part_of_the_time_has_words() -> None:
    assert part_name("lower_tier:host") == "attending in place in host"
    assert part_name("idle_transfers") == "waiting for transfers"
