"""`Schedule`: which pages are in HBM when, as residency intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Residency intervals: `page[i]` is in HBM during the steps `first[i]..last[i]`, inclusive.

    Attributes:
        page, first, last: int32[n], ordered by page, then first; the intervals of one page neither
            overlap nor touch.
    """

    page: Int32s
    first: Int32s
    last: Int32s

    @staticmethod
    def of(page: npt.ArrayLike, first: npt.ArrayLike, last: npt.ArrayLike) -> "Schedule":
        """Order intervals given in any order, drop empty ones and join touching ones.

        An interval is empty if last < first.

        Raises ValueError if two intervals of one page overlap.
        """
        pages, firsts, lasts = (np.asarray(a, np.int64) for a in (page, first, last))
        full = lasts >= firsts
        pages, firsts, lasts = pages[full], firsts[full], lasts[full]
        order = np.lexsort((firsts, pages))
        pages, firsts, lasts = pages[order], firsts[order], lasts[order]
        same = pages[1:] == pages[:-1]
        if (same & (firsts[1:] <= lasts[:-1])).any():
            raise ValueError("two residency intervals of one page overlap")
        joined = np.zeros(len(pages), np.bool_)
        joined[1:] = same & (firsts[1:] == lasts[:-1] + 1)
        heads = np.flatnonzero(~joined)
        tails = np.r_[heads[1:] - 1, len(pages) - 1] if len(heads) else heads
        return Schedule(
            pages[heads].astype(np.int32),
            firsts[heads].astype(np.int32),
            lasts[tails].astype(np.int32),
        )

    def resident(self, steps: int, n_pages: int) -> npt.NDArray[np.bool_]:
        """bool[steps, n_pages]: the same as a table, for small cases and heat maps."""
        table = np.zeros((steps, n_pages), np.bool_)
        for page, first, last in zip(self.page, self.first, self.last, strict=True):
            table[first : last + 1, page] = True
        return table
