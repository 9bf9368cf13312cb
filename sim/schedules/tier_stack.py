"""`TierStack`: K memories from HBM down, and what a move between two of them loads."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.schedules.two_tiers import LEAST_BYTES_PER_S, MOST_BYTES_PER_S

Int64s = npt.NDArray[np.int64]

MOST_TIERS = 16
"""More than any machine has, and as many as a step's time is known to be exact for."""

FREE = -1
"""Start of a page that may begin in any tier."""


@dataclass(frozen=True, slots=True)
class TierStack:
    """Tiers from HBM down; the last must hold everything (None).

    A step attends to each page where it is. Beside these reads it carries moves, before or while
    it attends, and each move loads channels by one page each; HBM itself takes no load from moves.

    Exclusive: a page is in exactly one tier. A move from tier i to tier j loads the channel of i
    upwards (if i > 0) and the channel of j downwards (if j > 0).

    Inclusive: the last tier keeps a copy of every page, and a page may besides be in one tier above
    it, where it is read then. To leave that tier is free, for nothing is written; a move between
    tiers above the last, or up from the last, is paid as if exclusive. A page that the step before
    attended to, wherever it was, or wrote, has just been on the GPU, so that it moves as from HBM:
    free to HBM, one page downwards on the channel of any tier between. A page that decode writes is
    written through: one page on the last tier's channel downwards, in the step that writes it.

    For two tiers these are the moves that `placement.cost.evaluate` charges, exactly: inclusive, a
    page streamed in or written may stay for nothing and any other promotion is one page; exclusive,
    a promotion and a demotion are one page each.

    Attributes:
        bytes_per_s: bandwidth of each tier, or of the channel to it, each way.
        pages: how many pages each holds, None for any number.
        weight_bytes: pinned traffic of each step on HBM.
        duplex: channels carry both directions at once.
        exclusive: a page is in one tier only.
        norm: p of the step time (Σ tᵢᵖ)^(1/p) over the tiers' times, 1 or more; inf is max().
    """

    bytes_per_s: tuple[float, ...]
    pages: tuple[int | None, ...]
    weight_bytes: int = 0
    duplex: bool = True
    exclusive: bool = True
    norm: float = math.inf

    def __post_init__(self) -> None:
        if len(self.bytes_per_s) < 2 or len(self.bytes_per_s) != len(self.pages):
            raise ValueError("two tiers or more, each with a bandwidth and a number of pages")
        if self.tiers > MOST_TIERS:
            raise ValueError(f"{self.tiers} tiers; at most {MOST_TIERS}")
        if not all(LEAST_BYTES_PER_S <= b <= MOST_BYTES_PER_S for b in self.bytes_per_s):
            raise ValueError(
                f"bandwidths must be from {LEAST_BYTES_PER_S:g} to {MOST_BYTES_PER_S:g}"
            )
        if self.pages[-1] is not None:
            raise ValueError("the last tier must hold any number of pages (None)")
        if any(k is None or k < 0 for k in self.pages[:-1]):
            raise ValueError("tiers above the last hold 0 pages or more each")
        if self.weight_bytes < 0:
            raise ValueError("weight_bytes must not be negative")
        if not self.norm >= 1:
            raise ValueError(f"norm must be 1 or more, not {self.norm}")

    @property
    def tiers(self) -> int:
        """K."""
        return len(self.pages)

    @property
    def resources(self) -> int:
        """HBM, then each lower tier's channel up and down, or both in one."""
        return 1 + (self.tiers - 1) * (2 if self.duplex else 1)

    def up(self, tier: int) -> int:
        """The resource that reads a tier, or moves pages out of it upwards."""
        return 0 if tier == 0 else 1 + (tier - 1) * (2 if self.duplex else 1)

    def down(self, tier: int) -> int:
        """The resource that moves pages into a lower tier."""
        return self.up(tier) + (1 if self.duplex else 0)

    def room(self) -> Int64s:
        """int64[K − 1]: how many pages the tiers above the last hold."""
        return np.array([k or 0 for k in self.pages[:-1]], np.int64)

    def tier_of(self) -> Int64s:
        """int64[resources]: the tier that each resource belongs to."""
        found = np.zeros(self.resources, np.int64)
        for tier in range(1, self.tiers):
            found[[self.up(tier), self.down(tier)]] = tier
        return found

    def reads(self) -> Int64s:
        """int64[K, resources]: pages that one read loads, by the tier of the page."""
        table = np.zeros((self.tiers, self.resources), np.int64)
        for tier in range(self.tiers):
            table[tier, self.up(tier)] = 1
        return table

    def moves(self) -> Int64s:
        """int64[2, K, K, resources]: pages that a move from i to j loads.

        First of a page that the step before neither attended to nor wrote, then of one that it did.
        """
        last = self.tiers - 1
        table = np.zeros((2, self.tiers, self.tiers, self.resources), np.int64)
        for i in range(self.tiers):
            for j in range(self.tiers):
                if i == j or (j == last and not self.exclusive):
                    continue
                if j > 0:
                    table[:, i, j, self.down(j)] = 1
                if i > 0:
                    table[0, i, j, self.up(i)] = 1
                    table[1, i, j, self.up(i)] = int(self.exclusive)
        return table

    def written_through(self, births: Int64s) -> Int64s:
        """int64[T, resources]: pages that each step loads with what it writes.

        Args:
            births: int64[T], pages that each step writes.
        """
        table = np.zeros((len(births), self.resources), np.int64)
        if not self.exclusive:
            table[:, self.down(self.tiers - 1)] = births
        return table
