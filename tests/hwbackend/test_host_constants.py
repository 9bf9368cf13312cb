"""The profile's host times are what the recordings say."""

from pathlib import Path

import numpy as np
import pytest

from vsim.hwbackend.servers.host_constants import (
    ALONE,
    EXPERTS,
    JOINS,
    WORKERS,
    alone_mean_ms,
    behind_prompts_ms,
    client_ms,
    decode_launches_ms,
    joins_ms,
    slowdown,
)
from vsim.hwbackend.servers.host_times import read_steps
from vsim.sim.fidelity.scenario_for import RECORDED_HOSTS
from vsim.sim.profiles.loading import load_profile
from vsim.sim.profiles.profile import Host
from vsim.traces.server_runs import Run, read_run

FOLDER = Path(__file__).parents[2] / "traces" / "recorded" / "servers"
LAYERS = 48  # of Qwen3-30B-A3B


def a_run(name: str) -> Run:
    return read_run(FOLDER / f"{name}.arrow")


@pytest.fixture(scope="module")
def host() -> Host:
    found = load_profile("vllm").host
    assert found is not None
    return found


def test_a_client_waits_for_the_engine_as_prompts_alone_do(host: Host) -> None:
    arrival, first, last = client_ms({name: a_run(name) for name in ALONE})
    assert host.first_delivery is not None
    asked = (host.arrival.value, host.first_delivery.value, host.delivery.value)
    assert [each / 1e6 for each in asked] == [round(each, 2) for each in (arrival, first, last)]


def test_the_h100s_host_is_as_slow_as_prompts_alone_say() -> None:
    ours = {name: a_run(name) for name in ALONE}
    others = {name: a_run(f"h100_{name}") for name in ALONE}
    assert RECORDED_HOSTS["H100"] == round(slowdown(ours, others), 2)
    assert slowdown(ours, ours) == 1.0


def test_experts_are_launched_as_the_host_is_slower_than_the_gpu(host: Host) -> None:
    alone = alone_mean_ms(a_run(EXPERTS))
    launch_ms = (alone[1024] + alone[2048]) / 2 - host.graph_launch.value / 1e6
    assert host.eager_expert_layer.value / 1e6 == pytest.approx(launch_ms / LAYERS, rel=0.005)


def test_requests_that_come_back_cost_as_much_as_behind_preemptions(host: Host) -> None:
    least, each = joins_ms(*read_steps(FOLDER / f"{JOINS}.arrow", "end_ns", "preempted"))
    assert host.join is not None
    assert host.join.value / 1e6 == round(each, 2)
    # and with nobody it is the launch of a step in pieces
    assert host.piece_launch.value / 1e6 == pytest.approx(least, rel=0.03)


def test_workers_launch_a_graph_behind_pieces(host: Host) -> None:
    (end_ns,) = read_steps(FOLDER / f"{WORKERS}.arrow", "end_ns")
    later = behind_prompts_ms(a_run(WORKERS), end_ns, (128, 1024))
    assert host.workers_schedule is not None
    theirs = (host.graph_launch.value - host.workers_schedule.value) / 1e6
    assert theirs == pytest.approx(later + host.drain.value / 1e6, abs=0.005)


def test_the_slope_over_victims_heeds_no_outlier() -> None:
    preempted = np.array([0, 4, 0, 0, 10, 0, 0, 7, 0, 0, 1, 0])
    gaps_ms = np.array([5, 5, 12, 5, 5, 15, 5, 5, 90, 5, 5, 10.5])
    least, each = joins_ms(np.cumsum(gaps_ms * 1e6).astype(np.int64), preempted)
    assert (least, each) == (pytest.approx(10.0), pytest.approx(0.5))


def test_a_decode_behind_a_prompt_shows_its_launch_by_the_batch() -> None:
    """Every fourth step ends a prompt; 3 ms and 40 us a request pass between it and the one before,
    whose tokens come when the next is launched."""
    counts = np.tile([8, 8, 8, 8, 30, 30, 30, 30, 17, 17, 17, 17], 3)
    prompts = np.tile([0, 0, 300, 0], 9)
    gaps_ms = np.where(prompts > 0, 3.0 + 0.04 * (counts - 1), 7.0)
    gaps_ms[10] = 20.0  # beside a preemption
    preempted = np.zeros(36, int)
    preempted[11] = 3
    end_ns = np.cumsum(np.rint(gaps_ms * 1e6)).astype(np.int64)
    one, other = decode_launches_ms([(end_ns, prompts, counts, preempted)])
    assert (one, other) == (pytest.approx(3.0), pytest.approx(0.04))
