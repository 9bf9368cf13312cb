"""Sums over the GPUs of one process: `AllReduce`, through NCCL and its bindings nccl4py.

vLLM sums small buffers with kernels of its own, which take less than NCCL's; a comparison with the
simulator's `all_reduce` has to say which it is about.
"""

import importlib
import os
from collections.abc import Sequence
from typing import Any, Final, Self

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.streams import Stream
from vsim.traces.faults import first_line, refuse

# Numbers of NCCL's interface (nccl.h), which its versions keep.
_BFLOAT16: Final = 9
_SUM: Final = 0


def _bindings() -> Any:
    try:
        return importlib.import_module("nccl.bindings.nccl")
    except ImportError as error:
        refuse("--gpu", f"nccl4py can't be imported ({error}); pip install 'vsim[gpu]'")


class AllReduce:
    """Sums bf16 buffers in place over several GPUs. Holds their communicators.

    The first sum connects the GPUs; do one before capturing any in a graph.

    Args:
        devices: ordinals, of which each has its primary context.
        bindings: `nccl.bindings.nccl`, or what stands for it.
    """

    def __init__(self, devices: Sequence[int], bindings: Any = None) -> None:
        # NVLink multicast from a virtual machine can put GPUs that others share out of service.
        os.environ["NCCL_NVLS_ENABLE"] = "0"
        # In graphs NCCL would register buffers, and sum otherwise than what calibrations time.
        os.environ["NCCL_GRAPH_REGISTER"] = "0"
        self._nccl: Any = _bindings() if bindings is None else bindings
        self._communicators: list[Any] = []
        self._communicators = list(self._call("comm_init_all", len(devices), list(devices)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._nccl, name)(*args)
        except self._nccl.NCCLError as error:
            status = int(getattr(error, "status", -1))
            raise CudaError(f"nccl {name}", status, first_line(error)) from error

    def sum(self, streams: Sequence[Stream], addresses: Sequence[int], count: int) -> None:
        """Launch a sum of `count` numbers, in place, in one stream and of one buffer a GPU."""
        if not count:
            return
        self._call("group_start")
        try:
            for stream, address, each in zip(streams, addresses, self._communicators, strict=True):
                self._call(
                    "all_reduce", address, address, count, _BFLOAT16, _SUM, each, stream.handle
                )
        finally:
            self._call("group_end")

    def abort(self) -> None:
        """Let no GPU wait for another one any longer, and give the communicators back.

        All at once: one that is given back alone can wait for a GPU that waits for another.
        """
        communicators, self._communicators = self._communicators, []
        if not communicators:
            return
        self._call("group_start")
        try:
            for each in communicators:
                self._call("comm_abort", each)
        finally:
            self._call("group_end")

    def close(self) -> None:
        """Give the communicators back; no graph that sums is left, which NCCL would wait for."""
        while self._communicators:
            self._call("comm_destroy", self._communicators.pop())
