"""Room: arrays on the GPU that are written anew each step and keep their addresses."""

from typing import Any, Final

from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import DeviceBuffer, upload
from vsim.hwbackend.cuda.held import Held, do_all
from vsim.hwbackend.cuda.streams import Stream

_LEAST_BYTES: Final = 256


class Room(Held):
    """Arrays by name. Each gets twice the bytes that it needs first; holds memory until `close`."""

    def __init__(self) -> None:
        self._held: dict[str, DeviceBuffer] = {}
        self._fixed: set[str] = set()

    def reserve(self, name: str, size_bytes: int) -> None:
        """Take room for an array that must never move; a larger one is refused from now on."""
        if name in self._held:
            raise ValueError(f"{name} has a place already: reserve before anything is put there")
        self._held[name] = DeviceBuffer(max(_LEAST_BYTES, size_bytes))
        self._fixed.add(name)

    def put(self, name: str, array: NDArray[Any], stream: Stream) -> None:
        """Write an array, in a stream's order; where it has outgrown its place it gets another."""
        held = self._held.get(name)
        if held is None or held.bytes < array.nbytes:
            if held is not None:
                if name in self._fixed:
                    raise ValueError(
                        f"{array.nbytes:,} bytes of {name}, where {held.bytes:,} were reserved"
                    )
                stream.synchronize()
                held.close()
                del self._held[name]
            self._held[name] = DeviceBuffer(max(_LEAST_BYTES, 2 * array.nbytes))
        upload(self._held[name].address, array, stream)

    def address(self, name: str) -> int:
        """Where an array is."""
        return self._held[name].address

    def close(self) -> None:
        """Give all of it back."""
        do_all([buffer.close for buffer in self._held.values()])
