"""Workers: who runs the points of a search, one after another, or side by side in processes.

A worker gets the traces once. Processes are forked where the system can, and inherit it; each talks
over a pipe of its own, so that it ends when the pipe does, even where the parent was killed.
"""

import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from vsim.sim.goodput.measured import Measured
from vsim.sim.goodput.point import Point
from vsim.traces.faults import Fault, InputError
from vsim.traces.requests import Requests

Traces = Sequence[Requests]


@dataclass(frozen=True, slots=True)
class Done:
    """A point that was run.

    Args:
        number: as it was handed in.
        measured: its figures.
    """

    number: int
    measured: Measured


class Workers(Protocol):
    """Runs points; `submit` hands one in, `next_done` waits for one of them."""

    def submit(self, number: int, point: Point) -> None:
        """Hand a point in under a number of the caller's."""

    def next_done(self) -> Done:
        """Return a point that is done. Raises InputError where a run is refused."""


class InTurn:
    """Runs points in this process, in the order they came; stateful: the queue."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._queue: deque[tuple[int, Point]] = deque()

    def submit(self, number: int, point: Point) -> None:
        """Put a point at the end of the queue."""
        self._queue.append((number, point))

    def next_done(self) -> Done:
        """Run the first point of the queue."""
        number, point = self._queue.popleft()
        return Done(number, point.measure(self._traces))


class _Process:
    """A worker's process and the pipe to it; stateful: the point that it is at."""

    def __init__(self, context: Any, traces: Traces) -> None:
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.pipe, traces), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None


class SideBySide:
    """Runs points in processes; stateful: the queue, and who is at what."""

    def __init__(self, traces: Traces, processes: int) -> None:
        forks = "fork" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self._queue: deque[tuple[int, Point]] = deque()
        self._all = [_Process(context, traces) for _ in range(processes)]

    def submit(self, number: int, point: Point) -> None:
        """Hand a point to who is idle, or put it at the end of the queue."""
        self._queue.append((number, point))
        self._hand_out()

    def next_done(self) -> Done:
        """Wait for a worker."""
        at_work: dict[Any, _Process] = {
            each.pipe: each for each in self._all if each.number is not None
        }
        pipe: Any = wait(list(at_work))[0]
        worker = at_work[pipe]
        number, worker.number = worker.number, None
        assert number is not None  # it was at work
        try:
            kind, content = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            message = "a process was killed, as happens where memory runs out; write --processes 1"
            raise InputError([Fault("vsim size", message)]) from None
        if kind == "fault":
            raise InputError(content)
        if kind == "error":
            raise RuntimeError(f"a run of the search failed:\n{content}")
        self._hand_out()
        return Done(number, content)

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for each in self._all:
            each.process.kill()
            each.process.join()
            each.pipe.close()

    def _hand_out(self) -> None:
        for each in self._all:
            if each.number is None and self._queue:
                each.number, point = self._queue.popleft()
                with suppress(OSError):  # it was killed, and `next_done` says so
                    each.pipe.send_bytes(pickle.dumps(point))


@contextmanager
def workers(traces: Traces, processes: int) -> Iterator[Workers]:
    """Begin workers over some traces, and end them with the block."""
    if processes == 1:
        yield InTurn(traces)
        return
    pool = SideBySide(traces, processes)
    try:
        yield pool
    finally:
        pool.close()


def processors() -> int:
    """How many processes this one may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _serve(pipe: Connection, parents: Connection, traces: Traces) -> None:
    """Measure points until the pipe ends."""
    parents.close()  # inherited; with it open the pipe would never end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent ends us
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with suppress(EOFError, OSError):
        while True:
            point: Point = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(pickle.dumps(_measured(point, traces)))


def _measured(point: Point, traces: Traces) -> tuple[str, Any]:
    try:
        return "done", point.measure(traces)
    except InputError as error:
        return "fault", error.faults
    except Exception:  # noqa: BLE001 - whatever it is, the parent raises it with this trace
        return "error", traceback.format_exc()
