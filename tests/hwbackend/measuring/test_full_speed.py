"""Samples between slow loops are taken again, on the core that is fastest then."""

import gc
import os
from collections.abc import Callable

import pytest

from vsim.hwbackend.measuring import full_speed
from vsim.hwbackend.measuring.full_speed import MOST_TRIES, FullSpeed, loop_us


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Three cores; the set holds the one that the thread is on, or all."""
    on = {0, 1, 2}

    def pin(cores: set[int]) -> None:
        on.clear()
        on.update(cores)

    monkeypatch.setattr(full_speed, "_cores", lambda: {0, 1, 2})
    monkeypatch.setattr(full_speed, "_pin", pin)
    return on


def by_core(cores: set[int], us: dict[int, float]) -> Callable[[], float]:
    return lambda: us[next(iter(cores))]


def test_the_thread_goes_to_the_fastest_core_and_is_free_again_afterwards(cores: set[int]) -> None:
    with FullSpeed(9.0, by_core(cores, {0: 150.0, 1: 100.0, 2: 160.0})) as host:
        assert cores == {1}
        assert host.sample(lambda: "found") == "found"
        assert (host.taken, host.again, host.slow) == (1, 0, 0)
    assert cores == {0, 1, 2}


def test_a_sample_on_a_core_that_turned_slow_is_taken_again_on_another(cores: set[int]) -> None:
    us = {0: 130.0, 1: 100.0, 2: 104.0}
    taken: list[int] = []

    def take() -> int:
        core = next(iter(cores))
        taken.append(core)
        us[1] = 150.0
        return core

    with FullSpeed(9.0, by_core(cores, us)) as host:
        assert host.sample(take) == 2
        assert taken == [1, 2]
        assert (host.taken, host.again, host.slow) == (1, 1, 0)


def test_where_all_cores_stay_slow_the_sample_of_the_fastest_loops_stands(cores: set[int]) -> None:
    us = {0: 100.0, 1: 110.0, 2: 120.0}
    values = iter([200.0, 150.0, 151.0, *[170.0] * MOST_TRIES])

    def take() -> float:
        value = next(values)
        us.update(dict.fromkeys(us, value))
        return value

    with FullSpeed(9.0, by_core(cores, us)) as host:
        assert host.sample(take) == 151.0
        assert (host.taken, host.again, host.slow) == (1, MOST_TRIES, 1)
        assert "1 stand" in host.told


def test_a_slow_driver_is_as_good_a_reason_to_take_a_sample_again(cores: set[int]) -> None:
    slow = iter([1.9, 1.1])
    values = iter([3.0, 2.0])
    with FullSpeed(9.0, lambda: 100.0) as host:
        assert host.sample(lambda: next(values), lambda: next(slow)) == 2.0
        assert (host.taken, host.again, host.slow) == (1, 1, 0)


def test_no_garbage_is_collected_meanwhile(cores: set[int]) -> None:
    assert gc.isenabled()
    with FullSpeed(9.0, lambda: 100.0) as host:
        assert not host.sample(gc.isenabled)
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinities here")
def test_when_the_time_for_it_is_over_nothing_is_taken_again(cores: set[int]) -> None:
    us = {0: 100.0, 1: 110.0, 2: 120.0}

    def take() -> None:
        us.update(dict.fromkeys(us, 300.0))

    with FullSpeed(0.0, by_core(cores, us)) as host:
        host.sample(take)
        assert (host.taken, host.again, host.slow) == (1, 0, 1)


def test_a_real_loop_takes_time_and_the_real_thread_is_pinned_while_it_runs() -> None:
    before = os.sched_getaffinity(0)
    with FullSpeed(9.0) as host:
        assert len(os.sched_getaffinity(0)) == 1
        assert host.sample(loop_us) > 0
    assert os.sched_getaffinity(0) == before
