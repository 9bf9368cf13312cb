"""Stream and Event: order on a GPU, and points in it."""

from typing import Any

from vsim.hwbackend.cuda.calls import call, is_ready
from vsim.hwbackend.cuda.held import Held

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: it does not wait for the default stream
_DEFAULT, _NO_TIMING = 0, 2  # CU_EVENT_DEFAULT, CU_EVENT_DISABLE_TIMING


class Stream(Held):
    """Work of one GPU in the order in which it was put there. Of the context that is current."""

    def __init__(self) -> None:
        self._made: Any = call("cuStreamCreate", _NON_BLOCKING)
        self.handle = int(self._made)

    @property
    def driver_handle(self) -> Any:
        """As the driver's bindings take it."""
        return self._made

    def wait(self, event: "Event") -> None:
        """Let what is put here later wait for an event; returns at once."""
        call("cuStreamWaitEvent", self._made, event.driver_handle, 0)

    def synchronize(self) -> None:
        """Wait until everything here is done."""
        call("cuStreamSynchronize", self._made)

    def done(self) -> bool:
        """Whether everything here is done."""
        return is_ready("cuStreamQuery", self._made)

    def close(self) -> None:
        """Give the stream back; what is on it still runs to its end."""
        if self._made is not None:
            call("cuStreamDestroy", self._made)
            self._made = None


class Event(Held):
    """A point in the order of a stream.

    Args:
        timing: whether times between it and others are wanted; such events cost a little more.
    """

    def __init__(self, timing: bool = False) -> None:
        self._made: Any = call("cuEventCreate", _DEFAULT if timing else _NO_TIMING)

    @property
    def driver_handle(self) -> Any:
        """As the driver's bindings take it."""
        return self._made

    def record(self, stream: Stream) -> None:
        """Put it behind what is on a stream now."""
        call("cuEventRecord", self._made, stream.driver_handle)

    def done(self) -> bool:
        """Whether the GPU has passed it; True if it was never recorded."""
        return is_ready("cuEventQuery", self._made)

    def synchronize(self) -> None:
        """Wait until the GPU has passed it."""
        call("cuEventSynchronize", self._made)

    def us_since(self, earlier: "Event") -> float:
        """Microseconds from an earlier event; both were made with `timing` and have passed."""
        return 1e3 * float(call("cuEventElapsedTime", earlier.driver_handle, self._made))

    def close(self) -> None:
        """Give it back."""
        if self._made is not None:
            call("cuEventDestroy", self._made)
            self._made = None
