"""ClockedBackend: a backend on real time; what it starts is carried by something else."""

import heapq
import time
from collections.abc import Callable
from typing import Protocol

from vsim.sim.engine.backend import Completion, Operation


class Ticket(Protocol):
    """Something under way.

    Args:
        host_ns: time that the host spent on it before it began, such as mapping pages, and that is
            a part of it.
    """

    host_ns: int

    def done(self) -> bool:
        """Whether it has ended; does not wait."""
        ...

    def took_ns(self) -> int:
        """How long it took on the device; only of what has ended."""
        ...


class Carrier(Protocol):
    """Carries copies and steps out. It holds memory until `close`, which may be called twice."""

    def prepare(self, operation: Operation) -> None:
        """Do what the host has to do before a step can start."""
        ...

    def start(self, operation: Operation) -> Ticket:
        """Start a copy, or the step prepared last; returns without waiting for it."""
        ...

    def close(self) -> None:
        """Wait for what is under way, and give everything back."""
        ...


class ClockedBackend:
    """Timers on the clock, completions by polling. Stateful.

    Where nothing is under way and a timer is due later, the clock is put forward to it: time in
    which a server waits for requests is not waited for. Nor does the time count in which this host
    prepares a step, since a server's own host does that in another way. So copies that are
    submitted with a step start together with it; and one that was under way meanwhile ends, on
    this clock, when as much of it has passed as the copy took.

    Args:
        carrier: carries copies and steps out.
        clock: nanoseconds that never go back.
        pause: called while nothing has ended.
    """

    def __init__(
        self,
        carrier: Carrier,
        clock: Callable[[], int] = time.monotonic_ns,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self.skipped_ns = 0
        self.prepared_ns = 0
        self._carrier = carrier
        self._clock = clock
        self._pause = pause
        self._origin = clock()
        self._last = 0
        self._timers: list[tuple[int, int]] = []
        self._waiting: list[Operation] = []
        self._copies: dict[int, tuple[Ticket, int]] = {}
        self._step: tuple[int, Ticket] | None = None

    def now_ns(self) -> int:
        """Return the time since the start, without what was skipped."""
        return max(self._clock() - self._origin, self._last)

    def submit(self, operation: Operation) -> None:
        """Start an operation; a copy with the step that follows it, or when somebody waits."""
        serial = operation.serial
        if operation.kind == "timer":
            heapq.heappush(self._timers, (operation.at_ns, serial))
            return
        if operation.kind == "copy":
            self._waiting.append(operation)
            return
        if self._step is not None:
            raise RuntimeError("a step is under way already")
        before = self._clock()
        self._carrier.prepare(operation)
        ticket = self._carrier.start(operation)
        prepared = self._clock() - before - ticket.host_ns
        self._step = serial, ticket
        self.prepared_ns += prepared
        self._origin += prepared
        self._start_copies()

    def wait(self) -> Completion | None:
        """Wait for whatever ends next: timers first, then copies by serial, then the step."""
        self._start_copies()
        while True:
            now = self.now_ns()
            if self._timers and self._timers[0][0] <= now:
                return self._due()
            for serial, (ticket, began) in self._copies.items():
                if ticket.done() and began + ticket.took_ns() <= now:
                    del self._copies[serial]
                    self._last = now
                    return Completion("copy", (serial,), now, now - ticket.took_ns())
            if self._step is not None:
                serial, ticket = self._step
                if ticket.done():
                    self._step = None
                    self._last = now
                    return Completion("step", (serial,), now, max(now - ticket.took_ns(), 0))
            elif not self._copies:
                if not self._timers:
                    return None
                skipped = self._timers[0][0] - now
                self.skipped_ns += skipped
                self._origin -= skipped
                return self._due()
            self._pause()

    def close(self) -> None:
        """Give back what the carrier holds."""
        self._carrier.close()

    def _start_copies(self) -> None:
        waiting, self._waiting = self._waiting, []
        for operation in waiting:
            began = self.now_ns()
            self._copies[operation.serial] = self._carrier.start(operation), began

    def _due(self) -> Completion:
        due, serial = heapq.heappop(self._timers)
        self._last = max(due, self._last)
        return Completion("timer", (serial,), self._last)
