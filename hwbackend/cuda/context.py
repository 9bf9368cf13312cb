"""Context: the right to use a GPU, taken and given back."""

from contextlib import suppress
from typing import Any, Final

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import Device, devices
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import Held, close_after
from vsim.traces.faults import refuse

_ALREADY_ENABLED: Final = 704  # CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED


class Context(Held):
    """A GPU's primary context, current in the thread that made it. It is held until `close`.

    Args:
        device: the GPU, or its number.

    Raises:
        InputError: this machine has no such GPU, or no driver.
    """

    def __init__(self, device: Device | int = 0) -> None:
        found = devices()
        ordinal = device if isinstance(device, int) else device.ordinal
        if not 0 <= ordinal < len(found):
            refuse("GPU", f"there is no GPU {ordinal}; this machine has {len(found)}, from 0 on")
        self.device = found[ordinal]
        self._before: Any = call("cuCtxGetCurrent")
        self._handle: Any = call("cuDevicePrimaryCtxRetain", ordinal, detail=str(self.device.place))
        try:
            self.make_current()
        except BaseException as error:
            close_after(error, self.close)
            raise

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
        detail = f"{self.device.place} to {other.device.place}"
        try:
            call("cuCtxEnablePeerAccess", other.handle, 0, detail=detail)
        except CudaError as error:
            if error.code != _ALREADY_ENABLED:
                raise

    def close(self) -> None:
        """Give the context back. If it is current here, what was before it becomes so again."""
        if self._handle is None:
            return
        call("cuDevicePrimaryCtxRelease", self.device.ordinal, detail=str(self.device.place))
        handle, self._handle = self._handle, None
        with suppress(CudaError):  # nothing is held any more; and what was before may be gone
            if int(call("cuCtxGetCurrent")) == int(handle):
                call("cuCtxSetCurrent", self._before)
