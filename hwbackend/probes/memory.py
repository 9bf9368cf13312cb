"""MemoryProbe: plain kernels that read, write, copy and fill a range, in any place."""

import ctypes
from pathlib import Path
from typing import Final

from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.buffers import DeviceBuffer
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.held import Held, close_after, do_all
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Stream

SOURCE: Final = Path(__file__).parent / "memory.cu"
WORD_BYTES: Final = 16
_THREADS: Final = 512
_GATHER_THREADS: Final = 256
_BLOCKS_A_MULTIPROCESSOR: Final = 4  # of 512 threads: as many as it holds


class MemoryProbe(Held):
    """Kernels over memory that the GPU can reach. Holds a module until `close`.

    Sizes are bytes, multiples of 16. `blocks` says how many multiprocessors' worth of threads take
    part; all where not given.
    """

    def __init__(self, context: Context) -> None:
        context.make_current()
        code = compiled(SOURCE, architecture(context.device.capability)).code
        self.all_blocks = context.device.multiprocessors * _BLOCKS_A_MULTIPROCESSOR
        self._module = Module(code)
        try:
            self._never = DeviceBuffer(WORD_BYTES)
        except BaseException as error:
            close_after(error, self._module.close)
            raise

    def read(self, stream: Stream, source: int, size: int, blocks: int | None = None) -> None:
        """Read a range once."""
        self._run("read_all", stream, blocks, _address(source), _words(size),
                  _address(self._never.address))  # fmt: skip

    def write(self, stream: Stream, target: int, size: int, blocks: int | None = None) -> None:
        """Write a range once."""
        self._run("write_all", stream, blocks, _address(target), _words(size))

    def copy(
        self, stream: Stream, target: int, source: int, size: int, blocks: int | None = None
    ) -> None:
        """Copy a range by multiprocessors."""
        self._run("copy_all", stream, blocks, _address(target), _address(source), _words(size))

    def fill_normal(self, stream: Stream, target: int, size: int, seed: int = 0) -> None:
        """Fill a range with near normal numbers in bf16, the same for the same seed."""
        self._run("fill_normal", stream, None, _address(target), _words(size), _address(seed))

    def read_runs(self, stream: Stream, source: int, order: int, runs: int, run_bytes: int) -> None:
        """Read runs of bytes in the order of an uint32 array at `order`, which counts in runs."""
        words = ctypes.c_uint32(_words(run_bytes).value)
        self._module.kernel("read_runs").launch(
            (2 * self.all_blocks, 1, 1),
            (_GATHER_THREADS, 1, 1),
            stream,
            [_address(source), _address(order), ctypes.c_uint32(runs), words,
             _address(self._never.address)],
        )  # fmt: skip

    def nothing(self, stream: Stream, blocks: int = 1) -> None:
        """Launch an empty kernel."""
        self._run("nothing", stream, blocks)

    def close(self) -> None:
        """Give the module back."""
        do_all([self._never.close, self._module.close])

    def _run(self, name: str, stream: Stream, blocks: int | None, *given: ctypes.c_uint64) -> None:
        grid = (self.all_blocks if blocks is None else blocks, 1, 1)
        self._module.kernel(name).launch(grid, (_THREADS, 1, 1), stream, given)


def _address(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


def _words(size: int) -> ctypes.c_uint64:
    words, left = divmod(size, WORD_BYTES)
    if left:
        raise ValueError(f"{size:,} bytes: the probes take multiples of {WORD_BYTES}")
    return ctypes.c_uint64(words)
