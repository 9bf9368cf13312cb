"""`GpuShare`: what one of several GPUs has of a replay: its share of the pages, and streams."""

from contextlib import ExitStack

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.graphs import Graph
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.replay.closing import close_current
from vsim.hwbackend.replay.contents import Contents
from vsim.hwbackend.replay.cuda_carrier import UnderWay, copies
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.sim.engine.backend import Operation


class GpuShare(Held):
    """One GPU of a replay over several. Holds its streams until `close`.

    Its context is current in every call but `close`.

    Args:
        context: the GPU's, current here.
        room: its share of every page, in slots that are numbered as the engine numbers them.
        contents: what its pages hold, where that is looked at.
    """

    def __init__(self, context: Context, room: PageRoom, contents: Contents | None) -> None:
        self.context, self.room, self.contents = context, room, contents
        self._ways: dict[tuple[int, int], Stream] = {}
        with ExitStack() as held:
            self.compute = held.enter_context(Stream())
            self._marks = held.enter_context(Stream())
            self._held = held.pop_all()

    def way(self, operation: Operation) -> Stream:
        """The stream of copies from one tier to another."""
        ends = operation.source_tier, operation.target_tier
        if ends not in self._ways:
            self._ways[ends] = self._held.enter_context(Stream())
        return self._ways[ends]

    def copies(self, operation: Operation) -> Graph:
        """Capture this GPU's part of a copy."""
        return copies(operation, self.room, self.way(operation))

    def launched(self, graph: Graph, stream: Stream, *, from_now: bool) -> UnderWay:
        """Launch a graph between two events.

        Args:
            graph: given back with the events; by the caller where this fails.
            stream: in which.
            from_now: whether the time begins now, also where others are on the stream before it.
        """
        with ExitStack() as undo:
            began, ended = (undo.enter_context(Event(timing=True)) for _ in range(2))
            began.record(self._marks if from_now else stream)
            graph.launch(stream)
            ended.record(stream)
            undo.pop_all()
        return UnderWay(began, ended, _nothing, graph)

    def done(self) -> bool:
        """Whether nothing is under way here.

        Raises:
            CudaError: what was has failed.
        """
        return all(stream.done() for stream in (self.compute, *self._ways.values()))

    def close(self) -> None:
        """Give the streams back. A second time does nothing."""
        close_current(self.context, self._held.close)()


def wait_for(shares: tuple[GpuShare, ...]) -> None:
    """Wait until nothing is under way on any GPU.

    They are asked in turn: where one has failed, others may wait for it for ever.

    Raises:
        CudaError: one has failed.
    """
    left = list(shares)
    while left:
        for share in tuple(left):
            share.context.make_current()
            if share.done():
                left.remove(share)


def _nothing() -> None:
    """All GPUs' parts are looked at together."""
