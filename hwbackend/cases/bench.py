"""CaseBench: the GPUs, streams and page slots that cases are measured with."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from vsim.hwbackend.cuda.buffers import DeviceBuffer, copy, upload
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.gpus import DRAWN_BYTES, MeasuringGpus, drawn_numbers
from vsim.hwbackend.measuring.samples import Work
from vsim.hwbackend.measuring.warm_calls import WarmCalls
from vsim.hwbackend.memory.slots import Slots, TierSlots

_COVER_BYTES: Final = 512 * 2**20
_CHUNK_BYTES: Final = 64 * 2**20


class CaseBench(MeasuringGpus):
    """What all cases share. It holds GPUs and memory until `close`.

    Memory holds numbers as `drawn_numbers` has them.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            self._drawn = self._held.enter_context(DeviceBuffer(DRAWN_BYTES))
            self._cover: DeviceBuffer | None = None
            self._warm: dict[Place, WarmCalls] = {}
            upload(self._drawn.address, drawn_numbers(DRAWN_BYTES), self.main)
        except BaseException:
            self.close()
            raise

    def place(self, tier: str) -> Place:
        """Where a tier's pages are. Raises AbsentError for a peer that is not there."""
        if tier == "host":
            return self.device.host
        if tier == "hbm":
            return self.device.place
        return self.need_peer().device.place

    def warm_calls(self, tier: str) -> WarmCalls:
        """The warm-up of calls on a tier's chunks; the same again, as it knows the fastest."""
        place = self.place(tier)
        return self._warm.setdefault(place, WarmCalls(place, self.device))

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
        drawn = min(size_bytes, DRAWN_BYTES)
        copy(address, self._drawn.address, drawn, self.main)
        self.repeat(address, drawn, size_bytes)
        self.main.synchronize()
