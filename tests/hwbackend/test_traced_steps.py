"""A step's kernels and the host's part are told apart in a trace."""

from typing import Any

import numpy as np
import pytest

from vsim.hwbackend.kernels.traced_steps import groups, host_rows, step_rows
from vsim.hwbackend.servers.tables import tables

NAMES = ["triton_embedding", "gemm", "cudaLaunchKernel", "cudaGraphLaunch", "cudaEventSynchronize"]
PLACES = ["DeviceType.CPU", "DeviceType.CUDA"]


def events(*rows: tuple[int, int, str]) -> dict[str, Any]:
    """Make a trace of (start, duration, name) in ns; kernels are the first two names."""
    numbers = [NAMES.index(name) for _, _, name in rows]
    return {
        "names": NAMES,
        "places": PLACES,
        "start": [start for start, _, _ in rows],
        "duration": [duration for _, duration, _ in rows],
        "name": numbers,
        "place": [int(number < 2) for number in numbers],
    }


def test_groups_hold_all_requests_of_the_traced_table() -> None:
    assert sum(group.count for group in groups()) == len(tables()["traced"])
    assert [group.prompt for group in groups()][3:] == [256, 512, 640, 1024, 2048, 8192]


def test_a_steps_kernels_and_gaps_are_those_between_its_ends() -> None:
    step = np.array([0, 3000, 9000]), np.array([2000, 4000, 1000]), np.array([0, 1, 1])
    rows = {row.kernel: row for row in step_rows("case", {"tokens": 1}, NAMES, step, 12_000)}
    assert rows["step until the next"].us[0] == 12.0
    assert rows["step, all kernels"].us[0] == 7.0
    assert rows["gap"].us == (1.5, 1.0, 2.0)
    assert rows["gemm"].us == (2.5, 1.0, 4.0)
    assert rows["gemm"].calls == 2


@pytest.mark.parametrize(
    ("graphs", "launches", "what"),
    [
        (1, 40, "host: one graph"),
        (33, 200, "host: a graph in pieces, then one"),
        (1, 500, "host: no graph, then one"),
        (0, 500, "host: no graph"),
    ],
)
def test_the_hosts_part_lies_between_two_waits(graphs: int, launches: int, what: str) -> None:
    calls = ["cudaGraphLaunch"] * graphs + ["cudaLaunchKernel"] * launches
    rows = [(0, 500, "cudaEventSynchronize")]
    rows += [(1000 + 100 * k, 50, name) for k, name in enumerate(calls)]
    rows += [(1000 + 100 * len(calls), 700, "cudaEventSynchronize")]
    # a first wait has no begin; the second is 500 ns after the first one's start
    (row,) = host_rows("case", events(*rows))
    assert row.kernel == what
    assert row.us[0] == pytest.approx((1000 + 100 * len(calls) - 500) / 1e3)
    assert row.calls == len(calls)


def test_what_launches_nothing_is_left_out() -> None:
    rows = [(0, 10, "cudaEventSynchronize"), (100, 5, "cudaLaunchKernel")]
    assert not list(host_rows("case", events(*rows, (200, 5, "cudaEventSynchronize"))))
