"""`TensorWork`: a step of a model over several GPUs, launched part by part with sums between."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, Protocol

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.all_reduce import AllReduce
from vsim.hwbackend.dense.tensor_parallel import TensorParallelStep
from vsim.hwbackend.replay.closing import close_current, closing
from vsim.hwbackend.replay.model_work import ModelWork, ModelWorkMaker
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.source import Source
from vsim.hwbackend.replay.step_limits import Limits
from vsim.sim.engine.backend import StepBatch

_SUMS_BYTES: Final = 1 << 30
"""Of NCCL's buffers and kernels on a GPU, rounded up."""


class GpusWork(Protocol):
    """Launches steps on several GPUs. Holds memory until `close`.

    Streams, batches and rooms are one a GPU, in the order of ranks. Each call may leave any of the
    GPUs' contexts current.
    """

    def prepare(self, streams: Sequence[Stream], batches: Sequence[StepBatch]) -> None:
        """Upload what the next step needs. `batch.indices` are units of each GPU's block table."""
        ...

    def launch(self, streams: Sequence[Stream]) -> None:
        """Put the step's kernels on the streams; nothing is allocated, copied up or waited for."""
        ...

    def verify(self, streams: Sequence[Stream]) -> int:
        """As `StepWork.verify`, on every GPU."""
        ...

    def abort(self) -> None:
        """Let no GPU wait for another one any longer; nothing can be launched afterwards."""
        ...

    def close(self) -> None:
        """Give everything back; nothing is under way."""
        ...


class GpusWorkMaker(Protocol):
    """Makes what steps launch, once the memory for pages is there."""

    def bytes(self, limits: Limits) -> int:
        """What it takes of each GPU, pages excluded."""
        ...

    def make(
        self, contexts: Sequence[Context], rooms: Sequence[PageRoom], limits: Limits
    ) -> GpusWork:
        """Make it."""
        ...


class TensorWorkMaker:
    """Makes the work of a source's model. Raises InputError for one that can't be cut so.

    Args:
        source: what is replayed.
    """

    def __init__(self, source: Source) -> None:
        self._part = ModelWorkMaker(source)

    def bytes(self, limits: Limits) -> int:
        """See GpusWorkMaker."""
        return self._part.bytes(limits) + _SUMS_BYTES

    def make(
        self, contexts: Sequence[Context], rooms: Sequence[PageRoom], limits: Limits
    ) -> "TensorWork":
        """See GpusWorkMaker."""
        return TensorWork(contexts, rooms, limits, self._part)


class TensorWork:
    """Launches whole steps of a model over GPUs. Holds weights, buffers and sums until `close`.

    Every GPU draws the same words and the same routing. A number of tokens that was never computed
    before is computed once outside of any graph: that loads kernels, and connects the GPUs.

    Args:
        contexts: of the GPUs.
        rooms: each one's share of the pages.
        limits: the largest step.
        maker: makes each one's part.
    """

    def __init__(
        self,
        contexts: Sequence[Context],
        rooms: Sequence[PageRoom],
        limits: Limits,
        maker: ModelWorkMaker,
    ) -> None:
        self._contexts = tuple(contexts)
        parts: list[ModelWork] = []
        with ExitStack() as held:
            self._sums = AllReduce([context.device.ordinal for context in contexts])
            held.push(closing(self._sums.close))
            for rank, (context, room) in enumerate(zip(contexts, rooms, strict=True)):
                context.make_current()
                part = maker.make(context, room, limits, rank)
                held.push(closing(close_current(context, part.close)))
                parts.append(part)
            self._step = TensorParallelStep([part.step for part in parts], self._sums)
            self._held = held.pop_all()
        self._parts = tuple(parts)

    def prepare(self, streams: Sequence[Stream], batches: Sequence[StepBatch]) -> None:
        """See GpusWork."""
        are_new = []
        for context, part, stream, batch in zip(
            self._contexts, self._parts, streams, batches, strict=True
        ):
            context.make_current()
            are_new.append(part.load(stream, batch))
        if any(are_new):
            self.launch(streams)

    def launch(self, streams: Sequence[Stream]) -> None:
        """See GpusWork."""
        loaded = self._parts[0].loaded
        self._step.launch(
            streams,
            loaded.tokens,
            loaded.sampled,
            lambda rank, layer: self._parts[rank].attend(streams[rank], layer),
            [part.target for part in self._parts],
        )

    def verify(self, streams: Sequence[Stream]) -> int:
        """See GpusWork."""
        looked = 0
        for context, part, stream in zip(self._contexts, self._parts, streams, strict=True):
            context.make_current()
            looked += part.verify(stream)
        return looked

    def abort(self) -> None:
        """See GpusWork."""
        self._sums.abort()

    def close(self) -> None:
        """See GpusWork."""
        self._held.close()
