"""kept_batches: the batches of a simulated run, which say in which order a request's pages stand.

A log of operations lists what a step attends to tier by tier. Where kernels read several tiers, new
tokens would be written into another of their request's pages.
"""

from vsim.sim.engine.backend import Operation, StepBatch
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State


def kept_batches(state: State) -> list[StepBatch]:
    """Simulate from a fresh state, step by step, and return every step's batch, in order."""
    backend = _Keeping(state)
    drive(state, backend)
    return backend.batches


class _Keeping(SimulatedBackend):
    """A simulated backend that keeps the batches."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.batches: list[StepBatch] = []

    def submit(self, operation: Operation) -> None:
        """As the simulated backend's."""
        if operation.batch is not None:
            self.batches.append(operation.batch)
        super().submit(operation)
