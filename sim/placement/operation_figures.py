"""Times and bytes of operations: whole numbers of 64 bits, as the schema of operations has them."""

import numpy as np
import numpy.typing as npt

from vsim.traces.faults import refuse

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST = 2**62
_YEAR_NS = 365 * 86_400 * 10**9


def step_ends_ns(step_s: Floats) -> Int64s:
    """int64[T]: when each step ends, nanoseconds from the first one's start.

    Raises:
        InputError: that is longer than 64 bits can count.
    """
    ends = np.cumsum(step_s) * 1e9
    if ends[-1] >= _MOST:
        message = f"steps take {ends[-1] / _YEAR_NS:,.0f} years, more than a schedule's nanoseconds"
        refuse("scenario", f"{message} can count; raise the bandwidths", place="memory")
    return np.rint(ends).astype(np.int64)


def bytes_of_pages(pages: Int64s, page_bytes: int) -> Int64s:
    """int64[n]: the bytes of so many pages.

    Raises:
        InputError: 64 bits do not hold them.
    """
    if int(pages.max(initial=0)) * page_bytes >= _MOST:
        message = f"an operation moves {int(pages.max())} pages of {page_bytes} bytes, more than"
        refuse(
            "scenario", f"{message} a schedule can write; merge fewer pages", place="page_factor"
        )
    return pages * page_bytes
