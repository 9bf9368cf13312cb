"""A queue of requests that all arrive at once, with the lengths of a trace, none above a longest.

    python reports/allocation/lengths.py TRACE OUT.arrow LONGEST SEQUENCES

The first so many that fit, in the trace's order, as `vsim alloc` takes them.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsim.traces.reading import read_requests
from vsim.traces.requests import Requests, write_requests


def main(trace: str, out: str, longest: str, sequences: str) -> None:
    """Write the queue."""
    found = read_requests(trace)
    fits = np.flatnonzero(found.prompt_tokens + found.output_tokens <= int(longest))
    write_requests(queue(found, fits[: int(sequences)], Path(trace).name), out)


def queue(
    found: Requests, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", name: str
) -> Requests:
    """Those rows, with nothing of them but their lengths."""
    count = len(rows)
    none = np.full(count, -1, np.int64)
    return replace(
        found,
        id=np.arange(count, dtype=np.int64),
        arrival_ns=np.zeros(count, np.int64),
        prompt_tokens=found.prompt_tokens[rows],
        output_tokens=found.output_tokens[rows],
        session=none,
        parent=none,
        think_ns=none,
        tenant=np.zeros(count, np.int32),
        tenant_names=("",),
        priority=np.zeros(count, np.int32),
        prefix_offsets=np.zeros(count + 1, np.int64),
        prefix_ids=np.zeros(0, np.int64),
        block_tokens=0,
        source=f"lengths of {name}",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
