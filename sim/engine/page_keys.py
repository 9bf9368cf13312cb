"""Page keys: which pages of a trace's prompts are the same, at the engine's page size.

A trace names prompt blocks by ids that stand for whole prefixes. The engine places pages, which may
be finer (a block then expands into pages of its own) or coarser (a page is named by its last
block). Where blocks are finer than pages, a prompt that diverges inside a page shares the parts
before that point by copy-on-write.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import refuse
from vsim.traces.id_runs import IdRuns
from vsim.traces.requests import Requests

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PageKeys:
    """Keys of n requests' full pages.

    Args:
        keys: number of distinct page keys.
        ratio: pages that one id of `ids` expands into.
        ids: int32, ids from 0 without gaps; a page's key is id * ratio + its place in the id.
        offsets: int64[n], where each request's ids start.
        counts: int64[n], full pages with a key.
        named: int64[n], how many of them the trace names, pages of the output included where a
            later turn shows what they hold. The others are the request's own.
        fresh: int64[n], the key of a request's first page of its own; the next ones follow.
        part_tokens: tokens of a part, the unit of copy-on-write.
        part_ratio: parts of a page; 1 when blocks are no finer than pages.
        parts: int32, ids of parts from 0 without gaps.
        part_ids: number of distinct parts.
        part_offsets: int64[n], where each request's parts start.
        part_counts: int64[n], full parts of each request.
    """

    keys: int
    ratio: int
    ids: Int32s
    offsets: Int64s
    counts: Int64s
    named: Int64s
    fresh: Int64s
    part_tokens: int
    part_ratio: int
    parts: Int32s
    part_ids: int
    part_offsets: Int64s
    part_counts: Int64s


def page_keys(
    requests: Requests, page_tokens: int, block_tokens: int, *, answers: bool = False
) -> PageKeys:
    """Work out the keys.

    A server that caches keeps what it computes, whether or not anybody asks for it again: with
    `answers`, full pages that the trace does not name have keys that no other request has. So what
    is in a cache never depends on requests that are yet to come.

    Args:
        requests: with prefix ids or without.
        page_tokens: tokens of a page.
        block_tokens: tokens of the engine's block, a divisor of page_tokens.
        answers: give keys to pages that the trace does not name.

    Raises:
        ValueError: the trace's block is neither a multiple nor a divisor of the page.
        InputError: more pages than 32 bits can number.
    """
    unit = requests.block_tokens
    if unit == 0 or requests.prefix_ids.size == 0:
        return _no_keys(len(requests))
    named = _named_keys(requests, page_tokens, block_tokens)
    if not answers:
        return named
    # of the last token of an answer no KV is ever computed
    full = (requests.prompt_tokens + requests.output_tokens - 1) // page_tokens
    own = np.maximum(full - named.counts, 0)
    fresh = named.keys + np.cumsum(own) - own
    keys = int(named.keys + own.sum())
    if keys >= 2**31:
        message = f"{keys:,} pages of {page_tokens} tokens are more than 2^31; write larger pages"
        refuse("scenario", message, place="engine.page_tokens")
    return replace(named, keys=keys, counts=named.counts + own, fresh=fresh)


def _named_keys(requests: Requests, page_tokens: int, block_tokens: int) -> PageKeys:
    """Keys of the pages that the trace names."""
    unit = requests.block_tokens
    runs = IdRuns.of(requests.prefix_offsets, requests.prefix_ids)
    dense, distinct = _dense(requests.prefix_ids, runs)
    offsets, blocks = _chains(requests, dense)
    if unit % page_tokens == 0:
        ratio = unit // page_tokens
        none = np.zeros(1, np.int32)
        zeros = np.zeros(len(requests), np.int64)
        return PageKeys(
            keys=distinct * ratio, ratio=ratio, ids=dense, offsets=offsets, counts=blocks * ratio,
            named=blocks * ratio, fresh=zeros, part_tokens=page_tokens, part_ratio=1, parts=none,
            part_ids=0, part_offsets=zeros, part_counts=zeros,
        )  # fmt: skip
    if page_tokens % unit:
        raise ValueError(f"pages of {page_tokens} tokens and blocks of {unit} do not nest")
    ids, id_offsets, counts, keys = _every(dense, offsets, blocks, page_tokens // unit)
    part_tokens = max(block_tokens, unit)
    parts, part_offsets, part_counts, part_ids = _every(dense, offsets, blocks, part_tokens // unit)
    return PageKeys(
        keys=keys, ratio=1, ids=ids, offsets=id_offsets, counts=counts, named=counts,
        fresh=np.zeros(len(requests), np.int64), part_tokens=part_tokens,
        part_ratio=page_tokens // part_tokens, parts=parts, part_ids=part_ids,
        part_offsets=part_offsets, part_counts=part_counts,
    )  # fmt: skip


def _no_keys(n: int) -> PageKeys:
    none, zeros = np.zeros(1, np.int32), np.zeros(n, np.int64)
    return PageKeys(0, 1, none, zeros, zeros, zeros, zeros, 1, 1, none, 0, zeros, zeros)


def _dense(ids: Int64s | Int32s, runs: IdRuns | None = None) -> tuple[Int32s, int]:
    """Number ids from 0 without gaps, in the order of their values; the ids where they are so."""
    top = int((ids if runs is None else runs.last).max()) + 1
    if top <= 4 * len(ids) + 1024:
        if runs is None:
            seen = np.zeros(top, np.bool_)
            seen[ids] = True
        else:
            seen = runs.members(top)
        if seen.all():
            return ids.astype(np.int32, copy=False), top
        number = np.cumsum(seen, dtype=np.int32) - 1
        return number[ids], int(seen.sum())
    distinct, dense = np.unique(ids, return_inverse=True)
    return dense.astype(np.int32, copy=False), len(distinct)


def _chains(requests: Requests, dense: Int32s) -> tuple[Int64s, Int64s]:
    """Where each request's chain of full blocks starts, and how many blocks it has.

    A turn that continues another begins with that one's prompt and output. So the earlier turn's
    output fills the blocks that the later turn's prompt names next.
    """
    unit = requests.block_tokens
    offsets = requests.prefix_offsets[:-1].copy()
    lengths = np.diff(requests.prefix_offsets)
    blocks = np.minimum(lengths, requests.prompt_tokens // unit)
    own_offsets, own_blocks = offsets.copy(), blocks.copy()
    children = np.flatnonzero(requests.parent >= 0)[::-1]  # so that the first child stays
    parents = requests.parent[children]
    reach = (requests.prompt_tokens[parents] + requests.output_tokens[parents]) // unit
    longer = np.minimum(own_blocks[children], reach)
    had = own_blocks[parents]
    last = np.maximum(had - 1, 0)
    limit = max(dense.size - 1, 0)
    same = (had == 0) | (
        dense[np.minimum(own_offsets[parents] + last, limit)]
        == dense[np.minimum(own_offsets[children] + last, limit)]
    )
    take = (longer > had) & same
    offsets[parents[take]] = own_offsets[children[take]]
    blocks[parents[take]] = longer[take]
    return offsets, blocks


def _every(
    dense: Int32s, offsets: Int64s, blocks: Int64s, stride: int
) -> tuple[Int32s, Int64s, Int64s, int]:
    """Name each run of `stride` blocks by its last block's id."""
    counts = blocks // stride
    starts = np.concatenate([[0], np.cumsum(counts)])
    request = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(starts[-1]) - starts[request]
    picked = dense[offsets[request] + (within + 1) * stride - 1].astype(np.int64)
    if picked.size == 0:
        return np.zeros(1, np.int32), starts[:-1], counts, 0
    ids, distinct = _dense(picked)
    return ids, starts[:-1], counts, distinct
