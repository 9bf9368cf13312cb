"""The same reads, page by page: which steps read each page."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.compiled import kernel
from vsim.traces.page_reads import PageReads

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StepsByPage:
    """Page p is read at the steps `steps[offsets[p]:offsets[p+1]]`, ascending (CSR)."""

    offsets: Int64s
    steps: Int32s

    @staticmethod
    def of(reads: PageReads) -> "StepsByPage":
        """Transpose the reads. O(reads)."""
        offsets = np.zeros(reads.n_pages + 1, np.int64)
        np.cumsum(np.bincount(reads.pages, minlength=reads.n_pages), out=offsets[1:])
        return StepsByPage(offsets, _transpose(reads.offsets, reads.pages, offsets[:-1].copy()))


@kernel
def _transpose(offsets: Int64s, pages: Int32s, fill: Int64s) -> Int32s:
    steps = np.empty(len(pages), np.int32)
    for t in range(len(offsets) - 1):
        for i in range(offsets[t], offsets[t + 1]):
            page = pages[i]
            steps[fill[page]] = t
            fill[page] += 1
    return steps
