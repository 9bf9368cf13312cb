"""CudaCarrier: copies on copy streams and steps as graphs, timed by events."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from vsim.hwbackend.copies.pages import runs
from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.graphs import Graph, capture
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.replay.clocked_backend import Ticket
from vsim.hwbackend.replay.contents import Contents
from vsim.hwbackend.replay.disk import DiskCopies, DiskRoom, OnDisk
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.step_work import StepWork
from vsim.sim.engine.backend import Operation

LONG_NS: Final = 30_000_000
"""Of a step. Twice as much arithmetic without a pause comes near the 65 ms after which an H200
lowers its clock (`gpu.sustained` of the machine files)."""


def launch_before(launch: Callable[[], None]) -> None:
    """Launch a step once before it counts; a long one finds the GPUs as rested as before."""
    began = time.monotonic_ns()
    launch()
    took = time.monotonic_ns() - began
    if took >= LONG_NS:
        time.sleep(took / 1e9)


class UnderWay:
    """Something between two events. It holds them, and its graph, until it is closed."""

    def __init__(
        self,
        began: Event,
        ended: Event,
        finish: Callable[[], None],
        graph: Graph | None = None,
        host_ns: int = 0,
    ) -> None:
        self.host_ns = host_ns
        self.closed = False
        self._began, self._ended, self._finish, self._graph = began, ended, finish, graph
        self._took_ns = 0
        self._is_done = False

    def done(self) -> bool:
        """Whether the GPU has passed the second event."""
        if not self._is_done:
            if not self._began.done() or not self._ended.done():  # they may be on two streams
                return False
            self._took_ns = round(1e3 * self._ended.us_since(self._began))
            self._is_done = True
        return True

    def took_ns(self) -> int:
        """Nanoseconds between the events."""
        return self._took_ns

    def finish(self) -> None:
        """Give back what is held, and look at what was done."""
        self.close()
        self._finish()

    def close(self) -> None:
        """Give events and graph back."""
        self.closed = True
        if self._graph is not None:
            self._graph.close()
        self._ended.close()
        self._began.close()


def copies(operation: Operation, room: PageRoom, stream: Stream) -> Graph:
    """Capture the copies of an operation's pages on a stream, to be launched there."""
    sources, targets = room.addresses(operation.sources), room.addresses(operation.targets)
    size = room.slot_bytes
    with capture(stream) as graph:
        for at, pages in runs(sources, targets, size):
            copy(int(targets[at]), int(sources[at]), pages * size, stream)
    return graph


class CudaCarrier:
    """Carries operations out on one GPU, and on what it can reach. Holds memory until `close`.

    Each way between two tiers has a stream of its own, each way of a disk a thread. A copy's time
    begins when it is submitted, also where others of its way are before it. Copies and steps are
    captured and launched as one graph each, so that their times hold no pause of the host. A step's
    first launch, which puts the graph on the GPU and ends the GPU's pause while the host prepared
    it, is a part of the preparation: the second one, which computes the same from the same to the
    same places, is the step.

    Args:
        context: the GPU that computes.
        room: page slots, numbered as the engine numbers them.
        work: launches steps.
        contents: what each page holds, where that is looked at.
        verify: whether what steps compute is looked at.
    """

    def __init__(
        self,
        context: Context,
        room: PageRoom,
        work: StepWork,
        contents: Contents | None = None,
        *,
        verify: bool = False,
    ) -> None:
        self.verified = 0
        """Outputs of attention that were held against a reference."""
        self._verify = verify
        self._context, self._room, self._work, self._contents = context, room, work, contents
        self._ways: dict[tuple[int, int], Stream] = {}
        self._prepared: tuple[Graph, int] | None = None
        self._under_way: list[UnderWay | OnDisk] = []
        self._disk: DiskCopies | None = None
        self._held = ExitStack()
        try:
            if isinstance(room, DiskRoom):
                self._disk = self._held.enter_context(DiskCopies(context, room))
            self._compute = self._held.enter_context(Stream())
            self._marks = self._held.enter_context(Stream())
        except BaseException:
            self._held.close()
            raise

    def prepare(self, operation: Operation) -> None:
        """Put a step's pages where its kernels will look, capture its graph and launch it once."""
        batch = operation.batch
        if batch is None:
            raise ValueError("a step without a batch can't be carried out")
        self._drop_prepared()
        before = self._room.mapped_ns
        units = self._room.units(batch)
        mapped_ns = self._room.mapped_ns - before
        self._work.prepare(self._compute, replace(batch, indices=units))
        with capture(self._compute) as graph:
            self._work.launch(self._compute)
        self._prepared = graph, mapped_ns
        self._launch_before(graph)

    def start(self, operation: Operation) -> Ticket:
        """Start a copy, or the step prepared last."""
        self._under_way = [each for each in self._under_way if not each.closed]
        made = self._moved(operation) if operation.kind == "copy" else self._step(operation)
        self._under_way.append(made)
        return made

    def close(self) -> None:
        """Wait for what is under way, and give the streams back. A second time does nothing."""
        with suppress(CudaError):  # a GPU that is lost has nothing under way
            self._context.synchronize()
        with suppress(CudaError):
            self._drop_prepared()
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            if not each.closed:
                with suppress(CudaError):
                    each.close()
        with suppress(CudaError):
            self._held.close()

    def _launch_before(self, graph: Graph) -> None:
        def launch() -> None:
            graph.launch(self._compute)
            self._compute.synchronize()

        launch_before(launch)

    def _drop_prepared(self) -> None:
        if self._prepared is not None:
            graph, self._prepared = self._prepared[0], None
            graph.close()

    def _way(self, source: int, target: int) -> Stream:
        if (source, target) not in self._ways:
            self._ways[source, target] = self._held.enter_context(Stream())
        return self._ways[source, target]

    def _moved(self, operation: Operation) -> UnderWay | OnDisk:
        if self._disk is not None and self._disk.takes(operation):
            return self._disk.start(operation, lambda: self._copied(operation))
        return self._copy(operation)

    def _copy(self, operation: Operation) -> UnderWay:
        stream = self._way(operation.source_tier, operation.target_tier)
        with ExitStack() as undo:
            graph = undo.enter_context(copies(operation, self._room, stream))
            began, ended = (undo.enter_context(Event(timing=True)) for _ in range(2))
            began.record(self._marks)  # nothing else is there, so that it passes at once
            graph.launch(stream)
            ended.record(stream)
            undo.pop_all()
        return UnderWay(began, ended, lambda: self._copied(operation), graph)

    def _step(self, operation: Operation) -> UnderWay:
        if self._prepared is None:
            raise RuntimeError("a step has to be prepared before it starts")
        graph, mapped_ns = self._prepared
        with ExitStack() as undo:
            began, ended = (undo.enter_context(Event(timing=True)) for _ in range(2))
            began.record(self._compute)
            graph.launch(self._compute)
            ended.record(self._compute)
            undo.pop_all()
        self._prepared = None
        return UnderWay(began, ended, lambda: self._stepped(operation), graph, mapped_ns)

    def _copied(self, operation: Operation) -> None:
        if self._contents is not None:
            self._contents.copied(operation, self._room, self._compute)

    def _stepped(self, operation: Operation) -> None:
        if self._verify:
            self.verified += self._work.verify(self._compute)
        if self._contents is not None:
            self._contents.stepped(operation, self._room, self._compute)
