"""Each small kernel by itself, on this computer, where a whole model would hide a fault."""

import math
from typing import Any

import numpy as np
import pytest
from tests.hwbackend.dense.host_gpu import STREAM, HostMemory

from vsim.hwbackend.dense.reference import read_numbers, relative_error, rounded, to_bits
from vsim.hwbackend.dense.small_kernels import ARGMAX_PARTS, NAMES, SOURCE, SmallKernels


class Bench:
    """Memory, and arrays put there."""

    def __init__(self, kernels: SmallKernels) -> None:
        self.kernels, self.memory = kernels, HostMemory()
        self.generator = np.random.default_rng(0)

    def put(self, array: Any) -> int:
        address = self.memory.take(array.nbytes)
        self.memory.put(STREAM, address, array)
        return address

    def drawn(self, *shape: int) -> tuple[int, Any]:
        values = rounded(self.generator.standard_normal(shape))
        return self.put(to_bits(values)), values

    def read(self, address: int, *shape: int) -> Any:
        return read_numbers(self.memory, STREAM, address, *shape)

    def argmax(self, logits: Any) -> list[int]:
        rows, columns = logits.shape
        parts = self.memory.take(8 * rows * ARGMAX_PARTS)
        out = self.memory.take(4 * rows)
        at = self.put(to_bits(logits))
        self.kernels.argmax(STREAM, at, parts, out, rows, columns)
        return self.memory.get(STREAM, out, np.empty(rows, np.int32)).tolist()  # type: ignore[no-any-return]  # a list of int


@pytest.fixture
def bench(kernels: SmallKernels) -> Bench:
    return Bench(kernels)


def test_the_source_has_the_kernels_that_are_launched() -> None:
    assert SOURCE.read_text().count('extern "C" __global__ void') == len(NAMES)


@pytest.mark.parametrize("width", [64, 264, 8_192, 16_384, 32_768])
def test_a_norm_takes_rows_of_up_to_four_vectors_a_thread(bench: Bench, width: int) -> None:
    delta, added = bench.drawn(3, width)
    residual, before = bench.drawn(3, width)
    weight, gain = bench.drawn(width)
    out = bench.memory.take(2 * 3 * width)
    bench.kernels.add_norm(STREAM, delta, residual, weight, out, 3, width)
    total = before + added
    scale = 1 / np.sqrt((total**2).mean(axis=1, keepdims=True) + 1e-5)
    assert bench.read(residual, 3, width).tolist() == rounded(total).tolist()
    assert relative_error(bench.read(out, 3, width), total * scale * gain) < 0.003


def test_a_norm_with_nothing_added_leaves_the_residual(bench: Bench) -> None:
    residual, before = bench.drawn(2, 64)
    weight, _ = bench.drawn(64)
    bench.kernels.add_norm(STREAM, None, residual, weight, bench.memory.take(256), 2, 64)
    assert bench.read(residual, 2, 64).tolist() == before.tolist()


def test_argmax_finds_the_first_of_equal_maxima_of_either_sign(bench: Bench) -> None:
    rising = np.zeros((5, 3001))
    rising[0] = -2.0
    rising[1, [7, 2900]] = 3.0
    rising[2] = np.linspace(-5, -1, 3001)
    rising[3, 3000] = 1.0
    rising[4] = -math.inf
    rising[4, 17] = -1e30
    expected = rounded(rising).argmax(axis=1).tolist()
    assert bench.argmax(rising) == expected
    assert expected[:2] == [0, 7]


def test_argmax_of_fewer_words_than_threads(bench: Bench) -> None:
    assert bench.argmax(np.array([[-1.0, -3.0, -0.5, -0.5]])) == [2]


def test_rows_are_gathered_in_any_order_and_repeatedly(bench: Bench) -> None:
    table, values = bench.drawn(6, 24)
    ids = np.array([5, 0, 5, 2], np.int32)
    out = bench.memory.take(2 * 4 * 24)
    bench.kernels.gather_rows(STREAM, table, bench.put(ids), out, 4, 24)
    assert bench.read(out, 4, 24).tolist() == values[ids].tolist()


def test_rows_of_a_token_are_added_up_by_their_shares(bench: Bench) -> None:
    rows, values = bench.drawn(6, 40)
    places = np.array([[0, 5], [3, 3]], np.int32)
    shares = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    out = bench.memory.take(2 * 2 * 40)
    bench.kernels.combine(STREAM, rows, bench.put(places), bench.put(shares), out, 2, 2, 40)
    right = (values[places] * shares[..., None]).sum(axis=1)
    assert relative_error(bench.read(out, 2, 40), right) < 0.003


def test_an_activation_of_many_blocks_a_row(bench: Bench) -> None:
    width = 8 * 300  # more than a block of 256 threads
    gate_up, values = bench.drawn(2, 2 * width)
    out = bench.memory.take(2 * 2 * width)
    bench.kernels.silu_mul(STREAM, gate_up, out, 2, width)
    gate, up = values[:, :width], values[:, width:]
    assert relative_error(bench.read(out, 2, width), gate / (1 + np.exp(-gate)) * up) < 0.003


def test_what_fills_weights_is_normal_and_follows_its_seed(bench: Bench) -> None:
    count = 1 << 16
    filled = []
    for seed in (1, 1, 2):
        out = bench.memory.take(2 * count)
        bench.kernels.fill_normal(STREAM, out, 2 * count, seed, mean=1.0, deviation=0.5)
        filled.append(bench.read(out, count))
    first, again, other = filled
    assert np.isfinite(first).all()
    assert first.tolist() == again.tolist()
    assert (first != other).mean() > 0.9
    for values in (first, other):
        z = (values - 1.0) / 0.5
        assert abs(z.mean()) < 5 / math.sqrt(count)
        assert abs(z.var() - 1) < 5 * math.sqrt(2 / count)
        assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / count)
    apart = np.corrcoef(first, other)[0, 1], np.corrcoef(first[:-1], first[1:])[0, 1]
    assert max(map(abs, apart)) < 5 / math.sqrt(count)


def test_nothing_is_launched_for_no_rows() -> None:
    kernels = SmallKernels({})  # would raise KeyError
    kernels.gather_rows(STREAM, 0, 0, 0, 0, 64)
    kernels.add_norm(STREAM, None, 0, 0, 0, 0, 64)
    kernels.silu_mul(STREAM, 0, 0, 0, 64)
    kernels.argmax(STREAM, 0, 0, 0, 0, 100)
