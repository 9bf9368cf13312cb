"""`StackCase`: what a policy over tiers is asked to place; `StackPlacement`: what it answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vsim.sim.placement.retention import Seen
from vsim.sim.placement.stack.cost import StackCost, evaluate_stack
from vsim.sim.placement.stack.schedule import TierSchedule
from vsim.sim.schedules.tier_stack import FREE, TierStack
from vsim.sim.schedules.two_tiers import Start, first_fill_order
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class StackCase:
    """Reads, the tiers they run on, and where pages are at the start.

    Attributes:
        reads, stack: the case.
        start: `first-fill` puts the prompt into HBM while it has room, then into the tier below,
            and so on; `empty` puts it into the last tier; `free` leaves it to the policy.
        seen: attention mass for policies that follow it, or None.
    """

    reads: PageReads
    stack: TierStack
    start: Start = "first-fill"
    seen: Seen | None = None

    def may_start(self) -> Int32s:
        """int32[n_pages]: the tier of each page before step 0, FREE where a policy chooses."""
        if self.start == "free":
            return np.full(self.reads.n_pages, FREE, np.int32)
        return self.starts()

    def starts(self) -> Int32s:
        """int32[n_pages]: the tier of each page before step 0; of a free choice, the first-fill."""
        where = np.full(self.reads.n_pages, self.stack.tiers - 1, np.int32)
        if self.start != "empty":
            order = first_fill_order(self.reads)
            ends = np.cumsum(self.stack.room())
            where[order] = np.searchsorted(ends, np.arange(len(order)), side="right")
        return where

    def by_layer(self) -> "StackCase":
        """The same case with a time for each step and layer. Mass is dropped."""
        layers = len(np.unique(self.reads.layer))
        split = replace(self.stack, weight_bytes=self.stack.weight_bytes // layers)
        return replace(self, reads=self.reads.by_layer(), stack=split, seen=None)

    def cost(self, schedule: TierSchedule) -> StackCost:
        """Judge a schedule; at a free start whatever it holds at step 0 is there for nothing."""
        return evaluate_stack(self.reads, self.stack, schedule, self.may_start())


@dataclass(frozen=True, slots=True, eq=False)
class StackPlacement:
    """A policy's schedule.

    Attributes:
        name: the policy.
        schedule: what it decided.
        oracle: whether it saw the future.
        facts: what else it has to say.
    """

    name: str
    schedule: TierSchedule
    oracle: bool
    facts: Mapping[str, float] = field(default_factory=dict)
