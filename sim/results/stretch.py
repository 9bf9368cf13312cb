"""The busiest stretch: whether a server kept up while it had requests, however long it had none."""

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_EARLY = 0.95  # so many of a stretch's requests show how long requests kept coming in it


def busiest_stretch(arrival_ns: Int64s, admitted_ns: Int64s, last_ns: Int64s) -> dict[str, float]:
    """Describe the stretch without a pause that served most of the requests.

    A stretch ends when the last request present has had its last token, and no other has come. So a
    request that comes late, when all others are done, is a stretch of its own and says nothing of
    theirs.

    Args:
        arrival_ns: int64[n], of completed requests in any order.
        admitted_ns: int64[n].
        last_ns: int64[n], when each had its last token.

    Returns:
        `requests_share`, how many of the requests it served; `wait_share`, how much of their time
        these waited for admission, and `wait_ms`, how long on average; `backlog_share`, how much
        of the stretch was left when requests stopped coming, as nineteen of twenty of them show:
        one more, just before the end, changes nothing.
    """
    n = arrival_ns.size
    if n == 0:
        return {"requests_share": 0.0, "wait_share": 0.0, "wait_ms": 0.0, "backlog_share": 0.0}
    order = np.argsort(arrival_ns, kind="stable")
    arrival, last = arrival_ns[order], last_ns[order]
    ends = np.maximum.accumulate(last)
    firsts = np.concatenate([[0], np.flatnonzero(arrival[1:] > ends[:-1]) + 1])
    counts = np.diff(firsts, append=n)
    first = int(firsts[int(np.argmax(counts))])
    count = int(counts.max())
    mine = slice(first, first + count)
    lived = (last[mine] - arrival[mine]).astype(np.float64).sum()
    waited = (admitted_ns[order][mine] - arrival[mine]).astype(np.float64).sum()
    length = float(ends[first + count - 1] - arrival[first])
    early = int(np.ceil(_EARLY * count)) - 1
    coming = float(arrival[first + early] - arrival[first])
    if early > 0:
        coming *= (count - 1) / early
    return {
        "requests_share": count / n,
        "wait_share": float(waited / lived) if lived else 0.0,
        "wait_ms": float(waited / count / 1e6),
        "backlog_share": max(0.0, 1 - coming / length) if length else 1.0,
    }
