"""A warm-up goes on until the driver is calm and what was released before is cleared."""

import time

import pytest
from tests.hwbackend.cases.driver_stub import StubDriver, stand_in

from vsim.hwbackend.cuda.device import Device
from vsim.hwbackend.measuring import warm_calls
from vsim.hwbackend.measuring.warm_calls import CALM, WarmCalls


@pytest.fixture
def rounds_us(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next rounds take; the last one for ever."""
    left: list[float] = []
    monkeypatch.setattr(
        WarmCalls, "_round_us", lambda self: left.pop(0) if len(left) > 1 else left[0]
    )
    return left


def warm(monkeypatch: pytest.MonkeyPatch) -> tuple[StubDriver, WarmCalls]:
    driver = stand_in(monkeypatch, StubDriver(gpus=1))
    return driver, WarmCalls(Device(0).place, Device(0))


def test_rounds_make_and_end_a_chunk_and_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, calls = warm(monkeypatch)
    assert calls() >= 1
    assert driver.held == 0
    made = [driver.log.count(name) for name in ("cuMemCreate", "cuMemSetAccess", "cuMemUnmap")]
    assert made[0] >= CALM
    assert made == made[:1] * 3


def test_slow_rounds_are_waited_out_and_how_slow_the_last_are_is_said(
    monkeypatch: pytest.MonkeyPatch, rounds_us: list[float]
) -> None:
    _, calls = warm(monkeypatch)
    rounds_us[:] = [80.0]
    assert calls() == 1
    # a page table that waits for clearing takes a turn of a millisecond
    rounds_us[:] = [1_100.0] * 30 + [100.0]
    assert calls() == 100 / 80
    assert rounds_us == [100.0]


def test_a_driver_that_stays_slow_ends_the_warm_up_in_time(
    monkeypatch: pytest.MonkeyPatch, rounds_us: list[float]
) -> None:
    monkeypatch.setattr(warm_calls, "_MOST_S", 0.01)
    _, calls = warm(monkeypatch)
    rounds_us[:] = [80.0]
    calls()
    rounds_us[:] = [400.0]
    assert calls() == 5


def test_what_was_released_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, rounds_us: list[float]
) -> None:
    _, calls = warm(monkeypatch)
    rounds_us[:] = [80.0]
    began = time.perf_counter()
    calls.await_clearing(int(0.02 * warm_calls.CLEARED_BYTES_PER_S))
    calls()
    assert time.perf_counter() - began >= 0.02
