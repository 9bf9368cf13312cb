"""capture: work put on a stream becomes a Graph, which is launched as one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.streams import Stream


class Graph:
    """Captured work. Empty until its capture ends; held until `close`."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._made: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def launch(self, stream: Stream) -> None:
        """Put all of it on a stream."""
        call("cuGraphLaunch", self._made, stream.driver_handle)

    def close(self) -> None:
        """Give it back."""
        if self._made is not None:
            made, self._made = self._made, None
            call("cuGraphExecDestroy", made)
        if self._graph is not None:
            graph, self._graph = self._graph, None
            call("cuGraphDestroy", graph)

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
    except BaseException:
        _abandon(stream)
        raise
    try:
        graph._take(call("cuStreamEndCapture", stream.driver_handle))
    except BaseException:
        graph.close()
        raise


def _abandon(stream: Stream) -> None:
    """End a capture whose block failed, so that the stream can be used again."""
    from vsim.hwbackend.cuda.errors import CudaError

    try:
        found = call("cuStreamEndCapture", stream.driver_handle)
    except CudaError:
        return  # what failed had ended it
    call("cuGraphDestroy", found)
