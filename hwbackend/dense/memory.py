"""`Memory`: addresses on one GPU, taken from a few large buffers and given back together.

cuMemAlloc takes tens of microseconds and rounds up to 2 MiB; a step has hundreds of buffers.
"""

from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import DeviceBuffer, download, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream

ALIGNMENT: Final = 256
"""What cuBLASLt's algorithms ask for at most."""
_BLOCK_BYTES: Final = 64 << 20
Number = TypeVar("Number", bound=np.generic)


class Memory:
    """Memory of one GPU. Holds buffers.

    Args:
        context: the GPU's, current in every call.
        block_bytes: how much is allocated at least.
    """

    def __init__(self, context: Context, block_bytes: int = _BLOCK_BYTES) -> None:
        self.context = context
        self._block_bytes = block_bytes
        self._buffers: list[DeviceBuffer] = []
        self._next = self._end = 0
        self.taken_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, size_bytes: int) -> int:
        """Return the address of so many bytes, a multiple of 256."""
        size = -(-max(size_bytes, 1) // ALIGNMENT) * ALIGNMENT
        if self._end - self._next < size:
            made = DeviceBuffer(max(size, self._block_bytes))
            self._buffers.append(made)
            self._next, self._end = made.address, made.address + made.bytes
        address = self._next
        self._next += size
        self.taken_bytes += size
        return address

    def put(self, stream: Stream, address: int, array: NDArray[Any]) -> None:
        """Copy an array up, in the stream's order; it may be changed afterwards."""
        upload(address, array, stream)

    def get(self, stream: Stream, address: int, out: NDArray[Number]) -> NDArray[Number]:
        """Wait for the stream and copy down into an array, which is returned."""
        return download(out, address, stream)

    def close(self) -> None:
        """Give all buffers back."""
        self._next = self._end = 0
        while self._buffers:
            self._buffers.pop().close()
