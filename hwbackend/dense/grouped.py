"""Products with several weights of one shape in one call: `GroupedProducts`, of cuBLAS.

cublasGemmGroupedBatchedEx takes a number of tokens for each weight, on the host, and addresses in
memory of the GPU. (cuBLASLt's grouped layouts are younger than the 13.1.0.3 of PyTorch 2.11.)
Matrices lie as in `cublaslt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.cublaslt import bindings_of
from vsim.traces.faults import first_line

_R_16BF: Final = 14
_COMPUTE_32F: Final = 68
_PLAIN, _TRANSPOSE = 0, 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a group's matrices are: addresses on the GPU of arrays of addresses.

    Args:
        weights: of n rows and k columns each.
        inputs: of k columns each.
        outputs: of n columns each.
    """

    weights: int
    inputs: int
    outputs: int


class GroupedProducts:
    """A handle of cuBLAS in the current context. Holds it.

    Args:
        workspace: address on the GPU, and bytes; shared with what runs in the same stream.
        bindings: nvmath's `cublas`, or what stands for it.
    """

    def __init__(self, workspace: tuple[int, int], bindings: Any = None) -> None:
        self._cublas: Any = bindings_of("cublas") if bindings is None else bindings
        self._workspace = workspace
        self._handle: int = self._call("create")

    def _call(self, name: str, *args: Any, detail: str = "") -> Any:
        try:
            return getattr(self._cublas, name)(*args)
        except self._cublas.cuBLASError as error:
            status = int(getattr(error, "status", -1))
            raise CudaError(f"cublas {name}", status, first_line(error), detail) from error

    def multiply(
        self, stream: Stream, tokens: Sequence[int], at: Addresses, n: int, k: int
    ) -> None:
        """Launch y = x · weightᵀ for each weight.

        Args:
            stream: in which.
            tokens: rows of each x, at least one.
            at: where the matrices are.
            n: outputs.
            k: inputs.
        """
        groups = len(tokens)
        if not groups:
            return
        alpha, beta = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        self._call("set_stream", self._handle, stream.handle)
        self._call("set_workspace", self._handle, *self._workspace)
        self._call(
            "gemm_grouped_batched_ex", self._handle, [_TRANSPOSE] * groups, [_PLAIN] * groups,
            [n] * groups, list(tokens), [k] * groups, alpha.ctypes.data,
            at.weights, _R_16BF, [k] * groups, at.inputs, _R_16BF, [k] * groups,
            beta.ctypes.data, at.outputs, _R_16BF, [n] * groups, groups, [1] * groups,
            _COMPUTE_32F, detail=f"{groups} products of n {n}, k {k}",
        )  # fmt: skip

    def close(self) -> None:
        """Give the handle back."""
        if self._handle:
            self._call("destroy", self._handle)
            self._handle = 0
