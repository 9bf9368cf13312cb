"""Bench: the GPUs, streams and memory that a calibration measures with."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vsim.hwbackend.cuda.buffers import DeviceBuffer, copy, upload
from vsim.hwbackend.cuda.device import Device
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.gpus import (
    DRAWN_BYTES,
    AbsentError,
    MeasuringGpus,
    drawn_numbers,
)
from vsim.hwbackend.measuring.samples import Work
from vsim.hwbackend.memory.chunks import ChunkPool
from vsim.hwbackend.memory.ranges import AddressRange

HBM, PEER, HOST, SPARE, DISK = "hbm", "peer", "host", "spare", "nvme"
"""Places of memory; `spare` is more of HBM, for copies within it, and a disk is no memory."""
MOST_BYTES: Final = MappingProxyType({HBM: 2**33, SPARE: 2**30, PEER: 2**30, HOST: 2**29})
"""What is taken of each."""
_COVER_BYTES: Final = 256 * 2**20
_COVERED_CALLS: Final = 24  # by one such copy of 125 us; a call takes some 4 us from Python
_CHUNK_BYTES: Final = 32 * 2**20


class MappedMemory(Held):
    """Chunks of a place under one range of addresses, as replay has them. Held until `close`.

    Args:
        place: where.
        size_bytes: a multiple of a chunk's.
        chunk_bytes: of each chunk.
        reader: the GPU that reads and writes it.
    """

    def __init__(self, place: Place, size_bytes: int, chunk_bytes: int, reader: Device) -> None:
        self.bytes = size_bytes
        count = size_bytes // chunk_bytes
        with ExitStack() as held:
            pool = held.enter_context(ChunkPool(place, chunk_bytes))
            mapped = AddressRange(count, chunk_bytes, [reader])
            held.callback(_give_back, mapped, pool)
            mapped.map(0, pool.take_all(count))
            self.address = mapped.base
            self._held = held.pop_all()

    def close(self) -> None:
        """Give it back; nothing may use it any more."""
        self._held.close()


def _give_back(mapped: AddressRange, pool: ChunkPool) -> None:
    for chunk in mapped.close():
        pool.give(chunk)


class Bench(MeasuringGpus):
    """What measurements share. It holds GPUs and memory until `close`.

    Memory holds numbers as `drawn_numbers` has them.

    Args:
        most_bytes: what is taken of each place, and of a GPU no more than an eighth.
        disk: a folder on a local disk; None where none is measured.
    """

    def __init__(
        self, most_bytes: Mapping[str, int] = MOST_BYTES, disk: Path | None = None
    ) -> None:
        self.disk = disk
        self._most_bytes = most_bytes
        self._memory: dict[str, DeviceBuffer | MappedMemory] = {}
        super().__init__()

    def close(self) -> None:
        """Give everything back."""
        for buffer in self._memory.values():
            buffer.close()
        self._memory.clear()
        super().close()

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
        made: DeviceBuffer | MappedMemory
        if place in (HOST, PEER):
            where = self.device.host if place == HOST else self.need_peer().device.place
            drawn = self.memory(HBM, 1), min(self.most(HBM), most)
            made = MappedMemory(where, most, min(_CHUNK_BYTES, most), self.device)
            self._memory[place] = made
            self._copy_over(made.address, most, *drawn)
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

    def cover(self, calls: int) -> Work:
        """Work within HBM that lasts while the host puts so many calls on a stream, uncounted."""
        copies = 1 + -(-calls // _COVERED_CALLS)
        size = min(_COVER_BYTES, self.most(HBM), self.most(SPARE))
        source, target = self.memory(HBM, size), self.memory(SPARE, size)

        def work(stream: Stream) -> None:
            for _ in range(copies):
                copy(target, source, size, stream)

        return work

    def most(self, place: str) -> int:
        """How much of a place is taken at once, so that no address moves while it is used."""
        most = self._most_bytes[place]
        return most if place == HOST else min(most, self.device.total_bytes // 8)

    def _draw(self, address: int, size_bytes: int) -> None:
        """Fill memory: some of it drawn, the rest copies of that."""
        drawn = min(size_bytes, DRAWN_BYTES)
        upload(address, drawn_numbers(drawn), self.main)
        self.repeat(address, drawn, size_bytes)
        self.main.synchronize()

    def _copy_over(self, target: int, size_bytes: int, source: int, source_bytes: int) -> None:
        """Fill memory with what was drawn elsewhere."""
        for done in range(0, size_bytes, source_bytes):
            copy(target + done, source, min(source_bytes, size_bytes - done), self.main)
        self.main.synchronize()
