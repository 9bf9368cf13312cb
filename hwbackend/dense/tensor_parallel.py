"""`TensorParallelStep`: one step of a model over the GPUs of one process, part by part.

Every GPU launches its part up to a sum, then the sums are launched together, and so on. The host
launches for one GPU after the other; in a graph of each GPU that takes no time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.model_step import ModelStep
from vsim.hwbackend.dense.small_kernels import KvTarget


class Sums(Protocol):
    """What sums buffers over GPUs: `all_reduce.AllReduce`."""

    def sum(self, streams: Sequence[Stream], addresses: Sequence[int], count: int) -> None:
        """Launch a sum of so many numbers, in place."""


class TensorParallelStep:
    """Launches steps of a model over several GPUs.

    Args:
        steps: each GPU's part, in the order of ranks.
        sums: over those GPUs.
    """

    def __init__(self, steps: Sequence[ModelStep], sums: Sums) -> None:
        sizes = {step.shape.tensor for step in steps}
        if sizes != {len(steps)}:
            raise ValueError(f"{len(steps)} parts of a model that is cut into {sizes}")
        self.steps = tuple(steps)
        self._sums = sums

    def launch(
        self,
        streams: Sequence[Stream],
        tokens: int,
        sampled: int,
        attention: Callable[[int, int], None],
        kv: Sequence[KvTarget],
    ) -> None:
        """Launch a step on all GPUs.

        Args:
            streams: of each GPU.
            tokens: of the batch loaded on each.
            sampled: of the batch loaded on each.
            attention: launches that of a rank's layer, in the rank's stream.
            kv: where each rank writes its keys and values.
        """
        parts = []
        for rank, (step, stream, to) in enumerate(zip(self.steps, streams, kv, strict=True)):
            parts.append(step.parts(stream, tokens, sampled, partial(attention, rank), to))
        while True:
            sums = []
            for step, part in zip(self.steps, parts, strict=True):
                step.memory.context.make_current()
                reduction = next(part, None)
                if reduction is not None:
                    sums.append(reduction)
            if not sums:
                return
            self._sums.sum(streams, [each.address for each in sums], sums[0].count)
