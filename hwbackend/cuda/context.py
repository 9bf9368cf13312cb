"""Context: the right to use a GPU, taken and given back."""

from typing import Any, Self

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device, devices


class Context:
    """A GPU's primary context, current in the thread that made it. It is held until `close`.

    Args:
        device: the GPU, or its number.
    """

    def __init__(self, device: Device | int = 0) -> None:
        found = devices()
        ordinal = device if isinstance(device, int) else device.ordinal
        if not 0 <= ordinal < len(found):
            raise IndexError(f"there is no GPU {ordinal}: this machine has {len(found)}")
        self.device = found[ordinal]
        self._handle: Any = call("cuDevicePrimaryCtxRetain", ordinal, detail=str(self.device.place))
        try:
            self.make_current()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def handle(self) -> Any:
        """The driver's own; for libraries that take one."""
        return self._handle

    def make_current(self) -> None:
        """Let what this thread calls next happen on this GPU."""
        call("cuCtxSetCurrent", self._handle)

    def synchronize(self) -> None:
        """Wait for everything that was started on this GPU."""
        self.make_current()
        call("cuCtxSynchronize")

    def free_bytes(self) -> int:
        """Memory of this GPU that nobody has taken."""
        self.make_current()
        free, _ = call("cuMemGetInfo")
        return int(free)

    def enable_peer(self, other: "Context") -> None:
        """Let kernels here reach plain buffers of another GPU; mapped ranges need it not."""
        self.make_current()
        call("cuCtxEnablePeerAccess", other.handle, 0, detail=f"{self.device} to {other.device}")

    def close(self) -> None:
        """Give the context back. A second time does nothing."""
        if self._handle is not None:
            self._handle = None
            call("cuDevicePrimaryCtxRelease", self.device.ordinal)
