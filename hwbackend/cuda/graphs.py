"""capture: work put on a stream becomes a Graph, which is launched as one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import Held, close_after
from vsim.hwbackend.cuda.streams import Stream


class Graph(Held):
    """Captured work. Empty until its capture ends; held until `close`."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._made: Any = None

    def launch(self, stream: Stream) -> None:
        """Put all of it on a stream."""
        call("cuGraphLaunch", self._made, stream.driver_handle)

    def close(self) -> None:
        """Give it back."""
        if self._made is not None:
            call("cuGraphExecDestroy", self._made)
            self._made = None
        if self._graph is not None:
            call("cuGraphDestroy", self._graph)
            self._graph = None

    def _take(self, graph: Any) -> None:
        self._graph = graph
        self._made = call("cuGraphInstantiate", graph, 0)


@contextmanager
def capture(stream: Stream) -> Iterator[Graph]:
    """Capture what is put on a stream in the block. The graph can be launched after it.

    Other threads and calls that allocate are not forbidden meanwhile: libraries do that.
    """
    from cuda.bindings import driver

    relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    graph = Graph()
    call("cuStreamBeginCapture", stream.driver_handle, relaxed)
    try:
        yield graph
        graph._take(call("cuStreamEndCapture", stream.driver_handle))
    except BaseException as error:
        _abandon(stream)
        close_after(error, graph.close)
        raise


def _abandon(stream: Stream) -> None:
    """End a capture that failed, if it has not ended, so that the stream can be used again."""
    with suppress(CudaError):  # one that a wait has broken, or that has ended, has no graph
        call("cuGraphDestroy", call("cuStreamEndCapture", stream.driver_handle))
