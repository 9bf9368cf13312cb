"""A step launched through descriptors, addresses and kernels makes what numpy makes of the same."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from tests.hwbackend.dense.host_gpu import STREAM, HostCublas, HostCublasLt, HostMemory
from tests.seeds import some

from vsim.hwbackend.dense.cublaslt import CublasLt
from vsim.hwbackend.dense.grouped import GroupedProducts
from vsim.hwbackend.dense.model_step import ModelStep, StepLimits
from vsim.hwbackend.dense.products import Products
from vsim.hwbackend.dense.reference import (
    HostModel,
    expected_step,
    read_numbers,
    relative_error,
)
from vsim.hwbackend.dense.routing import Routing
from vsim.hwbackend.dense.shape import BF16_BYTES, DenseShape, RoutedExperts
from vsim.hwbackend.dense.small_kernels import KvTarget, SmallKernels
from vsim.hwbackend.dense.tensor_parallel import TensorParallelStep

TOKENS, SAMPLED = 5, 3
SMALL = DenseShape(
    "small", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn_hidden=48, vocabulary=96
)
ROUTED = replace(SMALL, ffn_hidden=0, routed=RoutedExperts(experts=4, per_token=2, width=32))
IDS = np.array([5, 0, 95, 7, 7], np.int32)
POSITIONS = np.array([0, 1, 2, 40, 99], np.int32)
ROWS = np.array([4, 0, 2], np.int32)


class Gpu:
    """One GPU's part of a model, ready to launch, with KV pages of its own."""

    def __init__(
        self, kernels: SmallKernels, shape: DenseShape, rank: int = 0, grouped: bool = False,
        **more: int,
    ) -> None:  # fmt: skip
        self.memory, self.bindings = HostMemory(), HostCublasLt()
        products = Products(self.memory, CublasLt(self.bindings), workspace_bytes=1 << 20)
        self.cublas = HostCublas()
        made = GroupedProducts(products.workspace, self.cublas) if grouped else None
        limits = StepLimits(TOKENS, SAMPLED, positions=100)
        self.step = ModelStep(
            shape, self.memory, products, kernels, STREAM, limits, rank=rank, grouped=made, **more
        )
        self.shape = shape
        # [layer][keys, values][token][head]: of any layout, the kernel takes strides
        token = BF16_BYTES * shape.kv_width
        self.kv = KvTarget(
            self.memory.take(self.step.layers * 2 * TOKENS * token),
            2 * TOKENS * token,
            BF16_BYTES * shape.head_dim,
            TOKENS * token,
        )
        self.places = np.arange(TOKENS)[::-1] * token  # in reverse, so that places count
        self.attended: list[int] = []
        self.step.load(STREAM, IDS, POSITIONS, self.places, ROWS)

    def attention(self, layer: int) -> None:
        self.attended.append(layer)
        size = BF16_BYTES * TOKENS * self.shape.query_width
        ctypes.memmove(self.step.attended, self.step.queries, size)

    def launch(self) -> None:
        self.step.launch(STREAM, TOKENS, SAMPLED, self.attention, self.kv)

    def written(self) -> np.ndarray:
        shape = self.shape
        sizes = self.step.layers, 2, TOKENS, shape.gpu_kv_heads, shape.head_dim
        return read_numbers(self.memory, STREAM, self.kv.base, *sizes)[:, :, ::-1]


def assert_made(gpus: list[Gpu], routings: list[Routing] | None = None) -> None:
    models = [HostModel.read(gpu.step, STREAM) for gpu in gpus]
    right = expected_step(models, IDS, POSITIONS, ROWS, routings or [])
    for rank, gpu in enumerate(gpus):
        shape = SAMPLED, gpu.shape.head.n
        logits = read_numbers(gpu.memory, STREAM, gpu.step._logits, *shape)
        assert relative_error(logits, right.logits[rank]) < 0.01
        assert gpu.step.next_tokens(STREAM, SAMPLED).tolist() == logits.argmax(axis=1).tolist()
        keys_values = np.stack([right.keys[rank], right.values[rank]], axis=1)
        assert relative_error(gpu.written(), keys_values) < 0.01
        assert gpu.attended == list(range(gpu.step.layers))


def test_a_step_makes_the_logits_keys_and_values_of_its_reference(kernels: SmallKernels) -> None:
    gpu = Gpu(kernels, SMALL)
    gpu.launch()
    assert_made([gpu])


def test_a_tied_head_is_the_embedding(kernels: SmallKernels) -> None:
    gpu = Gpu(kernels, replace(SMALL, tied=True))
    gpu.launch()
    assert gpu.step.weights.head.address == gpu.step.weights.embedding.address
    assert_made([gpu])


def test_layers_that_are_not_held_go_through_the_weights_of_others(kernels: SmallKernels) -> None:
    gpu = Gpu(kernels, SMALL, layers=5, layers_held=2)
    gpu.launch()
    assert len(gpu.step.weights.layers) == 2
    assert gpu.step.layer_weights(4) is gpu.step.layer_weights(0)
    assert_made([gpu])


@pytest.mark.parametrize("grouped", [False, True])
def test_experts_make_what_the_reference_makes(kernels: SmallKernels, grouped: bool) -> None:
    gpu = Gpu(kernels, ROUTED, grouped=grouped)
    generator = np.random.default_rng(7)
    routings = [Routing.drawn(generator, TOKENS, 4, 2) for _ in range(2)]
    gpu.step.route(STREAM, routings)
    gpu.launch()
    assert_made([gpu], routings)
    touched = sum(routing.touched for routing in routings)
    plain = sum((n, k) in ((64, 64), (64, 32)) for _, n, k in gpu.bindings.products)
    assert len(gpu.cublas.products) == (2 * touched if grouped else 0)
    assert plain >= (0 if grouped else 2 * touched)


class HostSums:
    """Sums over GPUs whose memory is this process's."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self.gpus, self.counts = gpus, []

    def sum(self, streams, addresses, count: int) -> None:  # type: ignore[no-untyped-def]  # a stand-in
        from vsim.hwbackend.dense.reference import to_bits

        self.counts.append(count)
        parts = [
            read_numbers(gpu.memory, STREAM, address, count)
            for gpu, address in zip(self.gpus, addresses, strict=True)
        ]
        for gpu, address in zip(self.gpus, addresses, strict=True):
            gpu.memory.put(STREAM, address, to_bits(np.sum(parts, axis=0)))


@pytest.mark.parametrize("shape", some([SMALL, replace(SMALL, tied=True), ROUTED], 2))
def test_two_gpus_make_together_what_the_reference_makes(
    kernels: SmallKernels, shape: DenseShape
) -> None:
    cut = replace(shape, tensor=2)
    gpus = [Gpu(kernels, cut, rank) for rank in range(2)]
    routings = [Routing.drawn(np.random.default_rng(3), TOKENS, 4, 2) for _ in range(2)]
    if cut.routed:
        for gpu in gpus:
            gpu.step.route(STREAM, routings)
    sums = HostSums(gpus)
    TensorParallelStep([gpu.step for gpu in gpus], sums).launch(
        [STREAM, STREAM], TOKENS, SAMPLED,
        lambda rank, layer: gpus[rank].attention(layer), [gpu.kv for gpu in gpus],
    )  # fmt: skip
    assert sums.counts == [TOKENS * 64] * 4  # two a layer
    assert_made(gpus, routings)


def test_a_batch_that_does_not_fit_is_refused(kernels: SmallKernels) -> None:
    step = Gpu(kernels, SMALL).step
    places = np.zeros(TOKENS)
    for ids, positions, rows, said in (
        (np.zeros(6), np.zeros(6), ROWS, "room for 1 to 5"),
        (IDS[:0], POSITIONS[:0], ROWS[:0], "room for 1 to 5"),
        (IDS, POSITIONS, np.arange(4), "4 sampled of at most 3"),
        (IDS + 1, POSITIONS, ROWS, "below 96"),  # a word that there is not
        (IDS, POSITIONS + 1, ROWS, "below 100"),  # a position without angles
        (IDS, POSITIONS, ROWS + 1, "below 5"),  # a row that there is not
        (IDS, POSITIONS[:4], ROWS, "4 numbers, not 5"),
    ):
        with pytest.raises(ValueError, match=said):
            step.load(STREAM, ids, positions, places[: len(ids)], rows)


def test_experts_are_not_launched_with_the_routing_of_another_batch(kernels: SmallKernels) -> None:
    gpu = Gpu(kernels, ROUTED)
    gpu.step.route(STREAM, [Routing.drawn(np.random.default_rng(0), 3, 4, 2)] * 2)
    with pytest.raises(ValueError, match="routed 3 tokens of layer 0, not 5"):
        gpu.launch()


def test_a_part_of_a_model_is_not_launched_alone(kernels: SmallKernels) -> None:
    gpu = Gpu(kernels, replace(SMALL, tensor=2))
    with pytest.raises(ValueError, match="is on 2 GPUs: launch all parts"):
        gpu.launch()
    with pytest.raises(ValueError, match="1 parts of a model that is cut into"):
        TensorParallelStep([gpu.step], HostSums([gpu]))
