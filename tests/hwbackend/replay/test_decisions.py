"""Where hardware takes other times, the engine decides otherwise; that is counted and explained."""

from pathlib import Path

import pytest
from tests.hwbackend.replay.test_clocked_backend import Clock, Lasting

from vsim.hwbackend.replay.clocked_backend import ClockedBackend, Ticket
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.outcome import Outcome
from vsim.hwbackend.replay.reading import read_source
from vsim.hwbackend.replay.replaying import Carriers, replay
from vsim.hwbackend.replay.source import Source
from vsim.sim.engine.backend import Operation
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.state import State

LIVE = ReplayOptions(mode="live")


class Flat(Lasting):
    """Every step takes one time, every copy another."""

    def __init__(self, clock: Clock, step_ns: int, copy_ns: int) -> None:
        super().__init__(clock, {}, {})
        self.step_ns, self.copy_ns = step_ns, copy_ns

    def start(self, operation: Operation) -> Ticket:
        took = self.step_ns if operation.kind == "step" else self.copy_ns
        self.took[operation.serial] = took
        self.body[operation.serial] = took
        return super().start(operation)


def live(source: Source, step_ns: int, copy_ns: int) -> Outcome:
    def made(state: State) -> BookedBackend:
        clock = Clock()
        return BookedBackend(
            state, ClockedBackend(Flat(clock, step_ns, copy_ns), clock, clock.pause)
        )

    def no_plan(_: Source) -> BookedBackend:
        raise AssertionError("a live replay carries no plan out")

    return replay(source, LIVE, Carriers("a flat machine", no_plan, made))


@pytest.fixture
def source(small: Path) -> Source:
    return read_source(str(small), LIVE)


def test_a_slower_machine_finds_more_requests_waiting(source: Source) -> None:
    outcome = live(source, step_ns=40_000_000, copy_ns=1_000_000)
    found = outcome.decisions
    assert found is not None
    assert found.steps[1] != found.steps[0]
    assert found.first is not None
    assert "ms later" in found.first
    assert "of them arrived in between" in found.first
    kinds = {kind.name: kind for kind in found.kinds}
    assert kinds["admissions"].differing > 0
    assert outcome.alone[0] > 0
    assert outcome.compared + outcome.alone[0] == len(source.plan.operations)
    # of what both have, the table says how far the prediction is off
    assert outcome.total.median < -0.5


def test_every_request_is_served_whatever_the_times(source: Source) -> None:
    for step_ns in (1_000, 3_000_000, 200_000_000):
        outcome = live(source, step_ns, copy_ns=5_000_000)
        assert outcome.decisions is not None
        assert outcome.log.num_rows > 0
        ends = outcome.log.column("end_ns").to_pylist()
        assert ends == sorted(ends)
