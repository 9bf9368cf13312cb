"""Module and Kernel: compiled code on a GPU, and its launches."""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vsim.hwbackend.cuda.calls import call
from vsim.hwbackend.cuda.held import Held
from vsim.hwbackend.cuda.streams import Stream

if TYPE_CHECKING:
    Argument = ctypes._SimpleCData[Any] | ctypes.Array[Any] | ctypes.Structure
"""A kernel's argument as C has it: c_uint64 for an address, c_int, c_float, a structure."""
Extent = tuple[int, int, int]


class Module(Held):
    """A cubin, loaded into the context that is current; held until `close`."""

    def __init__(self, cubin: bytes) -> None:
        self._made: Any = call("cuModuleLoadData", cubin, detail=f"{len(cubin):,} bytes of code")

    def kernel(self, name: str) -> "Kernel":
        """Return one of its kernels, an `extern "C"` function."""
        return Kernel(name, call("cuModuleGetFunction", self._made, name.encode(), detail=name))

    def close(self) -> None:
        """Unload it."""
        if self._made is not None:
            call("cuModuleUnload", self._made)
            self._made = None


class Kernel:
    """A kernel of a loaded module."""

    def __init__(self, name: str, made: Any) -> None:
        self.name = name
        self._made = made

    @property
    def registers(self) -> int:
        """Of a thread."""
        return self._attribute("NUM_REGS")

    @property
    def shared_bytes(self) -> int:
        """Static shared memory of a block."""
        return self._attribute("SHARED_SIZE_BYTES")

    @property
    def local_bytes(self) -> int:
        """Memory of a thread for what found no register."""
        return self._attribute("LOCAL_SIZE_BYTES")

    def allow_shared(self, size_bytes: int) -> None:
        """Let launches take up to so much dynamic shared memory; 48 KiB need no leave."""
        from cuda.bindings import driver

        wanted = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        detail = f"{self.name}, {size_bytes:,} bytes of shared memory"
        call("cuFuncSetAttribute", self._made, wanted, size_bytes, detail=detail)

    def blocks_at_once(self, threads: int, shared_bytes: int = 0) -> int:
        """How many blocks one multiprocessor holds."""
        name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
        return int(call(name, self._made, threads, shared_bytes, detail=self.name))

    def launch(
        self,
        grid: Extent,
        block: Extent,
        stream: Stream,
        arguments: "Sequence[Argument]",
        shared_bytes: int = 0,
        *,
        programmatic: bool = False,
    ) -> None:
        """Put a launch on a stream.

        Args:
            grid: blocks.
            block: threads of each.
            stream: where it goes.
            arguments: in the kernel's order; they are read before this returns.
            shared_bytes: dynamic shared memory.
            programmatic: it may begin before the kernel before it has ended, and waits itself
                (griddepcontrol.wait), from sm_90 on.
        """
        pointers = (ctypes.c_void_p * max(len(arguments), 1))(
            *(ctypes.addressof(each) for each in arguments)
        )
        at = ctypes.addressof(pointers)
        detail = f"{self.name}, grid {grid}, block {block}, {shared_bytes:,} bytes shared"
        if programmatic:
            call("cuLaunchKernelEx", _config(grid, block, stream, shared_bytes), self._made, at, 0,
                 detail=detail)  # fmt: skip
            return
        handle = stream.driver_handle
        call("cuLaunchKernel", self._made, *grid, *block, shared_bytes, handle, at, 0,
             detail=detail)  # fmt: skip

    def _attribute(self, name: str) -> int:
        from cuda.bindings import driver

        wanted = getattr(driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(call("cuFuncGetAttribute", wanted, self._made, detail=self.name))


def _config(grid: Extent, block: Extent, stream: Stream, shared_bytes: int) -> Any:
    from cuda.bindings import driver

    early = driver.CUlaunchAttribute()
    early.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    early.value.programmaticStreamSerializationAllowed = 1
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = block
    config.sharedMemBytes = shared_bytes
    config.hStream = stream.driver_handle
    config.attrs = [early]
    config.numAttrs = 1
    return config
