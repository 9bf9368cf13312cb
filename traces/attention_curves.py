"""Curves by which a generated trace is held against recorded ones."""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import AttentionTrace
from vsim.traces.attention_fit import LAGS, SINKS, middle, overlap, selected_sets
from vsim.traces.page_reads import PageReads
from vsim.traces.selection import TopShare, select

SPARSITIES = (0.6, 0.8, 0.9)
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
QUANTILES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
CACHE_SHARES = (0.15, 0.25, 0.35, 0.5)


def curves_of(trace: AttentionTrace) -> dict[str, list[float]]:
    """Measure a trace; each curve is a mean over heads.

    Returns, by name:
        `overlap 80 %`: selection that is selected again after LAGS steps, at that sparsity.
        `popularity`: share of steps that select a page, at QUANTILES of the pages, falling.
        `mass`: attention mass on the heaviest SHARES of a row's pages.
        `near`, `sinks`: share of steps that select the pages at DISTANCES from the newest, and the
            first pages; at 80 % sparsity as `popularity`.
        `lru 80 %`: hit ratio of LRU over pages, its capacity CACHE_SHARES of the context's pages.
    """
    prompt_pages = -(-trace.prompt_tokens // trace.page_tokens)
    context_pages = -(-(trace.prompt_tokens + trace.steps) // trace.page_tokens)
    found: dict[str, list[float]] = {}
    for sparsity in SPARSITIES:
        reads = select(trace, TopShare(sparsity))
        sets, _ = selected_sets(reads)
        inner = middle(sets, prompt_pages)
        lags = [lag for lag in LAGS if lag < trace.steps]
        label = f"{100 * sparsity:g} %"
        found[f"overlap {label}"] = [float(overlap(inner, lag).mean()) for lag in lags]
        found[f"lru {label}"] = [
            # of the whole context: a generated trace lists only the pages that it keeps
            lru_hit_ratio(reads, int(share * sets.shape[1] * context_pages))
            for share in CACHE_SHARES
        ]
        if sparsity == 0.8:
            often = np.sort(inner.mean(axis=0), axis=-1)[:, ::-1].mean(axis=0)
            at = [int(q * len(often)) for q in QUANTILES]
            found["popularity"] = [float(often[index]) for index in at]
            pages = (trace.prompt_tokens + np.arange(trace.steps)) // trace.page_tokens + 1
            step = np.arange(trace.steps)
            found["near"] = [float(sets[step, :, pages - 1 - d].mean()) for d in DISTANCES]
            found["sinks"] = [float(x) for x in sets[:, :, :SINKS].mean(axis=(0, 1))]
    found["mass"] = _mass_on_top(trace)
    return {name: [round(value, 4) for value in values] for name, values in found.items()}


def _mass_on_top(trace: AttentionTrace) -> list[float]:
    """Mean over rows of the mass on the heaviest shares, of all mass that was recorded."""
    mass = trace.mass()
    context = (trace.prompt_tokens + trace.step) // trace.page_tokens + 1
    total = np.zeros(len(SHARES))
    for row in range(len(trace)):
        ordered = np.sort(mass[trace.offsets[row] : trace.offsets[row + 1]])[::-1]
        summed = np.cumsum(ordered, dtype=np.float64)
        at = [max(1, int(share * context[row])) - 1 for share in SHARES]
        total += summed[np.minimum(at, len(summed) - 1)] / summed[-1]
    return [float(x) for x in total / len(trace)]


def lru_hit_ratio(reads: PageReads, capacity: int) -> float:
    """Replay reads one by one through an LRU that holds `capacity` pages and starts empty."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    pages: NDArray[np.int32] = reads.pages
    for page in pages.tolist():
        if page in held:
            hits += 1
            held.move_to_end(page)
        else:
            held[page] = None
            if len(held) > capacity:
                held.popitem(last=False)
    return hits / len(pages)
