"""Matrix: the weights of one product of a layer, and what of them lies on one GPU."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["attention", "linear", "dense", "shared", "experts", "router", "other"]
"""Whose weights they are; a checkpoint may keep each in a precision of its own.

`linear` are mixers with a state in place of keys, `shared` the experts that every token meets,
`other` small ones that checkpoints leave in bf16.
"""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Weights of a product: `outputs` x `inputs`, `count` of them side by side.

    Args:
        product: its kernel's name; matrices of a part with the same one are multiplied as one.
        inputs: width of what comes in.
        outputs: width of what goes out.
        role: whose weights they are.
        split: which side tensor parallelism splits; `none`: each GPU holds all of it.
        units: heads along that side, which stay whole: where there are fewer than GPUs, several
            GPUs hold the same one. 0: the side is split anywhere.
        count: how many such matrices: a layer's experts.
    """

    product: str
    inputs: int
    outputs: int
    role: Role
    split: Literal["outputs", "inputs", "none"] = "outputs"
    units: int = 0
    count: int = 1

    @property
    def weights(self) -> int:
        """How many, each counted once."""
        return self.count * self.inputs * self.outputs

    def held(self, tensor: int) -> int:
        """How many `tensor` GPUs hold together: what several of them hold counts for each."""
        if self.split == "none":
            return tensor * self.weights
        return self.weights * (max(1, tensor // self.units) if self.units else 1)

    def on_gpu(self, tensor: int) -> tuple[int, int]:
        """Outputs and inputs of one such matrix on one of `tensor` GPUs."""
        outputs, inputs = self.outputs, self.inputs
        if self.split == "outputs":
            outputs = self._share(outputs, tensor)
        elif self.split == "inputs":
            inputs = self._share(inputs, tensor)
        return outputs, inputs

    def _share(self, width: int, tensor: int) -> int:
        if not self.units:
            return width // tensor
        return width // self.units * max(1, self.units // tensor)
