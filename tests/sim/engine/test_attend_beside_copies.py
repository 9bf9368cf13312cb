"""A step and the copies beside it share memories and links; what a step costs over its tiers."""

import math

import pytest

from vsim.sim.timing.attend import power_sum

from .round_machine import COST, GB, LINKS, round_machine
from .wires import Copy, Step, ends, server

LATENCY_NS = 5_000


def fast_link() -> tuple[tuple[str, str, int, int, int, None], ...]:
    """As LINKS, the one to host memory as fast as HBM itself."""
    return (("host", "hbm", 1000 * GB, 1000 * GB, 4_000, None), *LINKS[1:])


FAST_HOST = {"host": ("host", 1000 * GB, 1000 * GB, 1_000)}


# One step alone.


def test_a_step_takes_its_bytes_over_hbms_bandwidth() -> None:
    assert ends(server(), step=Step(hbm=10**9)) == [10**6]


def test_a_step_is_rounded_up_to_a_whole_nanosecond() -> None:
    assert ends(server(), step=Step(hbm=1_001)) == [2]
    assert ends(server(), step=Step(hbm=1_000)) == [1]


def test_a_product_takes_the_longer_of_its_weights_and_its_arithmetic() -> None:
    # 10^15 FLOPs and 10^12 bytes a second: 2 ms of FLOPs beside 1 ms of weights, then beside 3 ms
    flops = {"flops_per_token": 2e12}
    assert ends(server(weight_read_bytes=1e9, **flops), step=Step()) == [2 * 10**6]
    assert ends(server(weight_read_bytes=3e9, **flops), step=Step()) == [3 * 10**6]


def test_attention_hides_behind_no_product() -> None:
    # 2 ms of FLOPs that hide 1 ms of weights, and then 1 ms of attention
    state = server(flops_per_token=2e12, weight_read_bytes=1e9)
    assert ends(state, step=Step(hbm=10**9)) == [3 * 10**6]


@pytest.mark.parametrize(("p", "attention"), [(math.inf, 4), (1.0, 7), (2.0, 5)])
def test_tiers_are_read_at_once_in_attention_and_nowhere_else(p: float, attention: int) -> None:
    # 3 ms of HBM and 4 ms of host memory, behind 2 ms of weights that no tier is read beside
    state = server(weight_read_bytes=2e9, attend_exponent=p)
    step = Step(hbm=3 * 10**9, host=4 * 10**7)
    assert ends(state, step=step) == [(2 + attention) * 10**6]


def test_two_tiers_are_read_at_once_when_p_is_infinite() -> None:
    # host memory through its link of 10 GB/s, LPDDR through 250 GB/s
    assert ends(server(), step=Step(hbm=10**9, host=9 * 10**6)) == [10**6]
    assert ends(server(), step=Step(hbm=10**9, host=11 * 10**6)) == [1_100_000]
    assert ends(server(), step=Step(hbm=10**9, lpddr=3 * 10**8)) == [1_200_000]


@pytest.mark.parametrize(("p", "body"), [(1.0, 7_000_000), (2.0, 5_000_000)])
def test_two_tiers_add_up_by_the_p_norm(p: float, body: int) -> None:
    step = Step(hbm=3 * 10**9, host=4 * 10**7)  # 3 ms and 4 ms
    assert ends(server(attend_exponent=p), step=step) == [body]


def test_the_p_norm_runs_over_all_tiers() -> None:
    step = Step(hbm=2 * 10**9, host=10**7, lpddr=5 * 10**8)  # 2, 1 and 2 ms: 3 ms for p = 2
    assert ends(server(attend_exponent=2.0), step=step) == [3_000_000]
    times = [2e6, 1e6, 2e6]
    for p in (1.5, 3.0, 8.0):
        (end,) = ends(server(attend_exponent=p), step=step)
        assert 0 <= end - power_sum(times, p) < 1


@pytest.mark.parametrize("p", [1.0, 1 + 1e-9, 159.0, 160.0, 400.0, 1e4, 1e6, 1e12])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_the_compiled_p_norm_is_the_plain_one_over_the_whole_range(p: float, scale: float) -> None:
    step = Step(int(2e9 * scale), int(1e7 * scale), int(5e8 * scale))
    (end,) = ends(server(attend_exponent=p), step=step)
    expected = power_sum([2e6 * scale, 1e6 * scale, 2e6 * scale], p)
    assert end - expected == pytest.approx(0, abs=max(1.01, 1e-12 * expected))


# A step and copies.


def test_a_copy_takes_its_share_of_hbm_from_a_step() -> None:
    # the copy writes 10 of HBM's 1,000 GB/s for 100,000 ns: the step lags by 1 %, 1,000 ns
    found = ends(server(), Copy(10**6), step=Step(hbm=10**9))
    assert found == [LATENCY_NS + 100_000, 1_001_000]


def test_a_step_and_a_copy_that_both_want_all_of_hbm_get_half_each() -> None:
    machine = round_machine(FAST_HOST, fast_link())
    # 1,000 ns of copy at half the rate; the step has then done 1,000 of its 10,000 ns
    found = ends(server(machine), Copy(10**6), step=Step(hbm=10**7))
    assert found == [LATENCY_NS + 2_000, 11_000]
    # a long copy halves the step's pace to the end and is halved until then
    found = ends(server(machine), Copy(30 * 10**6), step=Step(hbm=10**7))
    assert found == [LATENCY_NS + 40_000, 20_000]


def test_the_copy_weight_is_a_steps_share_against_one_copy() -> None:
    machine = round_machine(FAST_HOST, fast_link(), copy_weight=3.0)
    # three quarters for the step; the copy of 1,000 ns takes four times as long
    found = ends(server(machine), Copy(10**6), step=Step(hbm=9 * 10**6))
    assert found == [LATENCY_NS + 4_000, 10_000]


def test_the_weight_of_hbm_is_that_of_a_steps_read_of_it_alone() -> None:
    sourced = {"source": "assumption", "note": "round"}
    attend = {
        "exponent": {"value": None, **sourced},
        "copy_weight": {"value": 1.0, **sourced},
        "hbm_weight": {"value": 3.0, **sourced},
    }
    machine = round_machine(FAST_HOST, fast_link(), attend=attend)
    found = ends(server(machine), Copy(10**6), step=Step(hbm=9 * 10**6))
    assert found == [LATENCY_NS + 4_000, 10_000]


def test_a_copy_whose_bytes_cost_hbm_five_times_slows_a_step_as_much() -> None:
    row = {
        "origin": "host", "target": "hbm", "way": "engine", "bandwidth": "10GB/s",
        "first": 0, "each": 0, "hbm_cost": 5.0, "source": "assumption", "note": "round",
    }  # fmt: skip
    machine = round_machine(copies=[row])
    # as above, but for 5 times its 10 of HBM's 1,000 GB/s
    found = ends(server(machine), Copy(10**6), step=Step(hbm=10**9))
    assert found == [LATENCY_NS + 100_000, 1_005_000]
    back = ends(server(machine), Copy(10**6, "hbm", "host"), step=Step(hbm=10**9))
    assert back[1] == 1_001_000


def test_a_copy_s_own_weight_is_its_share_against_a_step() -> None:
    row = {
        "origin": "host", "target": "hbm", "way": "engine", "bandwidth": "10GB/s",
        "first": 0, "each": 0, "weight": 3.0, "source": "assumption", "note": "round",
    }  # fmt: skip
    machine = round_machine(FAST_HOST, fast_link(), copies=[row])
    # three quarters for the copy of 3,000 ns: it takes 4,000, and the step does 1,000 meanwhile
    found = ends(server(machine), Copy(3 * 10**6), step=Step(hbm=10**7))
    assert found == [LATENCY_NS + 4_000, 13_000]


def test_n_copies_have_n_shares_against_one_step() -> None:
    machine = round_machine(FAST_HOST, fast_link())
    found = ends(server(machine), *[Copy(10**6)] * 3, step=Step(hbm=10**7))
    assert found == [LATENCY_NS + 4_000] * 3 + [13_000]


def test_a_copy_that_shares_no_memory_with_a_step_does_not_slow_it() -> None:
    found = ends(server(), Copy(4 * 10**6, "nvme", "host"), step=Step(hbm=10**9))
    assert found == [90_000 + 10**6, 10**6]


def test_a_step_bound_by_arithmetic_leaves_hbm_to_copies() -> None:
    machine = round_machine(FAST_HOST, fast_link())
    # its products take 10,000 ns of FLOPs. The step reads weights at 400 of 1,000 GB/s; a copy may
    # have the other 600
    state = server(machine, flops_per_token=1e10, weight_read_bytes=4e6)
    found = ends(state, Copy(6 * 10**6), step=Step())
    assert found == [LATENCY_NS + 10_000, 10_000]
    # a step that reads at 600 gives up 100 of them for an even share
    state = server(machine, flops_per_token=1e10, weight_read_bytes=6e6)
    found = ends(state, Copy(6 * 10**6), step=Step())
    assert found == [LATENCY_NS + 12_000, 12_000]


def test_attending_in_place_shares_the_link_with_copies_and_slows_the_whole_step() -> None:
    # 1 ms of HBM beside 1 ms of the link: a copy takes half of the link for 200,000 ns, in which
    # the step does 100,000 ns of its work; HBM waits for the link
    found = ends(server(), Copy(10**6), step=Step(hbm=10**9, host=10**7))
    assert found == [LATENCY_NS + 200_000, 1_100_000]


def test_attending_in_place_does_not_meet_a_copy_the_other_way() -> None:
    # HBM is read by the copy at 10 GB/s, 1 % of it; the link's other direction is free
    step = Step(hbm=5 * 10**8, host=10**7)
    found = ends(server(), Copy(10**6, "hbm", "host"), step=step)
    assert found == [4_000 + 100_000, 10**6]


def test_a_copy_that_starts_in_the_middle_slows_the_rest_of_a_step() -> None:
    machine = round_machine(FAST_HOST, fast_link())
    found = ends(server(machine), Copy(10**6, start_ns=4_000), step=Step(hbm=10**7))
    assert found == [4_000 + 2_000 + LATENCY_NS, 11_000]
    # it starts when the step is half done and outlasts it
    found = ends(server(machine), Copy(8 * 10**6, start_ns=5_000), step=Step(hbm=10**7))
    assert found == [5_000 + 10_000 + 3_000 + LATENCY_NS, 15_000]


def test_launch_and_communication_read_nothing_and_are_not_stretched() -> None:
    machine = round_machine(FAST_HOST, fast_link())
    state = server(machine, launch_ns=2_000.0, comm_fixed_ns=300.0, comm_ns_per_token=40.0)
    # What a step reads counts from its start: its share is kept for it while it launches. The body
    # counts from 2,340 ns on, when the copy, at half the rate, is through.
    found = ends(state, Copy(10**6), step=Step(hbm=10**7))
    assert found == [LATENCY_NS + 2_000, 12_340]


def test_the_round_cost_is_what_its_description_says() -> None:
    assert COST.weight_read_bytes / COST.hbm_read_bytes_per_s == 1e-6
    assert COST.flops_per_token / COST.flops_per_s == 1e-9
