"""`step_batch`: what the step just planned computes, read from the engine's state."""

import numpy as np

from vsim.sim.engine.backend import StepBatch
from vsim.sim.engine.state import State


def step_batch(state: State) -> StepBatch:
    """Read the batch that `plan` decided on, before anything else is planned or committed.

    A static batch computes its padding too: every request as much as the longest, those that have
    ended included. Where KV is in several groups it lists no pages: a table of each group's would
    be needed, and no backend attends with those yet.
    """
    arrays, control = state.arrays, state.control
    count = int(control["running"])
    rows = arrays["run"][:count].astype(np.int64)
    if control["static"]:
        new = np.full(count, control["step_tokens"] // count, np.int64)
        context = np.full(count, control["step_context"] // count, np.int64)
        samples = np.ones(count, np.bool_)
    else:
        share = arrays["share"][:count]
        rows, new = rows[share > 0], share[share > 0]
        context = arrays["r"]["computed"][rows] + new
        samples = context == arrays["r"]["tokens"][rows]
    page_tokens = int(control["page_tokens"])
    pages = -(-context // page_tokens)
    listed = np.zeros_like(pages) if state.pages.grouped else pages
    indptr = np.concatenate([[0], np.cumsum(listed)])
    first = arrays["r"]["row"][rows].astype(np.int64) * int(control["row_pages"])
    places = np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], listed)
    return StepBatch(
        rows=rows,
        new_tokens=new,
        context_tokens=context,
        samples=samples,
        indptr=indptr.astype(np.int32),
        indices=arrays["table"][places],
        last_page_len=(context - (pages - 1) * page_tokens).astype(np.int32),
        copied_tokens=int(control["copied_tokens"]),
    )
