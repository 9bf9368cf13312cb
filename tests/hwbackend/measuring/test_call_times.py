"""Times of driver calls: means of calls in a row, and the one of three on the fastest host."""

from collections.abc import Callable
from typing import cast

import pytest

from vsim.hwbackend.measuring.call_times import fastest, in_a_row
from vsim.hwbackend.measuring.full_speed import FullSpeed
from vsim.hwbackend.measuring.warm_calls import WarmCalls


class Small:
    """Stands for small calls and for the host: notes what was asked for, in order."""

    def __init__(self) -> None:
        self.round_us = 5.0
        self.asked: list[object] = []

    def __call__(self) -> float:
        self.asked.append("warm")
        self.round_us += 2.0
        return 1.0

    def await_clearing(self, released_bytes: int) -> None:
        self.asked.append(released_bytes)

    def sample(self, take: Callable[[], object]) -> object:
        self.asked.append("sample")
        return take()


def test_calls_in_a_row_wait_for_clearing_and_follow_on_small_calls() -> None:
    small, took = Small(), iter([10.0, 20.0, 60.0])
    found = in_a_row(lambda: {"map": next(took)}, cast(WarmCalls, small), 64, 3)
    assert found == {"map": 30.0, "round": 7.0}  # rounds of 5, 7 and 9
    assert small.asked == [64, "warm", 64, "warm"]


@pytest.mark.parametrize(
    ("on_host", "kept"), [(False, {"map": 30.0, "round": 4.0}), (True, {"map": 10.0, "round": 4.0})]
)
def test_of_three_the_one_on_the_fastest_host_is_kept(on_host: bool, kept: object) -> None:
    small = Small()
    three = iter([{"map": 20.0, "round": 6.0}, {"map": 30.0, "round": 4.0},
                  {"map": 10.0, "round": 9.0}])  # fmt: skip
    found = fastest(
        lambda: next(three), cast(FullSpeed, small), cast(WarmCalls, small), 7, on_host=on_host
    )
    assert found == kept
    assert small.asked == [7, "sample"] * 3
