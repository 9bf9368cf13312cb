"""CaseBench: the GPUs, streams and page slots that cases are measured with."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, Self

import numpy as np

from vsim.hwbackend.cuda.buffers import DeviceBuffer, copy, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, can_access, devices
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import Work
from vsim.hwbackend.memory.slots import Slots, TierSlots

_DRAWN_BYTES: Final = 32 * 2**20
_COVER_BYTES: Final = 512 * 2**20
_CHUNK_BYTES: Final = 64 * 2**20
_SEED: Final = 20261127


class AbsentError(Exception):
    """Something that a case needs is not on this machine; says what."""


class CaseBench:
    """What all cases share. It holds GPUs and memory until `close`.

    Memory holds bf16 numbers drawn from N(0, 1): zeros would be faster than data is.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        found = devices()
        self.device: Device = found[0]
        try:
            self.home = self._held.enter_context(Context(self.device))
            self.peer: Device | None = self._reached(found)
            self.home.make_current()
            self.main = self._held.enter_context(Stream())
            self.side = self._held.enter_context(Stream())
            self._drawn = self._held.enter_context(DeviceBuffer(_DRAWN_BYTES))
            self._cover: DeviceBuffer | None = None
            numbers = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(
                _DRAWN_BYTES // 2, dtype=np.float32
            )
            halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
            upload(self._drawn.address, halves, self.main)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        self._held.close()

    def place(self, tier: str) -> Place:
        """Where a tier's pages are. Raises AbsentError for a peer that is not there."""
        if tier == "host":
            return self.device.host
        if tier == "hbm":
            return self.device.place
        if self.peer is None:
            raise AbsentError("there is no second GPU that the first one reaches")
        return self.peer.place

    def slots(self, slot_bytes: int, counts: Mapping[str, int]) -> Slots:
        """Make page slots of tiers and fill them; the caller closes them.

        Args:
            slot_bytes: of a page.
            counts: slots of each tier, in the order of their numbers.
        """
        tiers = [TierSlots(name, self.place(name), max(1, n)) for name, n in counts.items()]
        made = Slots(slot_bytes, tiers, _CHUNK_BYTES, [self.device])
        try:
            for tier in tiers:
                first = np.array([made.first_slot(tier.name)], np.int64)
                self._fill(int(made.addresses(first)[0]), tier.slots * slot_bytes)
        except BaseException:
            made.close()
            raise
        return made

    def numbers(self, size_bytes: int) -> DeviceBuffer:
        """A buffer of drawn numbers; the caller closes it."""
        made = DeviceBuffer(size_bytes)
        try:
            self._fill(made.address, size_bytes)
        except BaseException:
            made.close()
            raise
        return made

    def cover(self, times: int) -> Work:
        """Work that lasts a quarter of a millisecond each time: a copy within HBM."""
        if self._cover is None:
            self._cover = self._held.enter_context(DeviceBuffer(2 * _COVER_BYTES))
        address = self._cover.address

        def work(stream: Stream) -> None:
            for _ in range(times):
                copy(address + _COVER_BYTES, address, _COVER_BYTES, stream)

        return work

    def _fill(self, address: int, size_bytes: int) -> None:
        done = 0
        while done < size_bytes:
            source = address if done >= _DRAWN_BYTES else self._drawn.address
            more = min(max(done, _DRAWN_BYTES), size_bytes - done)
            copy(address + done, source, more, self.main)
            done += more
        self.main.synchronize()

    def _reached(self, found: tuple[Device, ...]) -> Device | None:
        for other in found[1:]:
            if can_access(self.device, other) and can_access(other, self.device):
                context = self._held.enter_context(Context(other))
                self.home.enable_peer(context)
                return other
        return None
