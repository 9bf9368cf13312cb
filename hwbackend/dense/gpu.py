"""`DenseGpu`: what the dense parts need on one GPU, made in order and given back in reverse."""

from contextlib import ExitStack
from typing import Self

from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.modules import Module
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.grouped import GroupedProducts
from vsim.hwbackend.dense.memory import Memory
from vsim.hwbackend.dense.model_step import ModelStep, StepLimits
from vsim.hwbackend.dense.products import Products
from vsim.hwbackend.dense.shape import DenseShape
from vsim.hwbackend.dense.small_kernels import NAMES, SOURCE, SmallKernels


class DenseGpu:
    """Products, small kernels and memory on one GPU. Holds all of it until `close`.

    Args:
        context: the GPU's, current here and in every call.
        shape: of the model on it.
    """

    def __init__(self, context: Context, shape: DenseShape) -> None:
        self.shape = shape
        code = compiled(SOURCE, architecture(context.device.capability)).code
        with ExitStack() as held:
            self.memory = held.enter_context(Memory(context))
            self.products = held.enter_context(Products(self.memory))
            self.grouped: GroupedProducts | None = None
            if shape.routed is not None:
                self.grouped = GroupedProducts(self.products.workspace)
                held.callback(self.grouped.close)
            module = held.enter_context(Module(code))
            self.kernels = SmallKernels({name: module.kernel(name) for name in NAMES})
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def model_step(
        self,
        stream: Stream,
        limits: StepLimits,
        *,
        layers: int | None = None,
        layers_held: int | None = None,
        rank: int = 0,
    ) -> ModelStep:
        """Make a model's step, with weights drawn in `stream`; see `ModelStep`."""
        return ModelStep(
            self.shape, self.memory, self.products, self.kernels, stream, limits, layers=layers,
            layers_held=layers_held, rank=rank, grouped=self.grouped,
        )  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        self._held.close()
