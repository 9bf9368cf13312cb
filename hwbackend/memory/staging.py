"""Staging: a ring of pinned buffers between the GPU and what is not pinned, arrays and files."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import PinnedBuffer, copy
from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.held import Held, do_all
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.files import PageFile

Bytes = NDArray[np.uint8]
_DISK_BUFFERS, _DISK_BUFFER_BYTES = 4, 4 << 20


def disk_staging() -> "Staging":
    """Make what stands between the GPU and a disk, one for each way: it holds four of 4 MiB."""
    return Staging(_DISK_BUFFERS, _DISK_BUFFER_BYTES)


class Staging(Held):
    """Pinned buffers used in turn, so that the host fills one while the GPU empties another.

    A copy from memory that is not pinned goes through a buffer of the driver's and makes the host
    wait; a disk can read into pinned memory straight away. Of one thread.

    Args:
        count: buffers; two are the least that overlap.
        size_bytes: of each, a multiple of `files.ALIGNMENT` where files are staged.
    """

    def __init__(self, count: int, size_bytes: int) -> None:
        if count < 1 or size_bytes < 1:
            raise ValueError(f"{count} buffers of {size_bytes:,} bytes stage nothing")
        self.bytes = size_bytes
        self._next = 0
        with ExitStack() as undo:
            self._buffers = [undo.enter_context(PinnedBuffer(size_bytes)) for _ in range(count)]
            self._free = [undo.enter_context(Event()) for _ in range(count)]
            undo.pop_all()

    def upload(self, address: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy an array to the GPU; it may be changed once this returns, before the copy ends."""
        source = _bytes_of(array)

        def fill(at: int, piece: Bytes) -> None:
            piece[:] = source[at : at + len(piece)]

        self._up(address, source.nbytes, fill, stream)

    def download(self, array: NDArray[Any], address: int, stream: Stream) -> None:
        """Copy from the GPU into an array, contiguous, and wait for it."""
        if not array.flags.c_contiguous:
            raise ValueError("an array to copy into must be contiguous")
        target = _bytes_of(array)

        def empty(at: int, piece: Bytes) -> None:
            target[at : at + len(piece)] = piece

        self._down(address, target.nbytes, empty, stream)

    def load(self, address: int, file: PageFile, at: int, size_bytes: int, stream: Stream) -> None:
        """Read a part of a file to the GPU; the last copies are still under way at the return."""

        def fill(offset: int, piece: Bytes) -> None:
            file.read(at + offset, piece.data)

        self._up(address, size_bytes, fill, stream)

    def store(self, file: PageFile, at: int, address: int, size_bytes: int, stream: Stream) -> None:
        """Write a part of a file from the GPU, and wait for it."""

        def empty(offset: int, piece: Bytes) -> None:
            file.write(at + offset, piece.data)

        self._down(address, size_bytes, empty, stream)

    def close(self) -> None:
        """Wait for the copies and give the buffers back."""
        waits = [event.synchronize for event in self._free if event.driver_handle is not None]
        do_all([*waits, *(each.close for each in (*self._free, *self._buffers))])

    def _up(
        self, address: int, size: int, fill: Callable[[int, Bytes], None], stream: Stream
    ) -> None:
        """Fill a buffer as soon as its last copy is done, and copy it up."""
        with _settled(stream):
            for at, length in self._pieces(size):
                turn = self._turn()
                self._free[turn].synchronize()
                fill(at, self._piece(turn, length))
                copy(address + at, self._buffers[turn].address, length, stream)
                self._free[turn].record(stream)

    def _down(
        self, address: int, size: int, empty: Callable[[int, Bytes], None], stream: Stream
    ) -> None:
        """Copy down as far ahead as there are buffers, and empty each as its copy is done."""
        under_way: deque[tuple[int, int, int]] = deque()

        def finish_oldest() -> None:
            turn, at, length = under_way.popleft()
            self._free[turn].synchronize()
            empty(at, self._piece(turn, length))

        with _settled(stream):
            for at, length in self._pieces(size):
                if len(under_way) == len(self._buffers):
                    finish_oldest()
                turn = self._turn()
                self._free[turn].synchronize()  # of an upload before this
                copy(self._buffers[turn].address, address + at, length, stream)
                self._free[turn].record(stream)
                under_way.append((turn, at, length))
            while under_way:
                finish_oldest()

    def _turn(self) -> int:
        turn, self._next = self._next, (self._next + 1) % len(self._buffers)
        return turn

    def _piece(self, turn: int, length: int) -> Bytes:
        return self._buffers[turn].array(np.uint8)[:length]

    def _pieces(self, size: int) -> Iterator[tuple[int, int]]:
        for at in range(0, size, self.bytes):
            yield at, min(self.bytes, size - at)


@contextmanager
def _settled(stream: Stream) -> Iterator[None]:
    """After an error no buffer may be used again before the copies that were started have ended."""
    try:
        yield
    except BaseException:
        with suppress(CudaError):
            stream.synchronize()
        raise


def _bytes_of(array: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
