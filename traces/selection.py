"""Selections: which of a row's pages a step reads, by a score, by place, or all of them.

A selection is a small value that can be applied again and again to one recording. It is the same
code that masks a model's attention when the cost of a selection is measured.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vsim.traces.attention import MASS, AttentionTrace
from vsim.traces.faults import Fault, InputError
from vsim.traces.page_reads import PageReads
from vsim.traces.score_codes import pages_wanted, ranks

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Dense:
    """Every page is read."""

    score: ClassVar[str | None] = None

    def __str__(self) -> str:
        return "dense"

    def keep(self, scores: NDArray[np.float32] | None, place: Ints, newest: Ints) -> Bools:
        """Choose pages; see `select_pages`."""
        every: Bools = place <= newest[:, None]
        return every


@dataclass(frozen=True, slots=True)
class TopShare:
    """The newest page and those with the highest score, a fixed share of the pages in all.

    With score `quest` this is Quest's selection; with `mass` it is the best that any page score
    could choose.

    Args:
        sparsity: share of the pages that is left out, 0 ≤ sparsity < 1.
        score: the score to rank by.
    """

    sparsity: float
    score: str = MASS

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity {self.sparsity} is not a share; write it like 0.8")

    def __str__(self) -> str:
        return f"top {100 * (1 - self.sparsity):g} % of pages by {self.score}"

    def keep(self, scores: NDArray[np.float32] | None, place: Ints, newest: Ints) -> Bools:
        """Choose pages; see `select_pages`."""
        assert scores is not None
        older = np.where(place < newest[:, None], scores, -1)
        wanted = pages_wanted(newest + 1, 1 - self.sparsity) - 1
        both: Bools = (_highest(older, wanted) & (older > 0)) | (place == newest[:, None])
        return both


def _highest(scores: NDArray[np.float32], wanted: Ints) -> Bools:
    """Choose each row's highest scores, as many as wanted, among equals the later ones.

    As `ranks(scores) < wanted[:, None]` does, which takes an order where here the value of the last
    one is enough.
    """
    rows, width = scores.shape
    by_value = np.sort(scores, axis=-1)
    last = by_value[np.arange(rows), np.clip(width - wanted, 0, width - 1)][:, None]
    above = scores > last
    equal = scores == last
    left = np.minimum(wanted, width) - np.count_nonzero(above, axis=-1)
    # of those equal to the last one, how many come later, itself included
    later = np.cumsum(equal[:, ::-1], axis=-1, dtype=np.int32)[:, ::-1]
    chosen: Bools = above | (equal & (later <= left[:, None]))
    return chosen


@dataclass(frozen=True, slots=True)
class TopMass:
    """The newest page and as few others as reach a share of the attention mass.

    Args:
        share: of a row's mass, which is one; 0 < share ≤ 1. Where the pages recorded do not reach
            it, all of them are read.
        score: the score whose mass counts.
    """

    share: float
    score: str = MASS

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share {self.share} is not a share of mass; write it like 0.95")

    def __str__(self) -> str:
        return f"top pages with {100 * self.share:g} % of {self.score}"

    def keep(self, scores: NDArray[np.float32] | None, place: Ints, newest: Ints) -> Bools:
        """Choose pages; see `select_pages`."""
        assert scores is not None
        seen = np.where(place <= newest[:, None], scores, 0).astype(np.float64)
        own = place == newest[:, None]
        order = ranks(np.where(own, np.inf, seen))
        by_rank = np.empty_like(seen)
        np.put_along_axis(by_rank, order, seen, axis=-1)
        before = np.cumsum(by_rank, axis=-1) - by_rank
        chosen = np.take_along_axis(before, order, axis=-1) < self.share - 1e-6
        both: Bools = (chosen & (seen > 0)) | own
        return both


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """The first pages (attention sinks) and the newest ones (StreamingLLM, arXiv 2309.17453).

    Args:
        sinks: pages at the start that are always read.
        window: newest pages that are always read, at least 1.
    """

    sinks: int
    window: int
    score: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.sinks < 0 or self.window < 1:
            raise ValueError("sinks must be 0 or more and window 1 or more pages")

    def __str__(self) -> str:
        return f"{self.sinks} sink pages and the newest {self.window}"

    def keep(self, scores: NDArray[np.float32] | None, place: Ints, newest: Ints) -> Bools:
        """Choose pages; see `select_pages`."""
        last, width = newest[:, None], place.shape[-1]
        # More than there are pages is all of them, and may be more than 64 bits.
        sinks, window = min(self.sinks, width), min(self.window, width)
        chosen: Bools = (place <= last) & ((place < sinks) | (place > last - window))
        return chosen


Selection = Dense | TopShare | TopMass | SlidingWindow


def select_pages(selection: Selection, scores: NDArray[np.float32] | None, pages: Ints) -> Bools:
    """Choose pages in rows that list every page of their context.

    Args:
        selection: what to choose.
        scores: float32[rows, width], 0 for a page that may not be chosen; None if the selection
            needs none.
        pages: int64[rows], the pages of each row's context; entries beyond are ignored.

    Returns:
        bool[rows, width].
    """
    width = int(pages.max()) if scores is None else scores.shape[-1]
    return selection.keep(scores, np.arange(width)[None, :], pages - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """A selection's reads, and the mass of all pages that were recorded, read or not.

    Attributes:
        reads: the pages each step reads.
        offsets: int64[T+1], of all recorded pages with mass (CSR).
        pages: int32[n], their numbers in `reads`.
        relative: float32[n], log2 of the page's mass over the least mass read in its row.
    """

    reads: PageReads
    offsets: Ints
    pages: NDArray[np.int32]
    relative: NDArray[np.float32]


def select(trace: AttentionTrace, selection: Selection) -> PageReads:
    """Apply a selection to a trace. Raises InputError if the trace lacks the score it needs."""
    return select_with_mass(trace, selection).reads


def select_with_mass(trace: AttentionTrace, selection: Selection) -> Selected:
    """Apply a selection to a trace, and tell how far every recorded page was from being read.

    Raises:
        InputError: the trace lacks the score that the selection needs.
    """
    name = selection.score
    _check(trace, selection)
    ranking = name or (MASS if MASS in trace.scores else None)
    mass = None if ranking is None else trace.mass(ranking)
    keep, least = _keep(trace, selection, mass)
    row = np.repeat(np.arange(len(trace)), trace.row_pages)
    number, template = _number(trace, row)
    step = trace.step[row]

    # rows and the pages in them come in the order in which pages are numbered: nothing to sort
    def per_step(mask: Bools) -> tuple[Ints, Ints]:
        chosen = np.flatnonzero(mask)
        offsets = np.zeros(trace.steps + 1, np.int64)
        np.cumsum(np.bincount(step[chosen], minlength=trace.steps), out=offsets[1:])
        return chosen, offsets

    chosen, offsets = per_step(keep)
    reads = replace(
        template,
        offsets=offsets,
        pages=number[chosen],
        mass=None if mass is None else mass[chosen],
        source=f"{trace.source}, {selection}",
    )
    if mass is None:
        nothing = np.zeros(trace.steps + 1, np.int64)
        return Selected(reads, nothing, np.empty(0, np.int32), np.empty(0, np.float32))
    recorded, all_offsets = per_step(mass > 0)
    relative = np.log2(mass[recorded]) - np.log2(least[row[recorded]])
    return Selected(reads, all_offsets, number[recorded], relative.astype(np.float32))


def _check(trace: AttentionTrace, selection: Selection) -> None:
    """Refuse a selection by a score, or at a density, that the trace does not hold."""
    name = selection.score
    if name is not None and name not in trace.scores:
        found = ", ".join(trace.scores) or "none"
        message = f"has no score {name!r}, which the selection needs; it has {found}"
        raise InputError([Fault(trace.source, message)])
    if isinstance(selection, TopMass) and trace.facts.get(f"{name}_graded") == "0":
        message = f"keeps the rank of pages by {name}, not their mass; select a share of pages"
        raise InputError([Fault(trace.source, message)])
    kept = float(trace.facts.get(f"{name}_kept", 1))
    if isinstance(selection, TopShare) and 1 - selection.sparsity > kept + 1e-9:
        message = (
            f"keeps {100 * kept:g} % of the pages by {name}; "
            f"choose a sparsity of {1 - kept:g} or more, or record with --keep 1"
        )
        raise InputError([Fault(trace.source, message)])


def _keep(
    trace: AttentionTrace, selection: Selection, mass: NDArray[np.float32] | None
) -> tuple[Bools, NDArray[np.float32]]:
    """Choose entries of a trace; also the least mass chosen in each row.

    Rows are laid out over the pages of their context, those it does not list without a score.
    """
    keep = np.zeros(len(trace.pages), np.bool_)
    least = np.ones(len(trace), np.float32)
    context = (trace.prompt_tokens + trace.step) // trace.page_tokens + 1
    width = int(context.max())
    batch = max(1, (1 << 22) // width)  # rows at a time: some 100 MB at most
    for first in range(0, len(trace), batch):
        last = min(first + batch, len(trace))
        part = slice(int(trace.offsets[first]), int(trace.offsets[last]))
        row = np.repeat(np.arange(last - first), trace.row_pages[first:last])
        place = trace.pages[part]
        scores = None
        if mass is not None:
            scores = np.zeros((last - first, width), np.float32)
            scores[row, place] = mass[part]
        chosen = np.zeros((last - first, width), np.bool_)
        wanted = select_pages(selection, scores if selection.score else None, context[first:last])
        chosen[:, : wanted.shape[1]] = wanted
        keep[part] = chosen[row, place]
        if scores is not None:
            kept = np.where(chosen & (scores > 0), scores, np.inf).min(axis=1)
            least[first:last] = np.where(np.isfinite(kept), kept, 1)
    return keep, least


def _number(trace: AttentionTrace, row: Ints) -> tuple[NDArray[np.int32], PageReads]:
    """Number the pages over all requests, layers and heads, in that order and then by place."""
    # Layers and heads may have any numbers, so only those that occur get room.
    named = np.stack([trace.request, trace.layer, trace.kv_head])
    owners, owner_of_row = np.unique(named, axis=1, return_inverse=True)
    shape = owners.shape[1], int(trace.pages.max(initial=0)) + 1
    key = owner_of_row[row] * shape[1] + trace.pages
    present = np.zeros(shape[0] * shape[1], np.bool_)
    present[key] = True
    number = (np.cumsum(present, dtype=np.int32) - 1).astype(np.int32)[key]
    owner, position = np.unravel_index(np.flatnonzero(present), shape)
    request, layer, head = owners[:, owner]
    born = trace.born(position.astype(np.int32))
    template = PageReads(
        offsets=np.zeros(1, np.int64),
        pages=np.empty(0, np.int32),
        n_pages=len(position),
        prompt_pages=int(np.count_nonzero(born < 0)),
        born=born,
        page_bytes=trace.page_bytes,
        page_tokens=trace.page_tokens,
        layer=layer.astype(np.int16),
        kv_head=head.astype(np.int16),
        request=request.astype(np.int32),
        position=position.astype(np.int32),
        source=trace.source,
    )
    return number, template
