"""`TierSchedule`: which tier each page is in when, as residency intervals above the last tier."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class TierSchedule:
    """Page `page[i]` is in `tier[i]` during the steps `first[i]..last[i]`, inclusive.

    At every other step the page is in the last tier. Where an interval follows another of the same
    page without a gap, the page moves from tier to tier; else it comes from the last.

    Attributes:
        page, tier, first, last: int32[n], ordered by page, then first; the intervals of one page do
            not overlap, and no two that touch are in one tier.
    """

    page: Int32s
    tier: Int32s
    first: Int32s
    last: Int32s

    @staticmethod
    def of(
        page: npt.ArrayLike, tier: npt.ArrayLike, first: npt.ArrayLike, last: npt.ArrayLike
    ) -> "TierSchedule":
        """Order intervals given in any order, drop empty ones, join those that touch in one tier.

        Raises ValueError if two intervals of one page overlap.
        """
        given = np.stack([np.asarray(a, np.int64) for a in (page, tier, first, last)])
        given = given[:, given[3] >= given[2]]
        pages, tiers, firsts, lasts = given[:, np.lexsort((given[2], given[0]))]
        same = pages[1:] == pages[:-1]
        if (same & (firsts[1:] <= lasts[:-1])).any():
            raise ValueError("two residency intervals of one page overlap")
        joined = same & (firsts[1:] == lasts[:-1] + 1) & (tiers[1:] == tiers[:-1])
        heads = np.flatnonzero(~np.r_[False, joined][: len(pages)])
        tails = np.r_[heads[1:] - 1, len(pages) - 1] if len(heads) else heads
        columns = (pages[heads], tiers[heads], firsts[heads], lasts[tails])
        return TierSchedule(*(column.astype(np.int32) for column in columns))

    @staticmethod
    def of_table(table: Int8s, last_tier: int) -> "TierSchedule":
        """Make the schedule of a table int8[n_pages, steps]: the tier of each page at each step."""
        page, tier, first, last, n = _runs(table, last_tier, int((table < last_tier).sum()))
        return TierSchedule(page[:n], tier[:n], first[:n], last[:n])

    def table(self, steps: int, n_pages: int, last_tier: int) -> Int8s:
        """int8[n_pages, steps]: the tier of each page at each step."""
        where = np.full((n_pages, steps), last_tier, np.int8)
        _fill(where, self.page, self.tier, self.first, self.last)
        return where


@kernel
def _fill(where: Int8s, page: Int32s, tier: Int32s, first: Int32s, last: Int32s) -> None:
    for i in range(len(page)):
        for t in range(first[i], last[i] + 1):
            where[page[i], t] = tier[i]


@kernel
def _runs(where: Int8s, last_tier: int, most: int) -> tuple[Int32s, Int32s, Int32s, Int32s, int]:
    n_pages, steps = where.shape
    page = np.empty(most, np.int32)
    tier = np.empty(most, np.int32)
    first = np.empty(most, np.int32)
    last = np.empty(most, np.int32)
    n = 0
    for p in range(n_pages):
        for t in range(steps):
            here = where[p, t]
            if here == last_tier:
                continue
            if t > 0 and where[p, t - 1] == here:
                last[n - 1] = t
            else:
                page[n], tier[n], first[n], last[n] = p, here, t, t
                n += 1
    return page, tier, first, last, n
