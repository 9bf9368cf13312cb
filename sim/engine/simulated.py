"""SimulatedBackend: SimPy carries timers, transfers and steps, at the fluid model's times."""

from collections import deque
from collections.abc import Callable
from typing import Any

from simpy import Environment
from simpy.events import Event, EventPriority

from vsim.sim.engine.backend import Completion, Operation
from vsim.sim.engine.entry import (
    enter_advance_service,
    enter_begin_step,
    enter_finish_flows,
    enter_settle,
    enter_start_flow,
)
from vsim.sim.engine.layout import CONTROL, NEVER
from vsim.sim.engine.state import State

TIMERS, FLOWS, STEPS = 0, 1, 2  # priorities of things that happen at one time


class At(Event):
    """A SimPy event that calls back after a delay, with a priority among events of one time.

    What calls back is given the event, whose value may tell it what this is about.
    """

    def __init__(
        self,
        env: Environment,
        delay: int,
        priority: int,
        callback: Callable[[Any], None],
        value: Any = None,
    ) -> None:
        self.env = env
        self.callbacks = [callback]
        self._ok = True
        self._value = value
        env.schedule(self, EventPriority(priority), delay)


class SimulatedBackend:
    """A backend whose time is simulated. Stateful: it owns the clock and the transfers' arrays."""

    def __init__(self, state: State) -> None:
        self.env = Environment()
        self._state = state
        self._control = state.control_numbers()
        self._finished: deque[Completion] = deque()
        self._unsettled = False
        self._copies: dict[int, int] = {}
        self._step_serial = -1
        self._flow_at = NEVER
        self._step_at = -1

    def now_ns(self) -> int:
        """Return the simulated time."""
        return int(self.env.now)

    def submit(self, operation: Operation) -> None:
        """Start an operation at the simulated time."""
        now = self.now_ns()
        address = self._state.address
        if operation.kind == "timer":
            serial = operation.serial

            def due(_: Any) -> None:
                self._finished.append(Completion("timer", (serial,), self.now_ns()))

            At(self.env, operation.at_ns - now, TIMERS, due)
        elif operation.kind == "copy":
            tiers = len(self._state.tier_names)
            path = operation.source_tier * tiers + operation.target_tier
            first, pages = int(operation.targets[0]), len(operation.targets)
            number = int(self._control[_FLOW_SERIAL])
            self._copies[number] = operation.serial
            enter_start_flow(now, path, first, pages, operation.size_bytes, address)
            self._unsettled = True
        else:
            self._step_serial = operation.serial
            enter_begin_step(now, address)
            self._unsettled = True

    def wait(self) -> Completion | None:
        """Step SimPy until something completes."""
        self._schedule()
        while not self._finished:
            if self.env.peek() == float("inf"):
                return None
            self.env.step()
        return self._finished.popleft()

    def close(self) -> None:
        """Nothing is held outside this object."""

    def _schedule(self) -> None:
        """Solve the rates after what was started, and put the next ends into SimPy's queue."""
        control, now = self._control, self.now_ns()
        if self._unsettled:
            if control[_FLOWS] > 0:
                enter_settle(now, self._state.address)
            self._unsettled = False
        flow = control[_NEXT_FLOW] if control[_FLOWS] > 0 else NEVER
        if flow != self._flow_at and flow < NEVER:
            At(self.env, flow - now, FLOWS, self._on_flow)
        self._flow_at = flow
        step = control[_STEP_END] if control[_IN_FLIGHT] else -1
        if step != self._step_at and step >= 0:
            At(self.env, step - now, STEPS, self._on_step)
        self._step_at = step

    def _on_flow(self, _: Any) -> None:
        now = self.now_ns()
        if now != self._flow_at:
            return  # the rates changed since this was scheduled
        self._flow_at = NEVER
        enter_finish_flows(now, self._state.address)
        self._unsettled = True
        done = self._state.arrays["done"][: self._control[_DONE]]
        if done.size:
            serials = tuple(self._copies.pop(int(serial)) for serial in done["serial"])
            self._finished.append(Completion("copy", serials, now))
        else:
            self._schedule()

    def _on_step(self, _: Any) -> None:
        now = self.now_ns()
        if now != self._step_at:
            return
        self._step_at = -1
        enter_advance_service(now, self._state.address)
        self._unsettled = True
        self._finished.append(Completion("step", (self._step_serial,), now))


def _index(name: str) -> int:
    assert CONTROL.names is not None
    return CONTROL.names.index(name)


_FLOWS = _index("flows")
_FLOW_SERIAL = _index("flow_serial")
_NEXT_FLOW = _index("next_flow")
_STEP_END = _index("step_end")
_IN_FLIGHT = _index("in_flight")
_DONE = _index("done")
