"""PageCopies: pages from slot to slot, by copy engine or by multiprocessors."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import Held, close_after
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Stream

SOURCE: Final = Path(__file__).parent / "pages.cu"
PAGES_A_LAUNCH: Final = 240
_THREADS: Final = 512
_WORD_BYTES: Final = 16
_BLOCKS_A_MULTIPROCESSOR: Final = 2


class _Pages(ctypes.Structure):
    _fields_ = (
        ("source", ctypes.c_uint64 * PAGES_A_LAUNCH),
        ("target", ctypes.c_uint64 * PAGES_A_LAUNCH),
        ("words", ctypes.c_uint64),
        ("pages", ctypes.c_int32),
    )


DEFINES: Final = {"ARGUMENT_BYTES": ctypes.sizeof(_Pages)}


class PageCopies(Held):
    """Copies of pages of one size between addresses. Holds a module until `close`.

    Sources and targets are int64 arrays of addresses, in pairs; no target may be written while it
    is a source or a target of another pair.

    Args:
        context: the GPU whose engines and multiprocessors copy.
        page_bytes: a multiple of 16.
    """

    def __init__(self, context: Context, page_bytes: int) -> None:
        if page_bytes <= 0 or page_bytes % _WORD_BYTES:
            raise ValueError(f"pages of {page_bytes:,} bytes: copies move multiples of 16")
        self.page_bytes = page_bytes
        context.make_current()
        code = compiled(SOURCE, architecture(context.device.capability), DEFINES).code
        self._all_blocks = context.device.multiprocessors * _BLOCKS_A_MULTIPROCESSOR
        self._module = Module(code)
        try:
            self._kernel = self._module.kernel("copy_pages")
        except BaseException as error:
            close_after(error, self.close)
            raise

    def by_engine(
        self, stream: Stream, sources: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> int:
        """Copy by copy engine; pages that are neighbours on both sides go as one copy.

        Returns how many copies that were.
        """
        _check_pairs(sources, targets)
        count = 0
        for at, pages in runs(sources, targets, self.page_bytes):
            copy(int(targets[at]), int(sources[at]), pages * self.page_bytes, stream)
            count += 1
        return count

    def by_kernel(
        self,
        stream: Stream,
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        blocks: int | None = None,
    ) -> int:
        """Copy by multiprocessors; returns how many launches that were.

        Args:
            stream: where it goes.
            sources: addresses that the GPU can read, multiples of 16.
            targets: addresses that it can write, likewise.
            blocks: of 512 threads that take part; two a multiprocessor where not given.
        """
        _check_pairs(sources, targets)
        if len(sources) and int(np.bitwise_or.reduce(sources | targets)) % _WORD_BYTES:
            raise ValueError("an address that is no multiple of 16")
        grid = (self._all_blocks if blocks is None else blocks, 1, 1)
        launches = 0
        for first in range(0, len(sources), PAGES_A_LAUNCH):
            some = slice(first, first + PAGES_A_LAUNCH)
            given = _Pages(words=self.page_bytes // _WORD_BYTES, pages=len(sources[some]))
            for into, addresses in ((given.source, sources[some]), (given.target, targets[some])):
                whole = np.ascontiguousarray(addresses, np.int64)
                ctypes.memmove(into, whole.ctypes.data, whole.nbytes)
            self._kernel.launch(grid, (_THREADS, 1, 1), stream, [given])
            launches += 1
        return launches

    def close(self) -> None:
        """Give the module back."""
        self._module.close()


def runs(
    sources: NDArray[np.int64], targets: NDArray[np.int64], page_bytes: int
) -> Iterator[tuple[int, int]]:
    """Find pairs that follow each other in memory on both sides: (first, how many)."""
    if not len(sources):
        return
    follows = (np.diff(sources) == page_bytes) & (np.diff(targets) == page_bytes)
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    for first, end in zip(starts, [*starts[1:], len(sources)], strict=True):
        yield int(first), int(end - first)


def _check_pairs(sources: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources for {len(targets)} targets")
