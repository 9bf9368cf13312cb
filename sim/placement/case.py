"""`Case`: what a policy is asked to place, and `Placement`: what it answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vsim.sim.placement.retention import Seen
from vsim.sim.schedules.cost import Cost, evaluate
from vsim.sim.schedules.schedule import Schedule
from vsim.sim.schedules.two_tiers import Bools, Start, TwoTiers, may_start_resident
from vsim.traces.page_reads import PageReads


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Reads, the memory they run on, and where pages are at the start.

    Attributes:
        reads, tiers, start: the case.
        seen: attention mass for policies that follow it, or None.
    """

    reads: PageReads
    tiers: TwoTiers
    start: Start = "first-fill"
    seen: Seen | None = None

    def may_start_resident(self) -> Bools:
        """bool[n_pages]: the pages that any policy could have in HBM at the start."""
        return may_start_resident(self.reads, self.tiers, self.start)

    def resident(self) -> Bools:
        """bool[n_pages]: the pages this start puts there; of a free choice, the first-fill."""
        if self.start == "free":
            return may_start_resident(self.reads, self.tiers, "first-fill")
        return self.may_start_resident()

    def cost(self, schedule: Schedule) -> Cost:
        """Judge a schedule; at a free start whatever it holds at step 0 is there for nothing."""
        return evaluate(
            self.reads, self.tiers, schedule, None if self.start == "free" else self.resident()
        )

    def by_layer(self) -> "Case":
        """The same case with a time for each step and layer. Mass is dropped."""
        layers = len(np.unique(self.reads.layer))
        return replace(
            self, reads=self.reads.by_layer(), tiers=self.tiers.by_layer(layers), seen=None
        )


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A policy's schedule.

    Attributes:
        name: the policy.
        schedule: what it decided.
        oracle: whether it saw the future.
        facts: what else it has to say, such as the share of prefetches that were used.
    """

    name: str
    schedule: Schedule
    oracle: bool
    facts: Mapping[str, float] = field(default_factory=dict)
