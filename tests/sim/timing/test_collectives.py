import numpy as np
import pytest
from tests.sim.timing.kernel_cases import made, tables

from vsim.sim.timing.collectives import collective_ns, expert_exchange_ns

SIZES = [1024, 65536, 1 << 20]
REDUCE = made(
    "all_reduce", [[2], [4], [8]], SIZES, [0],
    [[[4000], [5000], [20_000]], [[4400], [6000], [30_000]], [[5000], [8000], [28_000]]],
    variant="graph",
)  # fmt: skip


def test_measured_sizes_and_gpus_get_their_own_times() -> None:
    times = collective_ns(tables(REDUCE), "all_reduce", 4, SIZES)
    assert times == pytest.approx([4400, 6000, 30_000])


def test_between_sizes_and_gpus_times_are_between_theirs() -> None:
    found = tables(REDUCE)
    middle = collective_ns(found, "all_reduce", 2, np.sqrt(65536 * (1 << 20)))
    assert middle == pytest.approx(np.sqrt(5000 * 20_000))
    six = collective_ns(found, "all_reduce", 6, 1024)
    share = np.log2(6) - 2
    assert six == pytest.approx(4400 ** (1 - share) * 5000**share)


def test_below_the_sizes_the_time_stays_and_above_it_grows_with_them() -> None:
    small, large = collective_ns(tables(REDUCE), "all_reduce", 8, [1, 10 << 20])
    assert small == pytest.approx(5000)
    assert large == pytest.approx(280_000)


def test_beyond_the_gpus_measured_latency_grows_as_their_log_and_bandwidth_as_a_ring() -> None:
    small, large = collective_ns(tables(REDUCE), "all_reduce", 64, [1024, 1 << 20])
    assert small == pytest.approx(5000 * 6 / 3)
    assert large == pytest.approx(5000 * 6 / 3 + 23_000 * (63 / 64) / (7 / 8))


def test_one_gpu_and_no_bytes_take_no_time() -> None:
    assert collective_ns(tables(REDUCE), "all_reduce", 1, [0, 100]).tolist() == [0, 0]
    assert collective_ns(tables(REDUCE), "all_reduce", 2, 0) == 0


def test_what_was_not_measured_is_not_made_up() -> None:
    with pytest.raises(KeyError):
        collective_ns(tables(REDUCE), "all_gather", 2, 1024)


def test_tokens_of_another_width_take_as_long_as_as_many_bytes() -> None:
    dispatch = made(
        "expert_dispatch", [[8, 4096, 8, 256]], [1, 64, 1024], [0],
        [[[40_000], [44_000], [400_000]]], variant="low_latency",
    )  # fmt: skip
    found = tables(dispatch)
    same = expert_exchange_ns(found, "expert_dispatch", [0, 64, 1024], 4096, 8, 8)
    assert same == pytest.approx([0, 44_000, 400_000])
    wider = expert_exchange_ns(found, "expert_dispatch", [32, 512], 8192, 8, 8)
    assert wider == pytest.approx([44_000, 400_000])
    assert expert_exchange_ns(found, "expert_dispatch", 64, 4096, 8, 1) == 0
