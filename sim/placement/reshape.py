"""Reads made of other reads: every page of the context, larger pages, several requests at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vsim.sim.placement.retention import Seen
from vsim.traces.page_reads import PageReads

Int64s = npt.NDArray[np.int64]


def with_whole_context(reads: PageReads, seen: Seen | None) -> tuple[PageReads, Seen | None]:
    """Number every page up to each head's last one, also those that no step ever reads.

    A recording may leave out pages that no selection reaches; they take room in memory all the
    same, and a first-fill puts them into HBM.
    """
    heads, head_of = np.unique(
        np.stack([reads.request, reads.layer, reads.kv_head]), axis=1, return_inverse=True
    )
    width = np.zeros(heads.shape[1], np.int64)
    np.maximum.at(width, head_of, reads.position.astype(np.int64) + 1)
    # Heads of one request have contexts of one length.
    _, request_of = np.unique(heads[0], return_inverse=True)
    longest = np.zeros(request_of.max() + 1, np.int64)
    np.maximum.at(longest, request_of, width)
    width = longest[request_of]
    base = np.concatenate([[0], np.cumsum(width)])
    total = int(base[-1])
    if total == reads.n_pages:
        return reads, seen
    new = (base[head_of] + reads.position).astype(np.int32)
    owner = np.repeat(np.arange(len(width)), width)
    position = np.arange(total) - base[owner]
    # A page that was never recorded is born with its neighbours at the same place.
    born_at = np.full((len(longest), int(longest.max())), -1, np.int32)
    np.maximum.at(born_at, (request_of[head_of], reads.position), reads.born)
    born = born_at[request_of[owner], position]
    if (np.diff(new) > 0).all():
        pages, mass = new[reads.pages], reads.mass
    else:
        pages, mass = _sorted(reads.offsets, new[reads.pages], reads.mass)
    whole = replace(
        reads,
        pages=pages,
        mass=mass,
        n_pages=total,
        prompt_pages=int((born < 0).sum()),
        born=born,
        layer=heads[1][owner].astype(np.int16),
        kv_head=heads[2][owner].astype(np.int16),
        request=heads[0][owner].astype(np.int32),
        position=position.astype(np.int32),
    )
    return whole, None if seen is None else replace(seen, pages=new[seen.pages])


def first_steps(reads: PageReads, seen: Seen | None, steps: int) -> tuple[PageReads, Seen | None]:
    """Cut a trace after its first steps; pages written later do not exist."""
    steps = min(steps, reads.steps)
    offsets = reads.offsets[: steps + 1]
    exists = reads.born < steps
    new = (np.cumsum(exists) - 1).astype(np.int32)
    cut = replace(
        reads,
        offsets=offsets,
        pages=new[reads.pages[: offsets[-1]]],
        mass=None if reads.mass is None else reads.mass[: offsets[-1]],
        n_pages=int(exists.sum()),
        born=reads.born[exists],
        layer=reads.layer[exists],
        kv_head=reads.kv_head[exists],
        request=reads.request[exists],
        position=reads.position[exists],
    )
    if seen is None:
        return cut, None
    bounds = seen.offsets[: steps + 1]
    return cut, Seen(bounds, new[seen.pages[: bounds[-1]]], seen.relative[: bounds[-1]])


def with_larger_pages(reads: PageReads, factor: int, *, merge_heads: bool = False) -> PageReads:
    """Merge `factor` neighbouring pages of a head, or of all heads of a layer, into one.

    A step that reads any part of a page reads all of it: the page is the unit of selection too.
    A page is born when its first part is. Mass is dropped.
    """
    head = np.zeros_like(reads.kv_head) if merge_heads else reads.kv_head
    key = np.stack([reads.request, reads.layer, head, reads.position // factor])
    merged, group = np.unique(key, axis=1, return_inverse=True)
    n = merged.shape[1]
    born = np.full(n, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(born, group, reads.born)
    step = np.repeat(np.arange(reads.steps, dtype=np.int64), reads.reads_per_step)
    cell = np.unique(step * n + group[reads.pages])
    offsets = np.searchsorted(cell, np.arange(reads.steps + 1) * n)
    heads = len(np.unique(reads.kv_head)) if merge_heads else 1
    return replace(
        reads,
        offsets=offsets.astype(np.int64),
        pages=(cell % n).astype(np.int32),
        n_pages=n,
        prompt_pages=int((born < 0).sum()),
        born=born,
        page_bytes=reads.page_bytes * factor * heads,
        page_tokens=reads.page_tokens * factor,
        layer=merged[1].astype(np.int16),
        kv_head=np.full(n, -1, np.int16) if merge_heads else merged[2].astype(np.int16),
        request=merged[0].astype(np.int32),
        position=merged[3].astype(np.int32),
        mass=None,
        source=f"{reads.source}, pages of {reads.page_tokens * factor} tokens",
    )


def side_by_side(
    parts: Sequence[PageReads], seen: Sequence[Seen | None]
) -> tuple[PageReads, Seen | None]:
    """Decode several requests in one batch, step by step, for as long as the shortest lasts.

    Raises ValueError if their pages differ in bytes, or are more than 32 bits can number.
    """
    if len({(part.page_bytes, part.page_tokens) for part in parts}) != 1:
        raise ValueError("requests of one batch must have pages of one size")
    total = sum(part.n_pages for part in parts)
    if total > 2**31 - 1:
        raise ValueError(f"requests of one batch have {total:,} pages; at most {2**31 - 1:,}")
    if len(parts) == 1:
        return parts[0], seen[0]
    steps = min(part.steps for part in parts)
    cut = [first_steps(part, mass, steps) for part, mass in zip(parts, seen, strict=True)]
    parts, seen = [part for part, _ in cut], [mass for _, mass in cut]
    base = np.concatenate([[0], np.cumsum([part.n_pages for part in parts])])
    offsets, order = _interleave([part.offsets for part in parts], steps)
    mass = None
    if all(part.mass is not None for part in parts):
        mass = _joined([part.mass for part in parts], [part.offsets for part in parts], steps)
        mass = mass[order]
    pages = _joined(
        [part.pages + np.int32(b) for part, b in zip(parts, base[:-1], strict=True)],
        [part.offsets for part in parts],
        steps,
    )[order]
    born = np.concatenate([part.born for part in parts])
    together = replace(
        parts[0],
        offsets=offsets,
        pages=pages,
        n_pages=int(base[-1]),
        prompt_pages=int((born < 0).sum()),
        born=born,
        layer=np.concatenate([part.layer for part in parts]),
        kv_head=np.concatenate([part.kv_head for part in parts]),
        request=np.repeat(np.arange(len(parts), dtype=np.int32), [part.n_pages for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        mass=mass,
        source=" + ".join(part.source for part in parts),
    )
    known = [part for part in seen if part is not None]
    if len(known) < len(parts):
        return together, None
    seen_offsets, seen_order = _interleave([part.offsets for part in known], steps)
    seen_pages = _joined(
        [part.pages + np.int32(b) for part, b in zip(known, base[:-1], strict=True)],
        [part.offsets for part in known],
        steps,
    )
    relative = _joined([part.relative for part in known], [part.offsets for part in known], steps)
    return together, Seen(seen_offsets, seen_pages[seen_order], relative[seen_order])


def _interleave(offsets: Sequence[Int64s], steps: int) -> tuple[Int64s, Int64s]:
    """The offsets of the batch, and the order that sorts joined entries by step, then request."""
    counts = np.stack([np.diff(part[: steps + 1]) for part in offsets])
    joined = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
    step = np.concatenate([np.repeat(np.arange(steps), row) for row in counts])
    return joined.astype(np.int64), np.argsort(step, kind="stable")


def _joined(arrays: Sequence[Any], offsets: Sequence[Int64s], steps: int) -> Any:
    return np.concatenate([a[: o[steps]] for a, o in zip(arrays, offsets, strict=True)])


def _sorted(offsets: Int64s, pages: Any, mass: Any) -> tuple[Any, Any]:
    """Restore the ascending order of pages within each step."""
    step = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((pages, step))
    return pages[order], None if mass is None else mass[order]
