"""A GPU made of this computer: its memory is the process's, its kernels are compiled with g++.

cuBLASLt and cuBLAS are stood for by objects that read the descriptors they are given, and multiply
what lies at the addresses. So argument packing is tested by the numbers that come out.
"""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.dense.memory import ALIGNMENT, Memory
from vsim.hwbackend.dense.reference import of_bits, to_bits
from vsim.hwbackend.dense.small_kernels import NAMES, SOURCE, SmallKernels

STREAM: Any = SimpleNamespace(handle=0x57)
_ROUNDING = 'asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));'
_AS_ON_A_CPU = "word = cvt_rn_bf16(first) | cvt_rn_bf16(second) << 16;"


class HostMemory(Memory):
    """Memory whose addresses are this process's own."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(make_current=lambda: None))  # type: ignore[arg-type]  # stands for a context
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self, size_bytes: int) -> int:
        array = np.full(size_bytes + ALIGNMENT, 0xFF, np.uint8)  # bf16 of these bits is no number
        self._arrays.append(array)
        self.taken_bytes += size_bytes
        return -(-array.ctypes.data // ALIGNMENT) * ALIGNMENT

    def put(self, stream: Any, address: int, array: NDArray[Any]) -> None:
        ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)

    def get(self, stream: Any, address: int, out: NDArray[Any]) -> NDArray[Any]:
        ctypes.memmove(out.ctypes.data, address, out.nbytes)
        return out

    def close(self) -> None:
        self._arrays.clear()


class HostKernel:
    """One kernel, launched as the driver would launch it."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self._launch = library[f"launch_{name}"]
        sizes = (ctypes.c_int * 32)()
        count = library[f"sizes_{name}"](sizes)
        self._sizes = list(sizes[:count])

    def launch(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        stream: Any,
        args: Sequence[Any],
    ) -> None:
        assert stream is STREAM
        assert [ctypes.sizeof(each) for each in args] == self._sizes
        assert grid[2] == block[1] == block[2] == 1
        assert block[0] % 32 == 0
        values = (ctypes.c_void_p * len(args))(*(ctypes.addressof(each) for each in args))
        self._launch((ctypes.c_uint * 2)(*grid[:2]), ctypes.c_uint(block[0]), values)


def compiled_kernels(folder: Path) -> SmallKernels:
    """Compile the small kernels for this computer."""
    source = SOURCE.read_text()
    assert source.count(_ROUNDING) == 1
    file = folder / "small_kernels.cpp"
    entries = "".join(f"ENTRY({name})\n" for name in NAMES)
    text = source.replace(_ROUNDING, _AS_ON_A_CPU)
    file.write_text(f'#include "host_kernels.hpp"\n{text}\n{entries}')
    library = folder / "small_kernels.so"
    command = [
        "g++", "-std=c++17", "-O1", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-shared", "-fPIC",
        f"-I{Path(__file__).parent}", str(file), "-o", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    return SmallKernels({name: HostKernel(loaded, name) for name in NAMES})


def at(address: int, rows: int, columns: int) -> NDArray[np.uint16]:
    """Bits of a row-major bf16 matrix in this process's memory."""
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint16))
    return np.ctypeslib.as_array(pointer, (rows, columns))


class LtError(Exception):
    """What nvmath raises."""

    status = 7


class HostCublasLt:
    """Stands for nvmath's `cublasLt`: descriptors are numbers, products are numpy's.

    Args:
        algorithms: how many the heuristic answers.
    """

    cuBLASLtError = LtError  # noqa: N815 - its name there

    def __init__(self, algorithms: int = 1) -> None:
        self.algorithms = algorithms
        self.made: dict[int, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.products: list[tuple[int, int, int]] = []

    def _make(self, **what: Any) -> int:
        number = 0x1000 + len(self.made)
        self.made[number] = {**what, "alive": True}
        return number

    def create(self) -> int:
        return self._make(kind="handle")

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        assert (compute, scale) == (68, 0)  # CUBLAS_COMPUTE_32F, CUDA_R_32F
        return self._make(kind="desc")

    def matrix_layout_create(self, kind: int, rows: int, columns: int, leading: int) -> int:
        assert kind == 14  # CUDA_R_16BF
        return self._make(kind="layout", rows=rows, columns=columns, leading=leading)

    def matmul_preference_create(self) -> int:
        return self._make(kind="preference")

    def _destroy(self, number: int) -> None:
        assert self.made[number]["alive"]
        self.made[number]["alive"] = False

    destroy = matmul_desc_destroy = matrix_layout_destroy = matmul_preference_destroy = _destroy

    def matmul_desc_set_attribute(self, desc: int, attribute: int, at: int, size: int) -> None:
        assert (attribute, size) == (3, 4)  # CUBLASLT_MATMUL_DESC_TRANSA, int32
        self.made[desc]["transposed"] = ctypes.c_int32.from_address(at).value

    def matmul_preference_set_attribute(
        self, made: int, attribute: int, at: int, size: int
    ) -> None:
        wide = {1: ctypes.c_uint64}.get(attribute, ctypes.c_uint32)
        assert size == ctypes.sizeof(wide)
        self.made[made][str(attribute)] = wide.from_address(at).value

    def MatmulHeuristicResult(self, size: int) -> Any:  # noqa: N802 - its name there
        held = np.zeros(size, np.dtype([("algo", "u8", 8), ("workspace", "u8"), ("rest", "u8", 3)]))
        return SimpleNamespace(
            _data=held, ptr=held.ctypes.data, workspace_size=np.full(size, 1 << 20, np.uint64)
        )

    def matmul_algo_get_heuristic(
        self, handle: int, desc: int, a: int, b: int, c: int, d: int, preference: int, most: int,
        results: int, found: int,
    ) -> None:  # fmt: skip
        assert self.made[handle]["kind"] == "handle"
        assert c == d
        self.asked.append(dict(self.made[preference]))
        ctypes.c_int32.from_address(found).value = min(most, self.algorithms)

    def matmul(
        self, handle: int, desc: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int,
        beta: int, c: int, c_layout: int, d: int, d_layout: int, algorithm: int, workspace: int,
        workspace_bytes: int, stream: int,
    ) -> None:  # fmt: skip
        assert ctypes.c_float.from_address(alpha).value == 1
        assert ctypes.c_float.from_address(beta).value == 0
        assert (c, c_layout, stream) == (d, d_layout, STREAM.handle)
        assert workspace
        assert algorithm
        assert workspace_bytes == 1 << 20
        made = self.made
        assert all(made[each]["alive"] for each in (handle, desc, a_layout, b_layout, d_layout))
        first = _columns(a, made[a_layout])
        if made[desc].get("transposed"):
            first = first.T
        product = first @ _columns(b, made[b_layout])
        out = made[d_layout]
        assert product.shape == (out["rows"], out["columns"])
        at(d, out["columns"], out["leading"])[:, : out["rows"]] = to_bits(product.T)
        self.products.append((out["columns"], out["rows"], first.shape[1]))


def _columns(address: int, layout: dict[str, Any]) -> NDArray[np.float64]:
    """A column-major matrix."""
    return of_bits(at(address, layout["columns"], layout["leading"])[:, : layout["rows"]]).T


class HostCublas:
    """Stands for nvmath's `cublas`, grouped products alone."""

    cuBLASError = LtError  # noqa: N815 - its name there

    def __init__(self) -> None:
        self.products: list[tuple[int, int, int]] = []
        self.destroyed = 0

    def create(self) -> int:
        return 0x77

    def set_stream(self, handle: int, stream: int) -> None:
        assert (handle, stream) == (0x77, STREAM.handle)

    def set_workspace(self, handle: int, workspace: int, size: int) -> None:
        assert workspace
        assert size

    def destroy(self, handle: int) -> None:
        self.destroyed += 1

    def gemm_grouped_batched_ex(
        self, handle: int, transa: list[int], transb: list[int], m: list[int], n: list[int],
        k: list[int], alpha: int, a: int, a_kind: int, lda: list[int], b: int, b_kind: int,
        ldb: list[int], beta: int, c: int, c_kind: int, ldc: list[int], groups: int,
        sizes: list[int], compute: int,
    ) -> None:  # fmt: skip
        assert (a_kind, b_kind, c_kind, compute) == (14, 14, 14, 68)
        assert sizes == [1] * groups
        pointers = [
            np.ctypeslib.as_array(ctypes.cast(each, ctypes.POINTER(ctypes.c_uint64)), (groups,))
            for each in (a, b, c)
        ]
        for group in range(groups):
            assert (transa[group], transb[group]) == (1, 0)
            rows, columns, inner = m[group], n[group], k[group]
            weight = of_bits(at(int(pointers[0][group]), rows, lda[group])[:, :inner])
            x = of_bits(at(int(pointers[1][group]), columns, ldb[group])[:, :inner])
            at(int(pointers[2][group]), columns, ldc[group])[:, :rows] = to_bits(x @ weight.T)
            self.products.append((columns, rows, inner))
