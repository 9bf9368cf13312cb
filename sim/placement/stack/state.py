"""`PathState`: a schedule as a table, with the loads and occupancies that re-planning keeps up."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.placement.stack.case import StackCase
from vsim.sim.placement.stack.cost import count
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.schedules.by_page import StepsByPage
from vsim.sim.schedules.cost import births

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Arrays = tuple[
    Int8s, Int8s, Int32s, Int8s, Int64s, Int64s, Floats, Int64s, float, Int64s, Floats, Int64s
]


@dataclass(frozen=True, slots=True, eq=False)
class PathState:
    """Where all pages are, and what that costs; its arrays are changed in place by kernels.

    Attributes:
        case: what is placed.
        where: int8[n_pages, T], the tier of each page at each step.
        loads: float64[T, resources], seconds, weights included.
        occupancy: int64[T, K − 1].
        read: int8[n_pages, T], 1 where a step reads a page.
        page_s: float64[resources], seconds of one page.
    """

    case: StackCase
    where: Int8s
    loads: Floats
    occupancy: Int64s
    read: Int8s
    page_s: Floats

    @staticmethod
    def of(case: StackCase, schedule: TierSchedule) -> "PathState":
        """Lay a schedule out."""
        reads, stack = case.reads, case.stack
        where = schedule.table(reads.steps, reads.n_pages, stack.tiers - 1)
        by_page = StepsByPage.of(reads)
        _, loads, _, occupancy = count(
            where, by_page.offsets, by_page.steps, reads.born, case.may_start(), stack.reads(),
            stack.moves(),
        )  # fmt: skip
        page_s = reads.page_bytes / np.array(stack.bytes_per_s)[stack.tier_of()]
        seconds = (loads + stack.written_through(births(reads))) * page_s
        seconds[:, 0] += stack.weight_bytes / stack.bytes_per_s[0]
        read = np.zeros(where.shape, np.int8)
        read[reads.pages, np.repeat(np.arange(reads.steps), reads.reads_per_step)] = 1
        above = np.ascontiguousarray(occupancy[:, :-1])
        return PathState(case, where, seconds, above, read, page_s)

    def schedule(self) -> TierSchedule:
        """The schedule that the table has become."""
        return TierSchedule.of_table(self.where, self.case.stack.tiers - 1)

    def arrays(self) -> Arrays:
        """What the kernels of `paths` take first, in their order."""
        reads, stack = self.case.reads, self.case.stack
        return (
            self.where, self.read, reads.born, self.case.may_start().astype(np.int8),
            stack.reads(), stack.moves(), self.page_s, stack.tier_of(), stack.norm, stack.room(),
            self.loads, self.occupancy,
        )  # fmt: skip
