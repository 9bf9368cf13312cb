"""Plain memory: buffers on the GPU, pinned ones on the host, and copies between any addresses."""

import ctypes
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.streams import Stream

_PORTABLE_MAPPED: Final = 3  # CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP
Number = TypeVar("Number", bound=np.generic)


class DeviceBuffer(Held):
    """Memory of the GPU whose context is current. It holds memory until `close`."""

    def __init__(self, size_bytes: int) -> None:
        self.bytes = size_bytes
        self._made: Any = call("cuMemAlloc", size_bytes, detail=f"{size_bytes:,} bytes")
        self.address = int(self._made)

    def close(self) -> None:
        """Give it back; waits for work that uses it."""
        if self._made is not None:
            call("cuMemFree", self._made, detail=f"{self.bytes:,} bytes")
            self._made = None


class PinnedBuffer(Held):
    """Host memory that the GPU can reach and the system does not move. Held until `close`."""

    def __init__(self, size_bytes: int) -> None:
        self.bytes = size_bytes
        detail = f"{size_bytes:,} bytes of pinned host memory"
        self.address = int(call("cuMemHostAlloc", size_bytes, _PORTABLE_MAPPED, detail=detail))

    def array(self, dtype: type[Number]) -> NDArray[Number]:
        """View it as numbers; the view must not outlive the buffer."""
        size = self.bytes // np.dtype(dtype).itemsize
        raw = memoryview((ctypes.c_uint8 * self.bytes).from_address(self.address)).cast("B")
        return np.frombuffer(raw, dtype, count=size)

    def close(self) -> None:
        """Give it back."""
        if self.address:
            call("cuMemFreeHost", self.address, detail=f"{self.bytes:,} bytes")
            self.address = 0


def copy(target: int, source: int, size_bytes: int, stream: Stream) -> None:
    """Copy between any two addresses, on the GPU or on the host, in a stream's order."""
    handle = stream.driver_handle
    detail = f"{size_bytes:,} bytes"
    call("cuMemcpyAsync", target, source, size_bytes, handle, detail=detail)


def fill(address: int, byte: int, size_bytes: int, stream: Stream) -> None:
    """Set every byte of a GPU's memory, in a stream's order."""
    handle = stream.driver_handle
    call("cuMemsetD8Async", address, byte, size_bytes, handle, detail=f"{size_bytes:,} bytes")


def upload(address: int, array: NDArray[Any], stream: Stream) -> None:
    """Copy an array to the GPU; it may be changed once this returns."""
    whole = np.ascontiguousarray(array)
    if whole.nbytes:
        copy(address, whole.ctypes.data, whole.nbytes, stream)
        stream.synchronize()


def download(array: NDArray[Number], address: int, stream: Stream) -> NDArray[Number]:
    """Wait for a stream and copy down into an array, contiguous, which is returned."""
    if not array.flags.c_contiguous:
        raise ValueError("an array to copy into must be contiguous")
    if array.nbytes:
        copy(array.ctypes.data, address, array.nbytes, stream)
    stream.synchronize()
    return array
