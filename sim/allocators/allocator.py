"""Allocator: what every model of one does with a program's calls."""

from typing import Protocol

from vsim.sim.allocators.device import DeviceMemory


class Allocator(Protocol):
    """A model of an allocator; state: what it holds. It never sees a later call.

    Attributes:
        device: where it takes memory from.
    """

    device: DeviceMemory

    @property
    def reserved_bytes(self) -> int:
        """What it has taken and not given back."""
        ...

    @property
    def allocated_bytes(self) -> int:
        """What of it is handed out, rounded as the allocator rounds."""
        ...

    def malloc(self, handle: int, size: int, stream: int) -> bool:
        """Hand out `size` bytes or more under a handle; False where memory is out."""
        ...

    def free(self, handle: int) -> None:
        """Take back what was handed out under a handle."""
        ...

    def grow(self, old: int, new: int, old_size: int, size: int, stream: int) -> bool:
        """Make an allocation larger (or smaller), keeping its content, under a new handle.

        False where memory is out; then the old one is as it was.
        """
        ...

    def trim(self) -> None:
        """Give back all memory that nothing is in, as the program asks for."""
        ...


class CopiesOnGrowth:
    """Growth as a program without virtual memory does it: a larger block, a copy, a free.

    For a moment both blocks are there.
    """

    def grow(self: "Allocator", old: int, new: int, old_size: int, size: int, stream: int) -> bool:
        """See `Allocator.grow`."""
        if not self.malloc(new, size, stream):
            return False
        self.device.copy(min(old_size, size))
        self.free(old)
        return True
