"""`Occupancy`: how many pages each tier holds, step by step."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsim.sim.attention_run.batch import Batch
from vsim.sim.attention_run.prefill import Chunks
from vsim.sim.schedules.cost import births
from vsim.sim.schedules.two_tiers import Bools

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """Pages and tokens over P prefill and T decode steps, int64[P + T] each.

    Attributes:
        hbm_pages: pages that HBM holds, without those that the step is writing.
        slow_pages: pages in the slower tier.
        reserved_tokens: tokens that the requests' pages have room for, each counted once.
        used_tokens: tokens in them.
    """

    hbm_pages: Int64s
    slow_pages: Int64s
    reserved_tokens: Int64s
    used_tokens: Int64s


def occupancy(
    batch: Batch, parts: Chunks, resident: Bools, decode_pages: Int64s, *, keeps_copies: bool
) -> Occupancy:
    """Count pages at the end of each prefill step and during each decode step.

    Args:
        batch: the requests.
        parts: what the prefill steps compute.
        resident: bool[n_pages], the pages in HBM once the prompts are computed.
        decode_pages: int64[T], pages in HBM during each decode step.
        keeps_copies: whether the slower tier has a copy of every page.
    """
    reads = batch.reads
    written = written_by(batch, parts)
    prefill = written[reads.born < 0]
    here = np.cumsum(np.bincount(prefill[resident[reads.born < 0]], minlength=parts.steps))
    begun = np.cumsum(np.bincount(prefill, minlength=parts.steps))
    total = begun[-1] + np.cumsum(births(reads))
    if keeps_copies:
        slow = np.concatenate([begun, total])
    else:
        # During a step the pages that it writes are in HBM, whatever becomes of them.
        slow = np.concatenate([begun - here, total - births(reads) - decode_pages])
    tokens = np.concatenate(
        [
            np.cumsum(parts.per_step(parts.tokens)),
            int(batch.prompt_tokens.sum()) + len(batch) * np.arange(1, batch.steps + 1),
        ]
    )
    pages = np.concatenate([begun, total]) // batch.columns
    return Occupancy(
        hbm_pages=np.concatenate([here, decode_pages]).astype(np.int64),
        slow_pages=slow.astype(np.int64),
        reserved_tokens=pages.astype(np.int64) * reads.page_tokens,
        used_tokens=tokens.astype(np.int64),
    )


def written_by(batch: Batch, parts: Chunks) -> Int64s:
    """int64[n_pages]: the prefill step that writes a page's first token; 0 for pages of decode."""
    reads = batch.reads
    first_token = reads.position.astype(np.int64) * reads.page_tokens
    # Parts are ordered by request, then by token: their keys ascend.
    longest = int(batch.prompt_tokens.max()) + 1
    ends = parts.request * longest + parts.end
    wanted = reads.request.astype(np.int64) * longest + first_token
    part = np.searchsorted(ends, wanted, side="right")
    return np.where(reads.born < 0, parts.step[np.minimum(part, len(ends) - 1)], 0)
