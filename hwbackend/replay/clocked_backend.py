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

    def start(self, operation: Operation) -> Ticket:
        """Start a copy or a step; returns without waiting for it."""
        ...

    def close(self) -> None:
        """Wait for what is under way, and give everything back."""
        ...


class ClockedBackend:
    """Timers on the clock, completions by polling. Stateful.

    Where nothing is under way and a timer is due later, the clock is put forward to it: time in
    which a server waits for requests is not waited for. Nor does the time count in which the host
    prepares a step, which a server's own host does in another way.

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
        self._copies: dict[int, Ticket] = {}
        self._step: tuple[int, Ticket] | None = None

    def now_ns(self) -> int:
        """Return the time since the start, without what was skipped."""
        return max(self._clock() - self._origin, self._last)

    def submit(self, operation: Operation) -> None:
        """Start an operation."""
        serial = operation.serial
        if operation.kind == "timer":
            heapq.heappush(self._timers, (operation.at_ns, serial))
            return
        if operation.kind == "copy":
            self._copies[serial] = self._carrier.start(operation)
            return
        if self._step is not None:
            raise RuntimeError("a step is under way already")
        before = self._clock()
        self._step = serial, self._carrier.start(operation)
        prepared = self._clock() - before - self._step[1].host_ns
        self.prepared_ns += prepared
        self._origin += prepared

    def wait(self) -> Completion | None:
        """Wait for whatever ends next: timers first, then copies by serial, then the step."""
        while True:
            now = self.now_ns()
            if self._timers and self._timers[0][0] <= now:
                return self._due()
            for serial, ticket in self._copies.items():
                if ticket.done():
                    del self._copies[serial]
                    return self._ended("copy", serial, ticket, now)
            if self._step is not None:
                serial, ticket = self._step
                if ticket.done():
                    self._step = None
                    return self._ended("step", serial, ticket, now)
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

    def _due(self) -> Completion:
        due, serial = heapq.heappop(self._timers)
        self._last = max(due, self._last)
        return Completion("timer", (serial,), self._last)

    def _ended(self, kind: str, serial: int, ticket: Ticket, now: int) -> Completion:
        self._last = now
        began = max(now - ticket.took_ns(), 0)
        return Completion("copy" if kind == "copy" else "step", (serial,), now, began)
