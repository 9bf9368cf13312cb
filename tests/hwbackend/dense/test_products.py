"""Products ask cuBLASLt once a shape, tell it what is true of the addresses, and fail by name."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.hwbackend.dense.host_gpu import STREAM, HostCublas, HostCublasLt, HostMemory, LtError

from vsim.hwbackend.cuda.errors import CudaError
from vsim.hwbackend.dense.cublaslt import CublasLt, bindings_of
from vsim.hwbackend.dense.grouped import Addresses, GroupedProducts
from vsim.hwbackend.dense.products import WORKSPACE_BYTES, Products, Weight, alignment_of
from vsim.hwbackend.dense.reference import read_numbers, relative_error, to_bits
from vsim.traces.faults import InputError


class Bench:
    """Products over this computer's memory, with random operands of a few shapes."""

    def __init__(self, bindings: HostCublasLt) -> None:
        self.bindings, self.memory = bindings, HostMemory()
        self.products = Products(self.memory, CublasLt(bindings))
        self.generator = np.random.default_rng(0)

    def drawn(self, rows: int, columns: int, ahead: int = 0) -> int:
        """Address of a random matrix, `ahead` bytes behind a multiple of 256."""
        address = self.memory.take(2 * rows * columns + ahead) + ahead
        bits = to_bits(self.generator.standard_normal((rows, columns)))
        self.memory.put(STREAM, address, bits)
        return address

    def weight(self, n: int, k: int) -> Weight:
        return Weight(self.drawn(n, k), n, k)

    def read(self, address: int, rows: int, columns: int) -> Any:
        return read_numbers(self.memory, STREAM, address, rows, columns)

    def multiply(self, m: int, n: int, k: int, ahead: int = 0) -> float:
        """Error of a product."""
        weight, x, y = self.weight(n, k), self.drawn(m, k, ahead), self.memory.take(2 * m * n)
        self.products.multiply(STREAM, x, weight, y, m)
        right = self.read(x, m, k) @ self.read(weight.address, n, k).T
        return relative_error(self.read(y, m, n), right)


@pytest.fixture
def bench() -> Bench:
    return Bench(HostCublasLt())


@pytest.mark.parametrize(("m", "n", "k"), [(1, 24, 40), (7, 16, 8), (33, 48, 64)])
def test_a_product_is_x_times_the_weight_transposed(bench: Bench, m: int, n: int, k: int) -> None:
    assert bench.multiply(m, n, k) < 0.004  # half of bf16's last place
    assert bench.bindings.products == [(m, n, k)]


def test_a_shape_is_planned_once(bench: Bench) -> None:
    for m in (4, 4, 5, 4):
        bench.multiply(m, 16, 32)
    assert len(bench.bindings.asked) == 2
    assert bench.bindings.asked[0]["1"] == WORKSPACE_BYTES


def test_the_heuristic_is_told_the_alignment_of_the_addresses(bench: Bench) -> None:
    bench.multiply(4, 16, 32)
    bench.multiply(4, 16, 32, ahead=16)
    told = [[asked[number] for number in "5678"] for asked in bench.bindings.asked]
    assert told == [[256] * 4, [16] * 4]


def test_alignment_is_the_largest_power_of_two_up_to_256_of_all() -> None:
    assert alignment_of(0, 512, 1 << 40) == 256
    assert alignment_of(1 << 20, (1 << 20) + 32) == 32
    assert alignment_of(64, 2) == 2


def test_nothing_is_launched_or_planned_for_no_tokens(bench: Bench) -> None:
    bench.products.multiply(STREAM, 0, Weight(0, 8, 8), 0, 0)
    assert bench.bindings.products == bench.bindings.asked == []


def test_candidates_are_as_many_as_there_are_and_each_multiplies() -> None:
    bench = Bench(HostCublasLt(algorithms=3))
    weight, x, y = bench.weight(16, 32), bench.drawn(4, 32), bench.memory.take(2 * 4 * 16)
    plans = bench.products.candidates(4, 16, 32, most=8)
    assert len({plan.algorithm for plan in plans}) == 3
    for plan in plans:
        bench.products.multiply_as(STREAM, plan, x, weight, y)
    assert bench.bindings.products == [(4, 16, 32)] * 3


def test_a_shape_without_an_algorithm_fails_by_its_numbers() -> None:
    bench = Bench(HostCublasLt(algorithms=0))
    with pytest.raises(CudaError, match="bf16 product of m 4, n 16, k 32 failed: no algorithm"):
        bench.multiply(4, 16, 32)


def test_what_the_library_says_stands_in_the_error() -> None:
    class Refusing(HostCublasLt):
        def matmul_algo_get_heuristic(self, *args: Any) -> None:
            raise LtError("the value is not supported (CUBLAS_STATUS_NOT_SUPPORTED)")

    with pytest.raises(CudaError, match="CUBLAS_STATUS_NOT_SUPPORTED") as failed:
        Bench(Refusing()).multiply(4, 16, 32)
    assert (failed.value.code, failed.value.detail) == (7, "bf16 product of m 4, n 16, k 32")


def test_everything_made_is_given_back_also_after_a_failure() -> None:
    bench = Bench(HostCublasLt())
    bench.multiply(4, 16, 32)
    bench.bindings.algorithms = 0
    with bench.products, pytest.raises(CudaError):
        bench.multiply(5, 16, 32)
    assert [made for made in bench.bindings.made.values() if made["alive"]] == []


def test_without_the_bindings_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nvmath.bindings.cublasLt", None)
    with pytest.raises(InputError, match=r"nvmath-python can't be imported .*vsim\[gpu\]"):
        bindings_of("cublasLt")


def test_grouped_products_multiply_each_weight_with_its_own_tokens() -> None:
    bench, cublas = Bench(HostCublasLt()), HostCublas()
    grouped = GroupedProducts(bench.products.workspace, cublas)
    tokens, n, k = (3, 1, 8), 16, 24
    weights = [bench.drawn(n, k) for _ in tokens]
    inputs = [bench.drawn(m, k) for m in tokens]
    outputs = [bench.memory.take(2 * m * n) for m in tokens]
    tables = []
    for row in (weights, inputs, outputs):
        tables.append(bench.memory.take(8 * len(tokens)))
        bench.memory.put(STREAM, tables[-1], np.array(row, np.uint64))
    grouped.multiply(STREAM, tokens, Addresses(*tables), n, k)
    for m, weight, x, y in zip(tokens, weights, inputs, outputs, strict=True):
        right = bench.read(x, m, k) @ bench.read(weight, n, k).T
        assert relative_error(bench.read(y, m, n), right) < 0.004
    grouped.multiply(STREAM, (), Addresses(0, 0, 0), n, k)
    assert cublas.products == [(m, n, k) for m in tokens]
    grouped.close()
    grouped.close()
    assert cublas.destroyed == 1


def test_a_grouped_product_that_fails_names_its_shape() -> None:
    def fail(*args: Any) -> None:
        raise LtError("(CUBLAS_STATUS_EXECUTION_FAILED)")

    bindings = SimpleNamespace(
        cuBLASError=LtError, create=lambda: 1, set_stream=lambda *_: None,
        set_workspace=lambda *_: None, gemm_grouped_batched_ex=fail,
    )  # fmt: skip
    with pytest.raises(CudaError, match=r"of 2 products of n 16, k 8 failed: .*EXECUTION_FAILED"):
        GroupedProducts((1, 1), bindings).multiply(STREAM, (1, 2), Addresses(1, 2, 3), 16, 8)
