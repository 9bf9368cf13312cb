"""Pages of the lowest tier on a disk: copies to and from it by threads of the host.

The disk reads and writes pinned buffers past the page cache (`memory/files.py`), the GPU copies
between them and the pages (`memory/staging.py`). Either way has a thread, so that both go on at
once and copies of one way follow each other, as on a stream.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.copies.pages import runs
from vsim.hwbackend.cuda.buffers import download
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import Held, do_all
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.memory.files import ALIGNMENT, PageFile
from vsim.hwbackend.memory.staging import disk_staging
from vsim.hwbackend.replay.rooms import Int32s, Int64s, PageRoom
from vsim.sim.engine.backend import Operation, StepBatch
from vsim.traces.faults import refuse


@dataclass(frozen=True, slots=True)
class DiskSlots:
    """Slots of the tier that lies on a disk.

    Args:
        name: the tier's.
        slots: how many; they are the last ones.
        folder: on which disk.
        direct: past the page cache, without which times say nothing of the disk.
    """

    name: str
    slots: int
    folder: Path
    direct: bool = True


class DiskRoom:
    """Another room, and behind its slots those on a disk. It holds both until `close`.

    Args:
        inner: the slots before; closed with this one.
        first: number of the first slot on the disk.
        disk: these.

    Raises:
        InputError: the disk takes no direct writes, or has no room.
    """

    def __init__(self, inner: PageRoom, first: int, disk: DiskSlots) -> None:
        if inner.slot_bytes % ALIGNMENT:
            message = f"pages of {inner.slot_bytes:,} bytes are no multiple of {ALIGNMENT:,}"
            refuse("--disk", f"{message}; write a larger engine.page_tokens")
        self.inner, self.first = inner, first
        self.base, self.slot_bytes = inner.base, inner.slot_bytes
        size = max(disk.slots, 1) * inner.slot_bytes
        path = disk.folder / f".vsim-pages-{os.getpid()}"
        self.file = PageFile(path, size, direct=disk.direct)

    @property
    def mapped(self) -> int:
        """See PageRoom."""
        return self.inner.mapped

    @property
    def mapped_ns(self) -> int:
        """See PageRoom."""
        return self.inner.mapped_ns

    def units(self, batch: StepBatch) -> Int32s:
        """See PageRoom; kernels read no page on a disk."""
        return self.inner.units(batch)

    def addresses(self, slots: Int64s) -> Int64s:
        """See PageRoom; of slots that are in memory."""
        return self.inner.addresses(slots)

    def extents(self) -> list[tuple[int, int]]:
        """See PageRoom."""
        return self.inner.extents()

    def offset(self, slot: int) -> int:
        """Where a slot's page begins in the file."""
        return (slot - self.first) * self.slot_bytes

    def close(self) -> None:
        """Give memory and disk space back. A second time does nothing."""
        do_all([self.file.close, self.inner.close])


def read_page(room: PageRoom, slot: int, stream: Stream) -> NDArray[np.uint32]:
    """What a slot's page holds, wherever it is."""
    if isinstance(room, DiskRoom) and slot >= room.first:
        raw = np.empty(room.slot_bytes + ALIGNMENT, np.uint8)
        begin = -raw.ctypes.data % ALIGNMENT
        page = raw[begin : begin + room.slot_bytes]
        room.file.read(room.offset(slot), page.data)
        return page.view(np.uint32)
    address = int(room.addresses(np.array([slot]))[0])
    return download(np.empty(room.slot_bytes // 4, np.uint32), address, stream)


class OnDisk:
    """A copy to or from a disk, under way in a thread."""

    def __init__(self, began_ns: int, under_way: "Future[int]", finish: Callable[[], None]) -> None:
        self.host_ns = 0
        self.closed = False
        self._began_ns, self._under_way, self._finish = began_ns, under_way, finish

    def done(self) -> bool:
        """Whether the thread is through."""
        return self._under_way.done()

    def took_ns(self) -> int:
        """Nanoseconds from when it was submitted until it was done."""
        return self._under_way.result() - self._began_ns

    def finish(self) -> None:
        """Look at what was done; raises what went wrong in the thread."""
        self.close()
        self._under_way.result()
        self._finish()

    def close(self) -> None:
        """Nothing is held."""
        self.closed = True


class DiskCopies(Held):
    """Carries copies to and from a disk out. It holds buffers and threads until `close`.

    Args:
        context: the GPU.
        room: where pages are.
    """

    def __init__(self, context: Context, room: DiskRoom) -> None:
        self._room = room
        with ExitStack() as undo:
            self._ways = [undo.enter_context(_Way(context)) for _ in range(2)]
            undo.pop_all()

    def takes(self, operation: Operation) -> bool:
        """Whether a copy reads or writes the disk."""
        ends = operation.sources[0], operation.targets[0]
        return max(map(int, ends)) >= self._room.first

    def start(self, operation: Operation, finish: Callable[[], None]) -> OnDisk:
        """Have a copy carried out; returns at once."""
        writes = int(operation.targets[0]) >= self._room.first
        way = self._ways[writes]
        pieces = list(self._pieces(operation, writes))

        def work() -> int:
            for at, address, size in pieces:
                if writes:
                    way.staging.store(self._room.file, at, address, size, way.stream)
                else:
                    way.staging.load(address, self._room.file, at, size, way.stream)
            way.stream.synchronize()
            return time.monotonic_ns()

        return OnDisk(time.monotonic_ns(), way.thread.submit(work), finish)

    def close(self) -> None:
        """Wait for what is under way, and give buffers and threads back."""
        do_all([way.close for way in self._ways])

    def _pieces(self, operation: Operation, writes: bool) -> Sequence[tuple[int, int, int]]:
        """Where in the file, at which address, how many bytes: pages side by side in both."""
        room = self._room
        on_disk, in_memory = operation.sources, operation.targets
        if writes:
            on_disk, in_memory = in_memory, on_disk
        offsets = (on_disk.astype(np.int64) - room.first) * room.slot_bytes
        addresses = room.addresses(in_memory.astype(np.int64))
        return [
            (int(offsets[at]), int(addresses[at]), pages * room.slot_bytes)
            for at, pages in runs(offsets, addresses, room.slot_bytes)
        ]


class _Way(Held):
    """One direction: its thread, and what the thread copies by."""

    def __init__(self, context: Context) -> None:
        with ExitStack() as undo:
            self.staging = undo.enter_context(disk_staging())
            self.stream = undo.enter_context(Stream())
            self.thread = ThreadPoolExecutor(1, "disk", initializer=context.make_current)
            undo.pop_all()

    def close(self) -> None:
        do_all([lambda: self.thread.shutdown(), self.stream.close, self.staging.close])
