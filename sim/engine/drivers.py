"""Two ways to give the engine time: step by step through a backend, and fast.

`drive` asks the backend for whatever completes next, step after step: it is how a GPU is driven,
and the oracle. `FastRun` lets compiled code run from one event to the next; SimPy then carries only
arrivals that something else calls for, the steps and transfers that these may come before, and of
other transfers one in some dozens. Both give the same bytes.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpy import Environment

from vsim.sim.engine.backend import Backend, Operation
from vsim.sim.engine.entry import (
    enter_advance,
    enter_arrive,
    enter_arrive_next,
    enter_commit,
    enter_deliver,
    enter_flow_event,
    enter_plan,
)
from vsim.sim.engine.layout import (
    CONTROL,
    FAILED,
    IDLE,
    LAST_NS,
    LOG_FULL,
    NEVER,
    OUT_OF_TIME,
    RELEASED,
)
from vsim.sim.engine.simulated import FLOWS, STEPS, TIMERS, At
from vsim.sim.engine.state import State
from vsim.sim.engine.step_batch import step_batch
from vsim.traces.faults import refuse

Progress = Callable[[int, int], None]


def waits_for_its_parent(state: State) -> NDArray[np.bool_] | None:
    """Which rows arrive a while after another one's end; None where none does."""
    if not state.control["think"]:
        return None
    return (state.requests.parent >= 0) & (state.requests.think_ns >= 0)


def arrivals(state: State) -> Iterator[tuple[int, list[int]]]:
    """Times of arrival in the trace, and the rows that arrive then, in order."""
    waits = waits_for_its_parent(state)
    times = state.requests.arrival_ns.data
    rows = range(len(times)) if waits is None else np.flatnonzero(~waits).tolist()
    for time, group in groupby(rows, times.__getitem__):
        yield int(time), list(group)


def control_place(name: str) -> int:
    """Where a field stands among `State.control_numbers`."""
    assert CONTROL.names is not None
    return CONTROL.names.index(name)


_IN_FLIGHT, _STEP_END, _NEXT_FLOW = (
    control_place("in_flight"),
    control_place("step_end"),
    control_place("next_flow"),
)
_NEXT_ARRIVAL, _THINK = control_place("next_arrival"), control_place("think")
_NOW, _RELEASED = control_place("now"), control_place("released")
_COMPLETED, _FAILED, _OUT, _DONE = (
    control_place("completed"),
    control_place("failed"),
    control_place("out"),
    control_place("done"),
)


class FastRun:
    """One run in the fast way. Stateful: it owns the SimPy environment.

    Args:
        state: the engine's arrays.
        progress: told (requests done, requests) now and then.
        fast_forward: run batches that only decode at a constant cost a step, and let transfers end
            and requests that arrive by the trace alone arrive in compiled code.
    """

    def __init__(
        self, state: State, progress: Progress | None = None, fast_forward: bool = True
    ) -> None:
        self.env = Environment()
        self.events = 0
        self._state = state
        self._control = state.control_numbers()
        self._released = state.arrays["release"].data
        self._progress = progress
        self._fast = fast_forward
        self._arrives_compiled = fast_forward and not self._control[_THINK]

    def run(self) -> int:
        """Simulate until nothing is left to happen; returns the time of the last event."""
        if self._arrives_compiled:
            self._schedule_next()
        else:
            self._announce_arrival()
        self.env.run()
        self._report()
        return int(self._control[_NOW])

    def _at(
        self, time: int, priority: int, callback: Callable[[Any], None], value: Any = None
    ) -> None:
        self.events += 1
        At(self.env, time - int(self.env.now), priority, callback, value)

    def _announce_arrival(self) -> None:
        if self._control[_NEXT_ARRIVAL] < NEVER:
            self._at(self._control[_NEXT_ARRIVAL], TIMERS, self._on_arrival)

    def _on_arrival(self, _: Any) -> None:
        now = int(self.env.now)
        enter_arrive_next(now, self._state.address)
        self._announce_arrival()
        self._go_on(now)

    def _on_flow(self, _: Any) -> None:
        control, now = self._control, int(self.env.now)
        while (arrived := enter_flow_event(now, self._state.address)) == LOG_FULL:
            self._state.take_log()
        if control[_IN_FLIGHT] or arrived:
            self._go(now)
        else:
            self._schedule_next()  # nothing changed that a plan could see

    def _on_other(self, _: Any) -> None:
        self._go(int(self.env.now))

    def _schedule_next(self) -> None:
        """Put whichever comes first, an arrival, a transfer's end or the step's, into the queue.

        Not where an arrival in it comes first, or at that time, for the run goes on from there.
        """
        control = self._control
        step = control[_STEP_END] if control[_IN_FLIGHT] else NEVER
        flow = control[_NEXT_FLOW]
        arrival = control[_NEXT_ARRIVAL] if self._arrives_compiled else NEVER
        first = min(step, flow, arrival)
        if first >= NEVER or first >= self.env.peek():
            return
        if arrival == first:
            self._at(first, TIMERS, self._on_other)
        elif flow == first:
            self._at(first, FLOWS, self._on_flow)
        else:
            self._at(first, STEPS, self._on_other)

    def _go_on(self, now: int) -> None:
        """Somebody arrived: plan; or go on, beside a step, once all that come now are here."""
        if not self._control[_IN_FLIGHT] or self.env.peek() > now:
            self._go(now)

    def _go(self, now: int) -> None:
        control, env = self._control, self.env
        while True:
            horizon = env.peek()
            end = enter_advance(
                now,
                NEVER if horizon == float("inf") else int(horizon),
                self._fast,
                self._state.address,
            )
            if end >= 0 or end == IDLE:
                break
            now = control[_NOW]
            if end == LOG_FULL:
                self._state.take_log()
                self._report()
            elif end == RELEASED:
                self._release()
            elif end == FAILED:
                refuse_failed(self._state)
        self._schedule_next()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(int(self._control[_COMPLETED]), len(self._state.requests))

    def _release(self) -> None:
        control, released = self._control, self._released
        for i in range(control[_RELEASED]):
            self._at(released[2 * i + 1], TIMERS, self._on_released, released[2 * i])
        control[_RELEASED] = 0

    def _on_released(self, event: Any) -> None:
        now, row = int(self.env.now), event.value
        enter_arrive(row, row + 1, now, self._state.address)
        self._go_on(now)


def refuse_failed(state: State) -> None:
    """Raise what went wrong: a user's policy, or the time. For a run that `failed`."""
    if state.control["failed"] == OUT_OF_TIME:
        refuse(
            "scenario",
            "the run goes on for more than 36 years (2^60 ns) of simulated time; "
            "write a faster machine, or a shorter trace",
        )
    for holder in state.holders:
        holder.check()
    message = f"found no page of {state.tier_names[state.control['failed'] - 1]} to evict"
    if state.holders:
        names = " or ".join(sorted({holder.name for holder in state.holders}))
        message += " although some are not in use; return a page for which evictable(page) holds"
        refuse(names, message, place="victim")
    raise RuntimeError(f"an eviction policy {message}")


def drive(state: State, backend: Backend, progress: Progress | None = None) -> int:
    """Run the engine on a backend, one operation after another; returns the last event's time."""
    control = state.control_numbers()
    groups = arrivals(state)
    due: dict[int, list[int]] = {}
    serial = 0
    latest: list[int] = []

    def set_timer(time: int, released: list[int]) -> None:
        nonlocal serial
        due[serial] = released
        backend.submit(Operation("timer", serial, at_ns=time))
        serial += 1

    def set_next_group() -> None:
        nonlocal latest
        if (group := next(groups, None)) is not None:
            time, latest = group
            set_timer(time, latest)

    def set_released() -> None:
        pairs = state.arrays["release"][: 2 * control[_RELEASED]].tolist()
        control[_RELEASED] = 0
        for row, time in zip(pairs[::2], pairs[1::2], strict=True):
            set_timer(time, [row])

    def submit_copies() -> None:
        nonlocal serial
        for copy in _outbox(state):
            backend.submit(copy(serial))
            serial += 1

    set_next_group()
    while (done := backend.wait()) is not None:
        now = done.at_ns
        if done.kind == "timer":
            released = due.pop(done.serials[0])
            if released is latest:
                set_next_group()
            for row in released:
                enter_arrive(row, row + 1, now, state.address)
        elif done.kind == "copy":
            state.take_log()
            enter_deliver(now, state.address)
            submit_copies()
        else:
            state.take_log()
            enter_commit(now, state.address)
            set_released()
            if progress is not None:
                progress(int(control[_COMPLETED]), len(state.requests))
        control[_NOW] = now
        if now > LAST_NS:
            control[_FAILED] = OUT_OF_TIME
            refuse_failed(state)
        if not control[_IN_FLIGHT]:
            while (computes := enter_plan(now, state.address)) < 0:
                state.take_log()
            if control[_FAILED]:
                refuse_failed(state)
            submit_copies()
            if computes:
                backend.submit(Operation("step", serial, batch=step_batch(state)))
                serial += 1
            set_released()
    backend.close()
    return int(control[_NOW])


def _outbox(state: State) -> list[Callable[[int], Operation]]:
    """Take the planned copies, each waiting for its serial number."""
    chain, source, tiers = state.arrays["chain"], state.arrays["source"], len(state.tier_names)
    count = int(state.control["out"])
    state.control["out"] = 0
    copies: list[Callable[[int], Operation]] = []
    for out in state.arrays["out"][:count].tolist():
        path, slot, pages, size = out
        targets = np.empty(pages, np.int64)
        for i in range(pages):
            targets[i] = slot
            slot = int(chain[slot])
        sources = source[targets].astype(np.int64)

        def copy(
            serial: int,
            path: int = path,
            sources: NDArray[np.int64] = sources,
            targets: NDArray[np.int64] = targets,
            size: int = size,
        ) -> Operation:
            return Operation(
                "copy",
                serial,
                source_tier=path // tiers,
                target_tier=path % tiers,
                sources=sources,
                targets=targets,
                size_bytes=size,
            )

        copies.append(copy)
    return copies
