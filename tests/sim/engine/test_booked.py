"""On a backend that knows nothing of the engine, the same times give the same run."""

from dataclasses import replace

import numpy as np
import pytest
from tests.seeds import some

from vsim.sim.engine.backend import Completion, Operation
from vsim.sim.engine.booked import BookedBackend
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.result import EngineResult
from vsim.sim.engine.run import collect
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State

from .conftest import check_state
from .worlds import World, draw_world

SEEDS = range(48)


class Recorder(SimulatedBackend):
    """A simulated backend that writes down its completions."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.completions: list[Completion] = []

    def wait(self) -> Completion | None:
        done = super().wait()
        if done is not None:
            if done.kind == "step":
                done = replace(done, began_ns=int(self._state.control["step_fixed_end"]))
            self.completions.append(done)
        return done


class Player:
    """A backend that answers what was written down, whatever it is asked to do."""

    def __init__(self, completions: list[Completion]) -> None:
        self.left = list(reversed(completions))
        self.under_way: set[int] = set()

    def now_ns(self) -> int:
        raise AssertionError("the engine's time is that of the last completion")

    def submit(self, operation: Operation) -> None:
        self.under_way.add(operation.serial)

    def wait(self) -> Completion | None:
        if not self.under_way:
            return None
        done = self.left.pop()
        self.under_way -= set(done.serials)
        return done

    def close(self) -> None:
        assert self.left == []


class Checked(BookedBackend):
    """Looks at the whole state before every wait."""

    def wait(self) -> Completion | None:
        check_state(self._state)
        return super().wait()


def runs(world: World) -> tuple[EngineResult, EngineResult]:
    """A simulated run, and one on what was written down of it."""
    state = world.state()
    recorder = Recorder(state)
    simulated = collect(state, drive(state, recorder), 0)
    state = world.state()
    booked = collect(state, drive(state, Checked(state, Player(recorder.completions))), 0)
    return simulated, booked


@pytest.mark.parametrize("seed", some(SEEDS, 12))
def test_the_times_of_a_simulated_run_give_that_run(seed: int) -> None:
    world = draw_world(seed)
    # what is loaded where that is quicker depends on how far each transfer has come
    world = replace(world, engine=world.engine | {"loading": "always"}, operations="all")
    simulated, booked = runs(world)
    for name in ("admitted_ns", "first_token_ns", "last_token_ns", "hit_tokens", "preemptions",
                 "faults", "fault_wait_ns", "hit_tokens_by_tier"):  # fmt: skip
        np.testing.assert_array_equal(getattr(simulated, name), getattr(booked, name), name)
    assert simulated.tiers == booked.tiers
    assert simulated.time_ns == booked.time_ns
    assert simulated.operations == booked.operations
    assert simulated.simulated_ns == booked.simulated_ns
