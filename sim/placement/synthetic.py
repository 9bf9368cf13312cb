"""Synthetic page reads for tests and benchmarks: Zipf weights, drift and sinks."""

from collections.abc import Collection, Sequence

import numpy as np

from vsim.traces.page_reads import PageReads


def reads_of_sets(
    steps: Sequence[Collection[int]], born: Sequence[int], page_bytes: int = 65_536
) -> PageReads:
    """Make the reads of one layer by hand: the pages of each step, and the birth of each page."""
    offsets = np.zeros(len(steps) + 1, np.int64)
    np.cumsum([len(step) for step in steps], out=offsets[1:])
    zeros = np.zeros(len(born), np.int16)
    reads = PageReads(
        offsets=offsets,
        pages=np.array([page for step in steps for page in sorted(step)], np.int32),
        n_pages=len(born),
        prompt_pages=sum(b < 0 for b in born),
        born=np.array(born, np.int32),
        page_bytes=page_bytes,
        page_tokens=16,
        layer=zeros,
        kv_head=zeros,
        request=np.zeros(len(born), np.int32),
        position=np.arange(len(born), dtype=np.int32),
        source="by hand",
    )
    reads.check()
    return reads


def synthetic_reads(
    n_pages: int,
    steps: int,
    sparsity: float,
    *,
    seed: int,
    born_every: int = 0,
    drift: float = 0.95,
    noise: float = 0.5,
    zipf: float = 1.0,
    page_bytes: int = 65_536,
) -> PageReads:
    """Draw the pages that each step reads from scores that wander.

    A page's score is a fixed Zipf weight, plus a wandering part with step-to-step correlation
    `drift`, plus `noise` of the step alone; each step reads the share 1 − sparsity of the pages
    with the highest scores, and always the first four pages (sinks) and the youngest one.

    Args:
        n_pages: pages at the end.
        steps: decode steps.
        sparsity: share of pages that a step leaves out.
        seed: of numpy's PCG64.
        born_every: a page is written every so many steps; 0: all pages are in the prompt.
        drift: correlation of the wandering part from one step to the next.
        noise: standard deviation of the part that lasts one step.
        zipf: exponent of the fixed weights.
        page_bytes: bytes of one page.
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    fixed = -zipf * np.log(np.arange(1, n_pages + 1))
    fixed = fixed[draw.permutation(n_pages)]
    fixed = fixed / (fixed.std() or 1.0)
    born = np.full(n_pages, -1, np.int32)
    if born_every:
        late = np.arange(0, steps, born_every)[: n_pages - 1]
        born[n_pages - len(late) :] = late
    wander = draw.standard_normal(n_pages)
    chosen = []
    for t in range(steps):
        wander = drift * wander + np.sqrt(1 - drift * drift) * draw.standard_normal(n_pages)
        score = fixed + 1.5 * wander + noise * draw.standard_normal(n_pages)
        score[:4] += 100
        alive = born <= t
        if born_every:
            score[np.flatnonzero(alive)[-1]] += 100
        score[~alive] = -np.inf
        count = max(1, round(int(alive.sum()) * (1 - sparsity)))
        chosen.append(np.sort(np.argpartition(-score, count - 1)[:count]).astype(np.int32))
    offsets = np.zeros(steps + 1, np.int64)
    np.cumsum([len(c) for c in chosen], out=offsets[1:])
    zeros = np.zeros(n_pages, np.int16)
    return PageReads(
        offsets=offsets,
        pages=np.concatenate(chosen),
        n_pages=n_pages,
        prompt_pages=int((born < 0).sum()),
        born=born,
        page_bytes=page_bytes,
        page_tokens=16,
        layer=zeros,
        kv_head=zeros,
        request=np.zeros(n_pages, np.int32),
        position=np.arange(n_pages, dtype=np.int32),
        source=f"synthetic, seed {seed}",
    )
