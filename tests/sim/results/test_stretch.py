"""The busiest stretch of a run, from when its requests came, were admitted and were done."""

import numpy as np
import pytest

from vsim.sim.results.stretch import busiest_stretch


def stretch(*requests: tuple[int, int, int]) -> dict[str, float]:
    arrival, admitted, last = np.array(requests, np.int64).T
    return busiest_stretch(arrival, admitted, last)


def test_a_request_that_comes_when_all_others_are_done_is_a_stretch_of_its_own() -> None:
    found = stretch((0, 0, 10), (0, 10, 20), (500, 500, 510))
    assert found["requests_share"] == pytest.approx(2 / 3)
    assert found["wait_share"] == pytest.approx(10 / 30)
    assert found["backlog_share"] == 1.0


def test_requests_that_touch_are_of_one_stretch() -> None:
    assert stretch((0, 0, 10), (10, 10, 20))["requests_share"] == 1.0
    assert stretch((0, 0, 10), (11, 11, 20))["requests_share"] == 0.5


def test_the_backlog_is_what_is_left_when_requests_stop_coming() -> None:
    even = [(10 * i, 10 * i, 10 * i + 12) for i in range(100)]
    assert stretch(*even)["backlog_share"] < 0.03
    slow = [(10 * i, 20 * i, 20 * i + 20) for i in range(100)]
    assert stretch(*slow)["backlog_share"] == pytest.approx(0.5, abs=0.01)


def test_one_request_just_before_the_end_hides_no_backlog() -> None:
    burst = [(i, i, 1000) for i in range(99)]
    assert stretch(*burst, (999, 999, 1001))["backlog_share"] > 0.85


def test_the_order_of_requests_does_not_matter() -> None:
    requests = [(0, 0, 10), (5, 10, 30), (40, 40, 41)]
    assert stretch(*requests) == stretch(*reversed(requests))


def test_no_request_is_no_stretch() -> None:
    none = np.zeros(0, np.int64)
    assert busiest_stretch(none, none, none)["requests_share"] == 0
