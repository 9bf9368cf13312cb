"""Policies of prefix caches whose blocks have pieces in several groups of layers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.bounds.prefix_descent import Descent, needed_by_end
from vsim.sim.bounds.prefix_tiers import TierCase
from vsim.sim.compiled import kernel
from vsim.sim.schedules.cache_tiers import BlockNeeds

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


def lru_of_groups(offsets: _Ints, codes: NDArray[Any], needs: BlockNeeds, room: int) -> _Ints:
    """Replay requests against a cache of so many parts that evicts the piece used longest ago.

    A request takes the longest prefix that is there. What it then has used, the deepest first, are
    the pieces that the prefix needed and those of all blocks that it computed; of states, the copy
    at its end.

    Args:
        offsets: int64[n + 1], where each request's codes start.
        codes: of blocks, from 0.
        needs: of prefixes as long as the longest request.
        room: parts.

    Returns:
        int64[n], the leading blocks that each request finds.
    """
    count = int(codes.max()) + 1 if len(codes) else 0
    return _replayed(offsets, codes, count, needs.parts, needs.first, needs.made_at_end, room)


@kernel
def _replayed(
    offsets: _Ints, codes: NDArray[Any], count: int, parts: _Ints, first: _Ints,
    made_at_end: NDArray[np.bool_], room: int,
) -> _Ints:  # fmt: skip
    """A list through all pieces from the last used down, its ends in the place behind them."""
    groups = len(parts)
    end = groups * count
    newer, older = np.full(end + 1, -1, np.int64), np.full(end + 1, -1, np.int64)
    newer[end] = older[end] = end
    hits = np.zeros(len(offsets) - 1, np.int64)
    there = np.zeros(groups, np.int64)
    held = 0
    for row in range(len(hits)):
        start, length = offsets[row], offsets[row + 1] - offsets[row]
        there[:] = 0
        found = 0
        for h in range(1, length + 1):
            whole = True
            for g in range(groups):
                piece = g * count + codes[start + h - 1]
                there[g] = there[g] + 1 if newer[piece] >= 0 else 0
                whole = whole and there[g] >= h - first[g, h]
            if whole:
                found = h
        hits[row] = found
        for i in range(length - 1, -1, -1):
            for g in range(groups):
                if i < found and i < first[g, found]:
                    continue
                if i >= found and first[g, i + 1] > i:
                    continue  # nobody needs it
                if i >= found and made_at_end[g] and i < length - 1:
                    continue
                piece = g * count + codes[start + i]
                if newer[piece] >= 0:
                    older[newer[piece]], newer[older[piece]] = older[piece], newer[piece]
                else:
                    held += parts[g]
                newer[piece], older[piece] = end, older[end]
                newer[older[end]] = piece
                older[end] = piece
        while held > room:
            piece = newer[end]  # the one used longest ago
            older[newer[piece]], newer[end] = end, newer[piece]
            newer[piece] = older[piece] = -1
            held -= parts[piece // count]
    return hits


def rounded_of_groups(case: TierCase, descent: Descent) -> int:
    """Whole prefixes from the shares in which a descent kept runs: units that they save.

    Ends of prefixes come by their share, then by what they save for their room; each takes the
    place of one of its request that saves less, if all that it needs has room, from use to use, in
    some tier.
    """
    reuse, tiers = case.reuse, case.tiers
    starts, of_run, pieces, size = _pieces_by_end(case)
    slots = np.maximum(reuse.request - reuse.last_use, 1)
    end_of = np.repeat(np.arange(len(slots)), np.diff(starts))
    spent = np.bincount(end_of, weights=pieces * size * slots[of_run], minlength=len(slots))
    density = case.worth.units[reuse.depth + reuse.count] / np.maximum(spent, 1.0)
    order = np.lexsort((-density, -np.round(descent.shares, 2)))
    by_load = np.argsort([float(load) for load in tiers.load_s], kind="stable")
    rooms = np.array(tiers.parts, np.int64)[by_load]
    loads = case.load_units()[by_load]
    units = case.worth.units[reuse.depth + reuse.count]
    return int(
        _placed(
            order, starts, of_run, pieces, size, reuse.last_use, reuse.request, units, rooms, loads,
            reuse.requests,
        )
    )  # fmt: skip


def _pieces_by_end(case: TierCase) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Pieces that a prefix needs which ends with each run: starts, run, how many, parts of each."""
    end_of, of_run, pieces, size = [], [], [], []
    runs = np.arange(len(case.reuse.count))
    for parts, first in zip(case.needs.parts.tolist(), case.needs.first, strict=True):
        one = BlockNeeds(np.ones(1, np.int64), first[None, :], np.zeros(1, np.bool_))
        starts, run, count = needed_by_end(case.reuse, one)
        end_of.append(np.repeat(runs, np.diff(starts)))
        of_run.append(run)
        pieces.append(count.astype(np.int64))
        size.append(np.full(len(run), parts))
    ends = np.concatenate(end_of)
    order = np.argsort(ends, kind="stable")
    starts = np.searchsorted(ends[order], np.arange(len(runs) + 1))
    return (
        starts,
        np.concatenate(of_run)[order],
        np.concatenate(pieces)[order],
        np.concatenate(size)[order],
    )


@kernel
def _placed(
    order: _Ints, starts: _Ints, of_run: _Ints, pieces: _Ints, size: _Ints, first: _Ints,
    last: _Ints, units: _Ints, rooms: _Ints, loads: _Ints, slots: int,
) -> int:  # fmt: skip
    """Place prefixes in order; units saved by all of them."""
    tiers = len(rooms)
    held = np.zeros((tiers, slots), np.int64)
    chosen = np.full(slots, -1, np.int64)
    saved = np.zeros(slots, np.int64)
    lies = np.zeros((len(of_run), tiers), np.int64)
    for end in order:
        row = last[end]
        before = chosen[row]
        if before >= 0:
            _hold(held, lies, starts, of_run, first, last, before, -1)
        net = units[end]
        fits = True
        for at in range(starts[end], starts[end + 1]):
            run, left = of_run[at], pieces[at] * size[at]
            for j in range(tiers):
                more = left
                for t in range(first[run], row):
                    more = min(more, rooms[j] - held[j, t])
                more = max(more, 0) // size[at] * size[at]  # no piece lies in two tiers
                lies[at, j] = more
                held[j, first[run] : row] += more
                left -= more
                net -= more * loads[j]
            fits = fits and left == 0
        if fits and net > saved[row]:
            chosen[row], saved[row] = end, net
            continue
        _hold(held, lies, starts, of_run, first, last, end, -1)
        if before >= 0:
            _hold(held, lies, starts, of_run, first, last, before, 1)
    return int(saved.sum())


@kernel
def _hold(
    held: _Ints, lies: _Ints, starts: _Ints, of_run: _Ints, first: _Ints, last: _Ints, end: int,
    sign: int,
) -> None:  # fmt: skip
    """Take the room that a prefix has, or give it back."""
    for at in range(starts[end], starts[end + 1]):
        run = of_run[at]
        for j in range(len(held)):
            held[j, first[run] : last[run]] += sign * lies[at, j]
