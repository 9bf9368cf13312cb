"""Bench: the GPUs, streams and memory that a calibration measures with."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Final, Self

import numpy as np

from vsim.hwbackend.cuda.buffers import DeviceBuffer, PinnedBuffer, copy, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, can_access, devices
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import Work

HBM, PEER, HOST, SPARE = "hbm", "peer", "host", "spare"
"""Places of memory; `spare` is more of HBM, for copies within it."""
MOST_BYTES: Final = MappingProxyType({HBM: 2**33, SPARE: 2**30, PEER: 2**30, HOST: 2**29})
"""What is taken of each."""
_DRAWN_BYTES: Final = 32 * 2**20
_COVER_BYTES: Final = 256 * 2**20
_COVER_COPIES: Final = 3
_SEED: Final = 20261127


class AbsentError(Exception):
    """Something that a point needs is not on this machine; says what."""


class Bench:
    """What measurements share. It holds GPUs and memory until `close`.

    Memory holds bf16 numbers drawn from N(0, 1): zeros would be faster than data is.

    Args:
        most_bytes: what is taken of each place, and of a GPU no more than an eighth.
    """

    def __init__(self, most_bytes: Mapping[str, int] = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held = ExitStack()
        self._memory: dict[str, DeviceBuffer | PinnedBuffer] = {}
        found = devices()
        self.device: Device = found[0]
        try:
            self.home = self._held.enter_context(Context(self.device))
            self.peer = self._find_peer(found)
            self.home.make_current()
            self.stream = self._held.enter_context(Stream())
            self.other = self._held.enter_context(Stream())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        for buffer in self._memory.values():
            buffer.close()
        self._memory.clear()
        self._held.close()

    def need_peer(self) -> Context:
        """The second GPU. Raises AbsentError where there is none that the first one reaches."""
        if self.peer is None:
            raise AbsentError("there is no second GPU that the first one reaches")
        return self.peer

    def memory(self, place: str, size_bytes: int) -> int:
        """Address of at least so many bytes; it holds until the place is dropped.

        Raises:
            AbsentError: the place does not have as many.
        """
        most = self.most(place)
        if size_bytes > most:
            raise AbsentError(f"{size_bytes:,} bytes of {place}, where there are {most:,}")
        held = self._memory.get(place)
        if held is not None:
            return held.address
        if place == HOST:
            made: DeviceBuffer | PinnedBuffer = PinnedBuffer(most)
        elif place == PEER:
            self.need_peer().make_current()
            try:
                made = DeviceBuffer(most)
            finally:
                self.home.make_current()
        else:
            made = DeviceBuffer(most)
        self._memory[place] = made
        self._draw(made.address, most)
        return made.address

    def drop(self, place: str) -> None:
        """Give a place's memory back: what was drawn there is gone, or others want it."""
        held = self._memory.pop(place, None)
        if held is not None:
            self.home.synchronize()
            held.close()

    def cover(self) -> Work:
        """Work of about 0.4 ms, in which the host puts a hundred copies on a stream."""
        size = min(_COVER_BYTES, self.most(HBM), self.most(SPARE))
        source, target = self.memory(HBM, size), self.memory(SPARE, size)

        def work(stream: Stream) -> None:
            for _ in range(_COVER_COPIES):
                copy(target, source, size, stream)

        return work

    def most(self, place: str) -> int:
        """How much of a place is taken at once, so that no address moves while it is used."""
        most = self._most_bytes[place]
        return most if place == HOST else min(most, self.device.total_bytes // 8)

    def _draw(self, address: int, size_bytes: int) -> None:
        """Fill memory: some of it drawn, the rest copies of that."""
        drawn = min(size_bytes, _DRAWN_BYTES)
        numbers = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(
            -(-drawn // 2), dtype=np.float32
        )
        halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        upload(address, halves.view(np.uint8)[:drawn], self.stream)
        done = drawn
        while done < size_bytes:
            more = min(done, size_bytes - done)
            copy(address + done, address, more, self.stream)
            done += more
        self.stream.synchronize()

    def _find_peer(self, found: tuple[Device, ...]) -> Context | None:
        for other in found[1:]:
            if can_access(self.device, other) and can_access(other, self.device):
                peer = self._held.enter_context(Context(other))
                self.home.enable_peer(peer)
                peer.enable_peer(self.home)
                return peer
        return None
