"""A backend on real time gives a simulated run where what it carries takes the simulated times."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.seeds import some
from tests.sim.engine.test_booked import Recorder
from tests.sim.engine.worlds import World, draw_world

from vsim.hwbackend.replay.clocked_backend import ClockedBackend, Ticket
from vsim.sim.engine.backend import Completion, Operation
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.run import collect


class Clock:
    """A clock that stands still until somebody waits."""

    def __init__(self) -> None:
        self.now = 10**15  # a monotonic clock begins anywhere
        self.ends: list[int] = []

    def __call__(self) -> int:
        return self.now

    def pause(self) -> None:
        self.now = min(end for end in self.ends if end > self.now)


@dataclass
class Until:
    """Under way until a time of the clock."""

    clock: Clock
    began: int
    end: int
    host_ns: int = 0

    def done(self) -> bool:
        return self.clock.now >= self.end

    def took_ns(self) -> int:
        return self.end - self.began

    def finish(self) -> None:
        pass


class Lasting:
    """A carrier on which operations take given times, by serial."""

    def __init__(self, clock: Clock, took: dict[int, int], body: dict[int, int]) -> None:
        self.clock, self.took, self.body = clock, took, body
        self.started: list[int] = []
        self.closed = 0

    def prepare(self, operation: Operation) -> None:
        pass

    def start(self, operation: Operation) -> Ticket:
        self.started.append(operation.serial)
        end = self.clock.now + self.took[operation.serial]
        self.clock.ends.append(end)
        return Until(self.clock, end - self.body.get(operation.serial, 0), end)

    def close(self) -> None:
        self.closed += 1


def lasting(world: World) -> tuple[Recorder, dict[int, int], dict[int, int]]:
    """A recorded run, how long each of its operations took, and of steps their kernels."""
    recorder = Recorder(world.state())
    submitted: dict[int, int] = {}
    inner = recorder.submit

    def submit(operation: Operation) -> None:
        submitted[operation.serial] = recorder.now_ns()
        inner(operation)

    recorder.submit = submit  # type: ignore[method-assign]  # it notes when, and does as before
    drive(recorder._state, recorder)
    took, body = {}, {}
    for done in recorder.completions:
        for serial in done.serials:
            took[serial] = done.at_ns - submitted[serial]
        if done.kind == "step":
            body[done.serials[0]] = done.at_ns - done.began_ns
    return recorder, took, body


@pytest.mark.parametrize("seed", some(range(24), 4))
def test_the_times_of_a_simulated_run_give_its_decisions_and_times(seed: int) -> None:
    world = draw_world(seed)
    world = replace(world, engine=world.engine | {"loading": "always"}, operations="all")
    recorder, took, body = lasting(world)
    simulated = collect(recorder._state, recorder.completions[-1].at_ns, 0)
    clock = Clock()
    state = world.state()
    carrier = Lasting(clock, took, body)
    backend = ClockedBackend(carrier, clock, clock.pause)
    # arrivals while something is under way have to be woken for, too
    clock.ends.extend(clock.now + done.at_ns for done in recorder.completions)
    end = drive(state, BookedBackend(state, backend))
    found = collect(state, end, 0)
    for name in ("admitted_ns", "first_token_ns", "last_token_ns", "hit_tokens", "preemptions"):
        np.testing.assert_array_equal(getattr(simulated, name), getattr(found, name), name)
    assert simulated.tiers == found.tiers
    assert carrier.closed == 1


def completions(backend: ClockedBackend, count: int) -> list[Completion]:
    found = [backend.wait() for _ in range(count)]
    return [done for done in found if done is not None]


def test_of_what_ends_at_one_time_timers_come_first_then_copies_then_the_step() -> None:
    clock = Clock()
    backend = ClockedBackend(Lasting(clock, {1: 50, 2: 50, 3: 50}, {3: 20}), clock, clock.pause)
    backend.submit(Operation("step", 3))
    backend.submit(Operation("copy", 1))
    backend.submit(Operation("timer", 4, at_ns=50))
    backend.submit(Operation("copy", 2))
    assert completions(backend, 4) == [
        Completion("timer", (4,), 50),
        Completion("copy", (1,), 50, 50),
        Completion("copy", (2,), 50, 50),
        Completion("step", (3,), 50, 30),
    ]
    assert backend.wait() is None


def test_time_in_which_nothing_is_under_way_is_skipped_and_counted() -> None:
    clock = Clock()
    backend = ClockedBackend(Lasting(clock, {1: 5}, {}), clock, clock.pause)
    backend.submit(Operation("timer", 0, at_ns=10**12))
    assert backend.wait() == Completion("timer", (0,), 10**12)
    assert backend.skipped_ns == 10**12
    backend.submit(Operation("step", 1))
    assert backend.wait() == Completion("step", (1,), 10**12 + 5, 10**12 + 5)


def test_what_the_host_prepares_is_no_time_of_the_run() -> None:
    clock = Clock()

    class Slow(Lasting):
        def prepare(self, operation: Operation) -> None:
            self.clock.now += 1000

    backend = ClockedBackend(Slow(clock, {1: 7}, {}), clock, clock.pause)
    backend.submit(Operation("step", 1))
    assert backend.now_ns() == 0
    assert backend.wait() == Completion("step", (1,), 7, 7)
    assert backend.prepared_ns == 1000


def test_nothing_that_the_host_does_between_two_waits_moves_the_next_step() -> None:
    clock = Clock()

    @dataclass
    class LookedAt(Until):
        def finish(self) -> None:
            self.clock.now += 24_000

    class Looking(Lasting):
        def start(self, operation: Operation) -> Ticket:
            until = super().start(operation)
            assert isinstance(until, Until)
            return LookedAt(until.clock, until.began, until.end)

    backend = ClockedBackend(
        Looking(clock, {1: 7, 2: 7, 3: 9}, {1: 7, 2: 7, 3: 9}), clock, clock.pause
    )
    backend.submit(Operation("copy", 1))
    backend.submit(Operation("step", 2))
    assert backend.wait() == Completion("copy", (1,), 7, 0)
    assert backend.wait() == Completion("step", (2,), 7, 0)
    clock.now += 500_000  # the engine decides
    assert backend.now_ns() == 7
    backend.submit(Operation("step", 3))
    assert backend.wait() == Completion("step", (3,), 16, 7)
    assert backend.finished_ns == 3 * 24_000


def test_a_step_that_ran_while_the_clock_stood_takes_its_own_time_on_it() -> None:
    clock = Clock()
    backend = ClockedBackend(Lasting(clock, {1: 700}, {1: 700}), clock, clock.pause)
    backend.submit(Operation("step", 1))
    clock.now += 300  # between its launch and the wait
    clock.ends.append(clock.now + 700)
    assert backend.wait() == Completion("step", (1,), 700, 0)


def test_a_copy_beside_the_host_s_work_takes_its_own_time_on_the_clock() -> None:
    """It ran while the clock stood; it ends when the clock has gone as far as it took."""
    clock = Clock()

    class Slow(Lasting):
        def prepare(self, operation: Operation) -> None:
            self.clock.now += 1000
            self.clock.ends += [self.clock.now + at for at in (0, 300, 5000)]

    backend = ClockedBackend(Slow(clock, {1: 300, 2: 5000}, {1: 300}), clock, clock.pause)
    backend.submit(Operation("copy", 1))
    backend.submit(Operation("timer", 0, at_ns=0))
    assert backend.wait() == Completion("timer", (0,), 0)  # the copy is under way
    backend.submit(Operation("step", 2))
    assert backend.prepared_ns == 1000
    assert backend.wait() == Completion("copy", (1,), 300, 0)
    assert backend.wait() == Completion("step", (2,), 5000, 5000)


def test_copies_start_with_the_step_that_they_are_submitted_with() -> None:
    clock = Clock()

    class Slow(Lasting):
        def prepare(self, operation: Operation) -> None:
            assert self.started == []
            self.clock.now += 1000

    carrier = Slow(clock, {1: 300, 2: 300, 3: 50}, {})
    backend = ClockedBackend(carrier, clock, clock.pause)
    backend.submit(Operation("copy", 1))
    backend.submit(Operation("copy", 2))
    backend.submit(Operation("step", 3))
    assert sorted(carrier.started) == [1, 2, 3]
    assert [done.at_ns for done in completions(backend, 3)] == [50, 300, 300]


def test_two_steps_at_one_time_are_refused() -> None:
    clock = Clock()
    backend = ClockedBackend(Lasting(clock, {1: 7, 2: 7}, {}), clock, clock.pause)
    backend.submit(Operation("step", 1))
    with pytest.raises(RuntimeError, match="under way already"):
        backend.submit(Operation("step", 2))
