"""Prefix block ids: an id stands for its block and all blocks before it, as a chained hash does."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsim.traces.id_runs import IdRuns

_Ints = NDArray[np.int64]
_Ids = NDArray[np.int64] | NDArray[np.int32]
_AT_ONCE: Final = 1 << 22  # ids compared at once; traces hold up to 10^8


def first_broken(offsets: _Ints, ids: _Ids, runs: IdRuns | None = None) -> tuple[int, int] | None:
    """Find the first id that stands after other blocks than where it was first seen.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        ids: int64[m], ids of the prompts' blocks, first block first, none negative.
        runs: theirs, where they were found already.

    Returns:
        Row and id, or None where each id stands for one prefix throughout.
    """
    if len(ids) == 0:
        return None
    runs = runs or IdRuns.of(offsets, ids)
    if runs is not None and runs.are_chains():
        return None
    # A chain is broken where an id follows another one than at its first place. That each id has
    # one predecessor also fixes its position, for chains cannot then close on themselves.
    codes, count = dense_codes(ids)
    wanted = np.empty(count, dtype=np.int64)
    parts = range(0, len(ids), _AT_ONCE)
    for start in reversed(parts):
        part = slice(start, start + _AT_ONCE)
        # of one code's values the last assigned, its first, stays
        wanted[codes[part][::-1]] = _before(offsets, ids, start)[::-1]
    for start in parts:
        part = slice(start, start + _AT_ONCE)
        bad = _before(offsets, ids, start) != wanted[codes[part]]
        if bad.any():
            element = start + int(np.argmax(bad))
            return int(np.searchsorted(offsets, element, side="right")) - 1, int(ids[element])
    return None


def _before(offsets: _Ints, ids: _Ids, start: int) -> _Ints:
    """Return the id before each of _AT_ONCE ids from `start` on, -1 for a request's first."""
    end = min(start + _AT_ONCE, len(ids))
    before = np.empty(end - start, dtype=np.int64)
    before[0] = ids[start - 1] if start else -1
    before[1:] = ids[start : end - 1]
    first, last = np.searchsorted(offsets, [start, end])
    before[offsets[first:last] - start] = -1
    return before


def dense_codes(ids: _Ids) -> tuple[_Ids, int]:
    """Return codes from 0 for ids, the ids themselves where they are close together, and how many.

    The number is one that all codes are below, not that of the codes in use.
    """
    if len(ids) == 0:
        return ids, 0
    top = int(ids.max()) + 1
    if ids.min() >= 0 and top <= 4 * len(ids) + 1024:
        return ids, top
    known, codes = np.unique(ids, return_inverse=True)
    return codes.astype(np.int64), len(known)


def made_global(
    offsets: _Ints, ids: NDArray[Any], scopes: _Ints, *, in_place: bool = False
) -> NDArray[Any]:
    """Give ids that are local to a scope, such as a session, ids that are unique in the file.

    Args:
        offsets: int64[n + 1], where each request's ids start.
        ids: int64[m] or int32[m], ids of one scope, none negative.
        scopes: int64[n], the scope of each request, from 0 without gaps.
        in_place: write the new ids over the old ones where they fit.

    Returns:
        ids of the same type where they fit, else int64[m]; scope s's ids follow all ids of the
        scopes before it, in their own order. Ids so large that they would pass 2^63 that way are
        numbered from 0 first.
    """
    if len(ids) == 0:
        return ids
    if int(ids.max()) > 2**62 // (int(scopes.max()) + 1):
        ids = dense_codes(ids)[0]
    lengths = np.diff(offsets)
    filled = lengths > 0
    tops = np.zeros(int(scopes.max()) + 1, dtype=np.int64)
    row_tops = np.maximum.reduceat(ids, offsets[:-1][filled]).astype(np.int64) + 1
    np.maximum.at(tops, scopes[filled], row_tops)
    starts = np.cumsum(tops) - tops
    fits = ids.dtype == np.int64 or int(tops.sum()) < 2**31
    made = ids.astype(ids.dtype if fits else np.int64, copy=not (fits and in_place))
    # Row by row: an array of one start an id would be as large as the ids themselves.
    for row, start in enumerate(starts[scopes].tolist()):
        made[offsets[row] : offsets[row + 1]] += made.dtype.type(start)
    return made


def reordered(offsets: _Ints, ids: NDArray[Any], order: _Ints) -> tuple[_Ints, NDArray[Any]]:
    """Return offsets and ids of the requests in another order, `order[i]` the old row of row i.

    The ids may be of any width, and keep it.
    """
    lengths = np.diff(offsets)[order]
    moved = np.zeros(len(order) + 1, dtype=np.int64)
    np.cumsum(lengths, out=moved[1:])
    result = np.empty(len(ids), dtype=ids.dtype)
    for row, old in enumerate(order.tolist()):
        result[moved[row] : moved[row + 1]] = ids[offsets[old] : offsets[old + 1]]
    return moved, result


def truncated(offsets: _Ints, ids: NDArray[Any], lengths: _Ints) -> tuple[_Ints, NDArray[Any]]:
    """Keep at most `lengths[i]` leading ids of request i."""
    kept = np.minimum(np.diff(offsets), lengths)
    moved = np.zeros(len(offsets), dtype=np.int64)
    np.cumsum(kept, out=moved[1:])
    index = np.repeat(offsets[:-1] - moved[:-1], kept)
    index += np.arange(len(index), dtype=np.int64)
    return moved, ids[index]


def chained(offsets: _Ints, ids: _Ints) -> _Ints:
    """Give ids that stand for a block's content ids that stand for the block and all before it.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        ids: int64[m], ids of the blocks' contents.

    Returns:
        int64[m], from 0: two are equal where both content and everything before are.
    """
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")  # so that those with a block at a depth come first
    starts, sorted_lengths = offsets[:-1][order], lengths[order]
    made = np.empty_like(ids)
    before = np.zeros(len(order), dtype=np.int64)
    next_id = 0
    known, codes = np.unique(ids, return_inverse=True)
    for depth in range(int(sorted_lengths[0]) if len(order) else 0):
        active = int(np.searchsorted(-sorted_lengths, -depth, side="left"))
        places = starts[:active] + depth
        keys = before[:active] * len(known) + codes[places]
        found, inverse = np.unique(keys, return_inverse=True)
        before[:active] = inverse
        made[places] = inverse + next_id
        next_id += len(found)
    return made
