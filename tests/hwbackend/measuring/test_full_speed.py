"""Samples are taken where small calls are fast, whichever core that is then."""

import gc
import os
from collections.abc import Callable

import pytest

from vsim.hwbackend.measuring import full_speed, plain_loop
from vsim.hwbackend.measuring.full_speed import MOST_TRIES, FullSpeed
from vsim.hwbackend.measuring.plain_loop import PlainLoop


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


def by_core(cores: set[int], slow: dict[int, float]) -> Callable[[], float]:
    return lambda: slow[next(iter(cores))]


def test_a_sample_is_taken_on_a_fast_core_and_the_thread_is_free_again_afterwards(
    cores: set[int],
) -> None:
    with FullSpeed(by_core(cores, {0: 1.5, 1: 1.5, 2: 1.05}), 9.0) as host:
        assert host.sample(lambda: set(cores)) == {2}
        assert host.sample(lambda: set(cores)) == {2}
        assert (host.taken, host.slow) == (2, 0)
        assert host.moved <= 2
    assert cores == {0, 1, 2}


def test_when_a_core_turns_slow_the_next_sample_is_taken_on_another(cores: set[int]) -> None:
    slow = {0: 1.4, 1: 1.0, 2: 1.05}
    with FullSpeed(by_core(cores, slow), 9.0) as host:
        first = host.sample(lambda: next(iter(cores)))
        slow[first] = 1.6
        second = host.sample(lambda: next(iter(cores)))
        assert {first, second} == {1, 2}
        assert host.slow == 0


def test_where_all_cores_stay_slow_a_sample_is_taken_and_said_to_be_slow(cores: set[int]) -> None:
    with FullSpeed(lambda: 1.5, 9.0) as host:
        assert host.sample(lambda: "found") == "found"
        assert (host.taken, host.moved, host.slow) == (1, MOST_TRIES, 1)
        assert "1 on one that was 10% slower" in host.told


def test_when_the_time_for_it_is_over_no_other_core_is_looked_for(cores: set[int]) -> None:
    with FullSpeed(lambda: 1.5, 0.0) as host:
        host.sample(lambda: None)
        assert (host.taken, host.moved, host.slow) == (1, 0, 1)


def test_what_counts_as_slow_is_the_caller_s(cores: set[int]) -> None:
    with FullSpeed(lambda: 1.25, 9.0, 1.3) as host:
        host.sample(lambda: None)
        assert (host.moved, host.slow) == (0, 0)
        assert "0 on one that was 30% slower" in host.told


def test_a_plain_loop_is_slow_by_the_fastest_one_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([120.0, 100.0, 150.0, 80.0, 80.0])
    monkeypatch.setattr(plain_loop, "loop_us", lambda: next(took))
    loop = PlainLoop()
    assert [loop.slowness() for _ in range(5)] == [1.0, 1.0, 1.5, 1.0, 1.0]


def test_no_garbage_is_collected_meanwhile(cores: set[int]) -> None:
    assert gc.isenabled()
    with FullSpeed(lambda: 1.0, 9.0) as host:
        assert not host.sample(gc.isenabled)
    assert gc.isenabled()


def test_a_driver_that_fails_at_once_leaves_the_thread_free_and_garbage_collected(
    cores: set[int],
) -> None:
    def fails() -> float:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        FullSpeed(fails, 9.0)
    assert gc.isenabled()
    assert cores == {0, 1, 2}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinities here")
def test_the_real_thread_is_pinned_while_it_runs() -> None:
    before = os.sched_getaffinity(0)
    with FullSpeed(lambda: 1.0, 9.0) as host:
        assert host.sample(lambda: len(os.sched_getaffinity(0))) == 1
    assert os.sched_getaffinity(0) == before
