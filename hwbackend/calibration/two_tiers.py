"""TwoTiers: page slots of HBM and of a slower memory under one range of addresses."""

from contextlib import ExitStack
from typing import Any, Self

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.device import granularity
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream


class TwoTiers:
    """One chunk of each place, one behind the other. It holds memory until `close`.

    Args:
        reader: the GPU's memory, whose kernels read both.
        slow: the other place.
        slot_bytes: of a page's slot; it divides every place's granularity.
        fast_slots: in the reader's memory.
        slow_slots: in the other.
    """

    def __init__(
        self, reader: Place, slow: Place, slot_bytes: int, fast_slots: int, slow_slots: int
    ) -> None:
        least = max(granularity(reader), granularity(slow))
        if least % slot_bytes:
            raise ValueError(f"slots of {slot_bytes:,} bytes do not divide {least:,}")
        sizes = [-(-slots * slot_bytes // least) * least for slots in (fast_slots, slow_slots)]
        self.slow_first = sizes[0] // slot_bytes
        """The first slot of the slower memory."""
        self.bytes = sum(sizes)
        self._held = ExitStack()
        try:
            self.base = int(call("cuMemAddressReserve", self.bytes, least, 0, 0))
            self._held.callback(call, "cuMemAddressFree", self.base, self.bytes)
            at = self.base
            for place, size in zip((reader, slow), sizes, strict=True):
                self._map(place, at, size)
                at += size
            call("cuMemSetAccess", self.base, self.bytes, [_access(reader)], 1)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it back; nothing may use it any more."""
        self._held.close()

    def fill(self, source: int, source_bytes: int, stream: Stream) -> None:
        """Copy what lies at an address over all of it, again and again."""
        done = 0
        while done < self.bytes:
            more = min(source_bytes, self.bytes - done)
            call("cuMemcpyAsync", self.base + done, source, more, stream.driver_handle)
            done += more
        stream.synchronize()

    def _map(self, place: Place, at: int, size: int) -> None:
        detail = f"{size:,} bytes in {place}"
        handle = call("cuMemCreate", size, place.properties(), 0, detail=detail)
        self._held.callback(call, "cuMemRelease", handle)
        call("cuMemMap", at, size, 0, handle, 0, detail=detail)
        self._held.callback(call, "cuMemUnmap", at, size)


def _access(reader: Place) -> Any:
    from cuda.bindings import driver

    access = driver.CUmemAccessDesc()
    access.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    access.location.id = reader.number
    access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return access
