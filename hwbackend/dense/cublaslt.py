"""cuBLASLt's products of bf16 matrices, through nvmath-python's bindings: `CublasLt`, `Plan`.

All matrices are row-major here; cuBLASLt's are column-major, where a row-major (rows, columns) is
(columns, rows). So y = x · wᵀ, with x (m, k), w (n, k) and y (m, n), is asked for as

    yᵀ (n, m) = op(A) · B,  A = wᵀ as it lies (k, n), op transposes;  B = xᵀ as it lies (k, m)

Sums are kept in float32 (CUBLAS_COMPUTE_32F), as PyTorch keeps them.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.cuda.streams import Stream
from vsim.traces.faults import first_line, refuse

# Numbers of cuBLAS's and the runtime's interface (library_types.h, cublas_api.h, cublasLt.h), which
# its versions keep.
_R_32F: Final = 0
_R_16BF: Final = 14
_COMPUTE_32F: Final = 68
_TRANSPOSE: Final = 1
_DESC_TRANSA: Final = 3
_PREFERENCE_WORKSPACE: Final = 1
_PREFERENCE_ALIGNMENTS: Final = (5, 6, 7, 8)  # of A, B, C, D


def bindings_of(name: str) -> Any:
    """Import one of nvmath-python's bindings, `cublas` or `cublasLt`.

    Raises:
        InputError: it is not installed, or finds no library.
    """
    try:
        return importlib.import_module(f"nvmath.bindings.{name}")
    except ImportError as error:
        refuse("--gpu", f"nvmath-python can't be imported ({error}); pip install 'vsim[gpu]'")


@dataclass(frozen=True, slots=True)
class Plan:
    """How one shape is multiplied: descriptors and the algorithm that was chosen.

    Args:
        m, n, k: the shape.
        descriptor: of the operation.
        weight, inputs, outputs: layouts of the three matrices.
        results: of the heuristic; keeps the algorithms' memory alive.
        algorithm: address of the one chosen.
        workspace_bytes: what it needs.
    """

    m: int
    n: int
    k: int
    descriptor: int
    weight: int
    inputs: int
    outputs: int
    results: Any
    algorithm: int
    workspace_bytes: int


class CublasLt:
    """A handle of cuBLASLt in the current context. Holds the handle, and descriptors of its plans.

    Args:
        bindings: nvmath's `cublasLt`, or what stands for it.
    """

    def __init__(self, bindings: Any = None) -> None:
        self._lt: Any = bindings_of("cublasLt") if bindings is None else bindings
        self._one = np.ones(1, np.float32)
        self._zero = np.zeros(1, np.float32)
        self._made: list[tuple[str, int]] = []
        self._handle: int = self._call("create")

    def _call(self, name: str, *args: Any, detail: str = "") -> Any:
        try:
            return getattr(self._lt, name)(*args)
        except self._lt.cuBLASLtError as error:
            status = int(getattr(error, "status", -1))
            raise CudaError(f"cublasLt {name}", status, first_line(error), detail) from error

    def _make(self, kind: str, *args: int) -> int:
        made: int = self._call(f"{kind}_create", *args)
        self._made.append((f"{kind}_destroy", made))
        return made

    def _set(self, kind: str, target: int, attribute: int, value: np.generic) -> None:
        held = np.array([value])
        address = held.ctypes.data
        self._call(f"{kind}_set_attribute", target, attribute, address, held.nbytes)

    def plans(
        self, m: int, n: int, k: int, alignment: int, workspace_bytes: int, most: int = 1
    ) -> list[Plan]:
        """Ask the heuristic how to multiply a shape, the way it thinks best first.

        Args:
            m: rows of x and y.
            n: rows of the weight, columns of y.
            k: columns of x and of the weight.
            alignment: bytes that all three addresses are multiples of, a power of two up to 256.
            workspace_bytes: what there is.
            most: how many ways at most.

        Raises:
            CudaError: there is none.
        """
        shape = f"bf16 product of m {m}, n {n}, k {k}"
        descriptor = self._make("matmul_desc", _COMPUTE_32F, _R_32F)
        self._set("matmul_desc", descriptor, _DESC_TRANSA, np.int32(_TRANSPOSE))
        weight = self._make("matrix_layout", _R_16BF, k, n, k)
        inputs = self._make("matrix_layout", _R_16BF, k, m, k)
        outputs = self._make("matrix_layout", _R_16BF, n, m, n)
        results = self._lt.MatmulHeuristicResult(most)
        found = np.zeros(1, np.int32)
        preference: int = self._call("matmul_preference_create")
        try:
            room = np.uint64(workspace_bytes)
            self._set("matmul_preference", preference, _PREFERENCE_WORKSPACE, room)
            for attribute in _PREFERENCE_ALIGNMENTS:
                self._set("matmul_preference", preference, attribute, np.uint32(alignment))
            self._call(
                "matmul_algo_get_heuristic", self._handle, descriptor, weight, inputs, outputs,
                outputs, preference, most, results.ptr, found.ctypes.data, detail=shape,
            )  # fmt: skip
        finally:
            self._call("matmul_preference_destroy", preference)
        if found[0] < 1:
            raise CudaError("cublasLt matmul_algo_get_heuristic", 0, "no algorithm", shape)
        held = np.atleast_1d(results._data)
        needs = np.atleast_1d(results.workspace_size)
        return [
            Plan(
                m, n, k, descriptor, weight, inputs, outputs, results,
                results.ptr + each * held.itemsize, int(needs[each]),
            )
            for each in range(int(found[0]))
        ]  # fmt: skip

    def multiply(
        self,
        plan: Plan,
        weight: int,
        x: int,
        y: int,
        workspace: int,
        stream: Stream,
    ) -> None:
        """Launch y = x · weightᵀ as planned; all are addresses on the GPU."""
        self._call(
            "matmul", self._handle, plan.descriptor, self._one.ctypes.data, weight, plan.weight,
            x, plan.inputs, self._zero.ctypes.data, y, plan.outputs, y, plan.outputs,
            plan.algorithm, workspace, plan.workspace_bytes, stream.handle,
        )  # fmt: skip

    def close(self) -> None:
        """Give back descriptors and handle."""
        while self._made:
            name, made = self._made.pop()
            self._call(name, made)
        if self._handle:
            self._call("destroy", self._handle)
            self._handle = 0
