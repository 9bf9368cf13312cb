"""ClockedBackend: a backend on real time; what it starts is carried by something else."""

import heapq
import time
from collections.abc import Callable
from typing import Literal, Protocol

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

    def finish(self) -> None:
        """Give back what it holds, and look at what it did; only once it has ended."""
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

    The clock goes while somebody waits and stands still otherwise. So nothing counts that this host
    does between two waits, be it to decide, to prepare a step or to look at what it computed: a
    server's own host does that in another way. What was started goes on meanwhile; it ends, on this
    clock, when as much of it has passed as it took. Where nothing is under way and a timer is due
    later, the clock is put forward to it: time in which a server waits for requests is not waited
    for.

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
        """What the host took to prepare steps."""
        self.finished_ns = 0
        """What it took to look at what had ended."""
        self._carrier = carrier
        self._clock = clock
        self._pause = pause
        self._now = 0
        self._last = 0
        self._timers: list[tuple[int, int]] = []
        self._waiting: list[Operation] = []
        self._copies: dict[int, tuple[Ticket, int]] = {}
        self._step: tuple[int, Ticket, int] | None = None

    def now_ns(self) -> int:
        """Return how far the clock has gone."""
        return max(self._now, self._last)

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
        self.prepared_ns += self._clock() - before - ticket.host_ns
        self._now += ticket.host_ns
        self._step = serial, ticket, self.now_ns()
        self._start_copies()

    def wait(self) -> Completion | None:
        """Wait for whatever ends next: timers first, then copies by serial, then the step."""
        self._start_copies()
        stood, began = self._clock(), self.now_ns()
        while True:
            self._now = now = began + self._clock() - stood
            if self._timers and self._timers[0][0] <= now:
                return self._due()
            for serial, (ticket, submitted) in self._copies.items():
                if ticket.done() and submitted + ticket.took_ns() <= now:
                    del self._copies[serial]
                    return self._ended("copy", serial, ticket)
            if self._step is not None:
                serial, ticket, submitted = self._step
                if ticket.done() and submitted + ticket.took_ns() <= now:
                    self._step = None
                    return self._ended("step", serial, ticket)
            elif not self._copies:
                if not self._timers:
                    return None
                self.skipped_ns += self._timers[0][0] - now
                self._now = self._timers[0][0]
                return self._due()
            self._pause()

    def close(self) -> None:
        """Give back what the carrier holds."""
        self._carrier.close()

    def _start_copies(self) -> None:
        waiting, self._waiting = self._waiting, []
        for operation in waiting:
            self._copies[operation.serial] = self._carrier.start(operation), self.now_ns()

    def _ended(self, kind: Literal["copy", "step"], serial: int, ticket: Ticket) -> Completion:
        before = self._clock()
        ticket.finish()
        self.finished_ns += self._clock() - before
        self._last = self._now
        return Completion(kind, (serial,), self._now, max(self._now - ticket.took_ns(), 0))

    def _due(self) -> Completion:
        due, serial = heapq.heappop(self._timers)
        self._last = max(due, self._last)
        return Completion("timer", (serial,), self._last)
