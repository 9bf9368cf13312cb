"""An online policy for prefix caches: keep the blocks that are most likely to be found soon.

LRU takes for granted that what was used last comes back first. Where users think before they go on,
the next turn of a conversation comes after a pause, and a cache that is too small for the pause
holds every conversation for a while and finds none. Better keep fewer, those that are likely to go
on, until their pause is over.

What is expected of a block is learned while requests come. Blocks fall into classes by the request
that used them last: its turn, which is how many earlier requests its conversation has, as far as
prefixes show; how long after the one before it came (a tool's answer, or somebody who thought); and
what share of its prompt was new. For each class and age (in seconds, three bins a doubling) the
policy counts uses and the time that blocks were there to be used, kept or not, and so knows the
rate of return at each age. A block of class c and age a is worth

    max over d of  P(used before age d | unused until a) / E(time until then, or until d)

hits for each second that it takes room: the best rate that can be had by keeping it until an age
and giving it up then (an index as Gittins's, Journal of the Royal Statistical Society B 41, 1979).
Blocks that requests of several conversations use have a rate of their own instead: uses over time.
After each request the blocks worth least go, of one request's the deepest first; the request's own
may be among them (bypass). Until enough returns were seen it is LRU.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsim.sim.compiled import kernel, wide
from vsim.sim.schedules.stable_order import stable_order
from vsim.traces.prefix_chain import dense_codes

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_DOUBLINGS: Final = 16  # of age, from a second to 18 hours; beyond, one bin
_LEARN_FIRST: Final = 32  # requests, until there are `learn_every`
_GROUPS: Final = 9  # of a turn: three pauses by three shares of what was new


class Constants(NamedTuple):
    """What is fixed beforehand; all else is learned.

    Blocks that several conversations use have a class of their own.

    Args:
        turns: that are told apart: 0, 1, ..., and the last for all beyond.
        short_s, long_s: where pauses of a conversation part into short, longer and long ones.
        little, much: where shares of a prompt that were new do.
        bins: of age a doubling; the first bin is below a second.
        learn_after: turns after the first that must have been seen. Until then it is LRU.
        learn_every: requests.
        prior: blocks whose rate is all classes' together, counted in with those of a class.
    """

    turns: int = 3
    short_s: float = 16.0
    long_s: float = 256.0
    little: float = 0.1
    much: float = 0.4
    bins: int = 3
    learn_after: int = 100
    learn_every: int = 64
    prior: float = 200.0


CHOSEN: Final = Constants()


class _Segments(NamedTuple):
    """Blocks in a row of one request, which was the last to use them: one entry each.

    `size` blocks, of which the first `kept` are in the cache; how often they were used, since
    when, and when last; their class; the next segment of the same request, or -1.
    """

    owner: _Ints
    size: _Ints
    kept: _Ints
    uses: _Ints
    since: _Ints
    last: _Ints
    kind: _Ints
    behind: _Ints


class _Learned(NamedTuple):
    """By class and age: blocks used again, the time they were there, and what one is worth.

    `seconds` are when requests came.
    """

    returns: _Floats
    exposed: _Floats
    worth: _Floats
    seconds: _Floats


def expected_returns(
    offsets: _Ints,
    ids: _Ints | NDArray[np.int32],
    arrival_ns: _Ints,
    blocks: int,
    constants: Constants = CHOSEN,
) -> _Ints:
    """Replay requests against a cache that this policy fills.

    Args:
        offsets: int64[n + 1], where each request's ids start, from 0.
        ids: int64[m] or int32[m], each standing for its whole prefix.
        arrival_ns: int64[n], never falling. Where they are all the same, requests count as seconds.
        blocks: the capacity, at least 1.
        constants: those chosen, or others to try.

    Returns:
        int64[n], the leading blocks that each request finds.
    """
    codes, distinct = dense_codes(ids)
    seconds = arrival_ns / 1e9
    if len(seconds) and seconds[0] == seconds[-1]:
        seconds = np.arange(float(len(seconds)))
    # a request has a segment for what is new and one for each that it takes over or splits
    room = 4 * len(offsets) + 64
    found = np.zeros(len(offsets) - 1, np.int64)
    while _replay(offsets, codes, distinct, seconds, blocks, constants, room, found) < 0:
        room *= 2
    return found


@kernel
def _age_bin(age: float, bins: int) -> int:
    if age < 1.0:
        return 0
    return min(bins * _DOUBLINGS, 1 + int(bins * np.log2(age)))


@kernel
def _bin_start(at: int, bins: int) -> float:
    return 0.0 if at == 0 else 2.0 ** ((at - 1) / bins)


@kernel
def _expose(exposed: _Floats, kind: int, blocks: float, age: float, bins: int) -> None:
    """Count that blocks of a class lived through all ages up to one."""
    at = 0
    while at < bins * _DOUBLINGS and _bin_start(at, bins) < age:
        exposed[kind, at] += blocks * (min(age, _bin_start(at + 1, bins)) - _bin_start(at, bins))
        at += 1


@kernel
def _learn(seg: _Segments, segments: int, know: _Learned, now: int, fixed: Constants) -> None:
    """Work out what each class is worth at each age, those that have not come back counted in."""
    exposed = know.exposed.copy()
    bins, classes, last = fixed.bins, fixed.turns * _GROUPS, fixed.bins * _DOUBLINGS
    for s in range(segments):
        if seg.size[s] > 0:
            age = know.seconds[now] - know.seconds[seg.last[s]]
            _expose(exposed, seg.kind[s], float(seg.size[s]), age, bins)
    span, usual = np.zeros(last), np.zeros(last)
    for at in range(last):
        span[at] = _bin_start(at + 1, bins) - _bin_start(at, bins)
        seen = exposed[:classes, at].sum()
        usual[at] = know.returns[:classes, at].sum() / seen if seen > 0.0 else 0.0
    left, time = np.zeros(last), np.zeros(last)  # still unused at the end of a bin; time in it
    for kind in range(classes):
        for at in range(last):
            prior = fixed.prior * span[at]
            rate = (know.returns[kind, at] + usual[at] * prior) / (exposed[kind, at] + prior)
            left[at] = np.exp(-rate * span[at])
            time[at] = (1.0 - left[at]) / rate if rate > 1e-12 else span[at]
        for age in range(last + 1):
            still, taken, best = 1.0, 0.0, 0.0
            for at in range(age, last):
                taken += still * time[at]
                still *= left[at]
                best = max(best, (1.0 - still) / taken)
            know.worth[kind, age] = best


@kernel
def _rate(seg: _Segments, know: _Learned, s: int, now: int, fixed: Constants) -> float:
    """What a block of a segment is worth now."""
    age = know.seconds[now] - know.seconds[seg.last[s]]
    if seg.kind[s] != fixed.turns * _GROUPS:
        return float(know.worth[seg.kind[s], _age_bin(age, fixed.bins)])
    own = (seg.uses[s] - 1) / (know.seconds[now] - know.seconds[seg.since[s]] + 1e-3)
    # silent for four times as long as it used to be: it is not what it was
    return float(1.0 / age if age * own > 4.0 else own)


@kernel
def _take_over(
    seg: _Segments,
    know: _Learned,
    head: _Ints,
    size: int,
    earlier: int,
    row: int,
    wanted: int,
    bins: int,
) -> int:
    """Move the first `wanted` blocks of an earlier request to segments of a request's own.

    Returns how many segments there are then; the new ones are the last, in order of depth.
    """
    while wanted > 0:
        s = head[earlier]
        taken = min(wanted, seg.size[s])
        age = know.seconds[row] - know.seconds[seg.last[s]]
        know.returns[seg.kind[s], _age_bin(age, bins)] += taken
        _expose(know.exposed, seg.kind[s], float(taken), age, bins)
        seg.owner[size], seg.size[size], seg.uses[size] = row, taken, seg.uses[s] + 1
        seg.kept[size] = min(taken, seg.kept[s])
        seg.since[size], seg.last[size] = seg.since[s], row
        seg.kept[s] -= seg.kept[size]
        seg.size[s] -= taken
        if seg.size[s] == 0:
            head[earlier] = seg.behind[s]
        wanted -= taken
        size += 1
    return size


@kernel
def _class_of(turn: int, pause_s: float, new: float, fixed: Constants) -> int:
    """The class of a request's blocks, by the pause before it and the share that was new."""
    group = 0
    if turn > 0:
        group = 3 * (int(pause_s > fixed.short_s) + int(pause_s > fixed.long_s))
    group += int(new > fixed.little) + int(new > fixed.much)
    return min(turn, fixed.turns - 1) * _GROUPS + group


@kernel
def _joined(seg: _Segments, first: int, size: int, turn: int, kind: int, shared: int) -> int:
    """Class a request's segments, and join neighbours of one conversation; how many remain."""
    last = first
    for s in range(first, size):
        seg.kind[s] = kind if seg.uses[s] <= turn + 2 else shared
        if s > first and seg.kind[s] != shared and seg.kind[last] != shared:
            seg.size[last] += seg.size[s]
            seg.uses[last] = max(seg.uses[last], seg.uses[s])
            seg.since[last] = min(seg.since[last], seg.since[s])
            continue
        if s > first:
            last += 1
        for column in seg:
            column[last] = column[s]
    for s in range(first, last + 1):
        seg.kept[s] = seg.size[s]  # it computed what it did not find
        seg.behind[s] = s + 1 if s < last else -1
    return last + 1


@kernel
def _evict(
    seg: _Segments,
    know: _Learned,
    live: _Ints,
    count: int,
    over: int,
    now: int,
    learned: bool,
    fixed: Constants,
) -> None:
    """Give up `over` blocks, those worth least; of one request's segments the deepest first."""
    worth = np.empty(count)
    for i in range(count - 1, -1, -1):
        s = live[i]
        worth[i] = _rate(seg, know, s, now, fixed) if learned else float(seg.last[s])
        if i + 1 < count and seg.owner[s] == seg.owner[live[i + 1]]:
            worth[i] = max(worth[i], worth[i + 1])
    for place in stable_order(worth[::-1].copy()):
        s = live[count - 1 - place]
        gone = min(seg.kept[s], over)
        seg.kept[s] -= gone
        over -= gone
        if over == 0:
            return


@kernel
def _replay(
    offsets: _Ints,
    codes: NDArray[Any],
    distinct: int,
    seconds: _Floats,
    blocks: int,
    fixed: Constants,
    room: int,
    found: _Ints,
) -> int:
    """Fill `found`; returns the number of segments, or -1 where there was no room for them."""
    n = len(found)
    seg = _Segments(
        np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64),
        np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64),
        np.zeros(room, np.int64), np.zeros(room, np.int64),
    )  # fmt: skip
    shared = fixed.turns * _GROUPS
    shape = (shared + 1, fixed.bins * _DOUBLINGS + 1)
    know = _Learned(np.zeros(shape), np.zeros(shape), np.zeros(shape), seconds)
    user = np.full(distinct, -1, np.int64)  # the last request that used each block
    head, turn = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    live = np.empty(room, np.int64)
    # As literals they would be types of their own, with a version of what they are given to each.
    size = count = later = wide(0)
    learned = False
    for row in range(n):
        every = _LEARN_FIRST if row < fixed.learn_every else fixed.learn_every
        if row % every == 0 and later >= fixed.learn_after:
            _learn(seg, size, know, row, fixed)
            learned = True
        first, at, end = size, offsets[row], offsets[row + 1]
        pause_s = 0.0
        while at < end and user[codes[at]] >= 0:
            earlier, start = user[codes[at]], at
            while at < end and user[codes[at]] == earlier:
                at += 1
            if at - offsets[row] >= 3 or at - start >= 2:  # not the one block that all begin with
                turn[row] = turn[earlier] + 1
                pause_s = seconds[row] - seconds[earlier]
            if size + at - start + 2 >= room:
                return -1
            size = _take_over(seg, know, head, size, earlier, row, at - start, fixed.bins)
        found[row] = 0
        for s in range(first, size):
            found[row] += seg.kept[s]
            if seg.kept[s] < seg.size[s]:
                break
        if at < end:
            seg.owner[size], seg.size[size], seg.uses[size] = row, end - at, 1
            seg.since[size] = seg.last[size] = row
            size += 1
        if size > first:
            later += int(turn[row] > 0)
            new = (end - at) / (end - offsets[row])
            kind = _class_of(turn[row], pause_s, new, fixed)
            size = _joined(seg, first, size, turn[row], kind, shared)
            head[row] = first
        for i in range(offsets[row], end):
            user[codes[i]] = row
        alive = held = 0
        for i in range(count):
            if seg.kept[live[i]] > 0:
                live[alive] = live[i]
                held += seg.kept[live[i]]
                alive += 1
        for s in range(first, size):
            live[alive] = s
            held += seg.kept[s]
            alive += 1
        count = alive
        if held > blocks:
            _evict(seg, know, live, count, held - blocks, row, learned, fixed)
    return size
