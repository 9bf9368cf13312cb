"""MeasuringGpus: the GPU that measures, one that it reaches, and what its memory is filled with."""

from contextlib import ExitStack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, can_access, devices
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.streams import Stream

DRAWN_BYTES: Final = 32 * 2**20
"""Drawn at once; the rest of a memory is filled with copies of it."""
_SEED: Final = 20261127


class AbsentError(Exception):
    """Something that a measurement needs is not on this machine; says what."""


class MeasuringGpus(Held):
    """GPUs and two streams of the first. Held until `close`.

    Attributes:
        device, home: the GPU that measures, and its context, which is made current.
        peer: a second one, where there is one and both reach each other.
        main, side: streams.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        found = devices()
        self.device: Device = found[0]
        try:
            self.home = self._held.enter_context(Context(self.device))
            self.peer = self._reached(found)
            self.home.make_current()
            self.main = self._held.enter_context(Stream())
            self.side = self._held.enter_context(Stream())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        self._held.close()

    def need_peer(self) -> Context:
        """The second GPU. Raises AbsentError where there is none that the first one reaches."""
        if self.peer is None:
            raise AbsentError("there is no second GPU that the first one reaches")
        return self.peer

    def repeat(self, address: int, filled_bytes: int, size_bytes: int) -> None:
        """Fill memory with copies of its first bytes, on the main stream."""
        done = filled_bytes
        while done < size_bytes:
            more = min(done, size_bytes - done)
            copy(address + done, address, more, self.main)
            done += more

    def _reached(self, found: tuple[Device, ...]) -> Context | None:
        for other in found[1:]:
            if can_access(self.device, other) and can_access(other, self.device):
                peer = self._held.enter_context(Context(other))
                self.home.enable_peer(peer)
                peer.enable_peer(self.home)
                return peer
        return None


def drawn_numbers(size_bytes: int) -> NDArray[np.uint8]:
    """Bytes of bf16 numbers from N(0, 1), always the same: zeros would be faster than data is."""
    numbers = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(
        -(-size_bytes // 2), dtype=np.float32
    )
    return (numbers.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)[:size_bytes]
