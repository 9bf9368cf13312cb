"""`StepWork`: what a step launches; the carrier knows nothing more of it."""

from typing import Protocol

from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.replay.rooms import PageRoom
from vsim.hwbackend.replay.step_limits import Limits
from vsim.sim.engine.backend import StepBatch


class StepWork(Protocol):
    """Launches steps. Holds memory until `close`."""

    def prepare(self, stream: Stream, batch: StepBatch) -> None:
        """Upload what the next step needs. `batch.indices` are units of the block table."""
        ...

    def launch(self, stream: Stream) -> None:
        """Put the step's kernels on a stream; nothing is allocated, copied up or waited for."""
        ...

    def verify(self, stream: Stream) -> int:
        """Hold some of what the step that ended computed against a reference; how many.

        Raises:
            WrongOutputError: it differs.
        """
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class WorkMaker(Protocol):
    """Makes what steps launch, once the memory for pages is there."""

    def bytes(self, limits: Limits) -> int:
        """What it takes of the GPU, pages excluded."""
        ...

    def make(self, context: Context, room: PageRoom, limits: Limits) -> StepWork:
        """Make it."""
        ...
