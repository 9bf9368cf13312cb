"""`carry_out`: the operations of a plan on a backend, in the plan's own order, and their times."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from vsim.hwbackend.replay.plan import Plan, Planned
from vsim.sim.engine.backend import Backend, Completion

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Timed:
    """When an operation was carried out, ns on the backend's clock.

    Args:
        submit_ns: when it was submitted.
        began_ns: of a step, when its first kernel began; of a copy, as `submit_ns`.
        end_ns: when it ended.
    """

    submit_ns: int
    began_ns: int
    end_ns: int

    @property
    def kernels_ns(self) -> int:
        """How long it took without what the host did before."""
        return self.end_ns - self.began_ns


def carry_out(plan: Plan, backend: Backend, progress: Progress | None = None) -> list[Timed]:
    """Carry a plan out; the backend is closed at the end, however that comes.

    An operation is submitted when all have ended that had ended when it was submitted in the plan.
    So what ran side by side does so again, and time in which the plan waited for requests is not
    waited for.

    Args:
        plan: what to do.
        backend: carries it out.
        progress: told how many steps are done.

    Returns:
        A `Timed` for each operation, in the plan's order.
    """
    operations = plan.operations
    by_end = sorted(range(len(operations)), key=lambda number: operations[number].end_ns)
    submitted: dict[int, int] = {}
    found: dict[int, Timed] = {}
    ended = steps = 0
    with closing(backend):
        for number, planned in enumerate(operations):
            while ended < len(by_end) and operations[by_end[ended]].end_ns <= planned.submit_ns:
                while by_end[ended] not in found:
                    steps += _take(backend.wait(), operations, submitted, found)
                    if progress is not None:
                        progress(steps, plan.steps)
                ended += 1
            submitted[number] = backend.now_ns()
            backend.submit(planned.operation)
        while len(found) < len(operations):
            steps += _take(backend.wait(), operations, submitted, found)
            if progress is not None:
                progress(steps, plan.steps)
    return [found[number] for number in range(len(operations))]


def _take(
    done: Completion | None,
    operations: tuple[Planned, ...],
    submitted: dict[int, int],
    found: dict[int, Timed],
) -> int:
    """Note what finished; returns how many steps that were."""
    if done is None:
        raise RuntimeError("the backend has nothing under way, and not all operations have ended")
    for serial in done.serials:
        submit = submitted[serial]
        began = done.began_ns if done.began_ns >= 0 else submit
        found[serial] = Timed(min(submit, began), began, done.at_ns)
    return done.kind == "step"
