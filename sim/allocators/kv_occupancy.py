"""How many sequences a memory for KV holds at once, by the way that each is given its room.

    a queue that never runs dry; every step each sequence gets one token
    a sequence comes in, in order, as soon as its room is free, and leaves with its last token
    max:     room for the longest sequence that there may be
    power2:  room for its prompt and the next power of two of its answer's length
    exact:   room for its prompt and its whole answer, as if that were known
    paged:   blocks as it grows; when none is free the youngest sequence leaves, its KV is dropped,
             and it comes again first, with what it had generated as part of its prompt
    ranges:  the same in larger units: a chunk for the keys and one for the values of each layer

`max`, `power2` and `exact` are Orca (Max), (Pow2) and (Oracle) of Kwon et al., PagedAttention (SOSP
2023), section 6.1. A prompt's KV is there with the step that it comes in with.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Way = Literal["max", "power2", "exact", "paged", "ranges"]
WAYS: Final[tuple[Way, ...]] = ("max", "power2", "exact", "paged", "ranges")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of each sequence's prompt and answer; int64 arrays of one length."""

    prompt: Ints
    output: Ints

    def at_most(self, longest: int) -> "Lengths":
        """Those whose prompt and answer fit a longest sequence together."""
        fits = self.prompt + self.output <= longest
        return Lengths(self.prompt[fits], self.output[fits])

    def first(self, count: int) -> "Lengths":
        """The first so many."""
        return Lengths(self.prompt[:count], self.output[:count])


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a memory held while sequences waited, step by step; the end without a queue is left out.

    Attributes:
        steps: how many steps that was.
        held: mean of sequences held at once.
        most_held: the most of them.
        used: mean share of the memory that held tokens were in.
        reserved: mean share that was kept for sequences.
        preemptions: how often a sequence had to leave.
    """

    steps: int
    held: float
    most_held: int
    used: float
    reserved: float
    preemptions: int


def occupancy(
    lengths: Lengths, way: Way, memory_tokens: int, unit_tokens: int, longest: int
) -> Occupancy:
    """Serve all sequences as fast as memory allows.

    Args:
        lengths: the queue; every sequence fits `longest` and the memory.
        way: how room is given.
        memory_tokens: what the memory holds.
        unit_tokens: of a block, or what a chunk of every range holds together; 1 for the rest.
        longest: the longest sequence that there may be.

    Raises:
        ValueError: a sequence does not fit at all.
    """
    kept = _kept_tokens(lengths, way, longest)
    grows = way in ("paged", "ranges")
    units = memory_tokens // unit_tokens
    most = lengths.prompt + lengths.output
    if (-(-(most if grows else kept) // unit_tokens) > units).any():
        raise ValueError("a sequence is longer than the memory")
    queue = deque(range(len(most)))
    done = np.zeros(len(most), np.int64)  # tokens generated so far
    running: list[int] = []  # by age
    steps = preemptions = held = most_held = 0
    used_tokens = reserved_units = 0
    while True:
        taken = int(_units(lengths, kept, done, running, grows, unit_tokens).sum())
        while queue:
            each = queue[0]
            wanted = int(_units(lengths, kept, done, [each], grows, unit_tokens)[0])
            if taken + wanted > units:
                break
            running.append(queue.popleft())
            taken += wanted
        if not queue:
            break
        # as many steps at once as nothing changes in: nobody ends, no unit is added
        now = np.array(running)
        left = lengths.output[now] - done[now]
        count = int(left.min())
        tokens = lengths.prompt[now] + done[now]
        if grows:
            count = min(count, int((unit_tokens - tokens % unit_tokens).min()))
        steps += count
        held += count * len(now)
        most_held = max(most_held, len(now))
        used_tokens += count * int(tokens.sum()) + len(now) * count * (count + 1) // 2
        reserved_units += count * taken
        done[now] += count
        running = [each for each in running if done[each] < lengths.output[each]]
        while grows and running:
            wanted = int(_units(lengths, kept, done, running, grows, unit_tokens).sum())
            if wanted <= units:
                break
            queue.appendleft(running.pop())
            preemptions += 1
    whole = max(steps, 1)
    return Occupancy(
        steps=steps,
        held=held / whole,
        most_held=most_held,
        used=used_tokens / whole / memory_tokens,
        reserved=reserved_units * unit_tokens / whole / memory_tokens,
        preemptions=preemptions,
    )


def memory_for(lengths: Lengths, way: Way, held: int, unit_tokens: int, longest: int) -> int:
    """Tokens of memory that the peak takes where always `held` sequences run: equal load.

    A sequence that ends makes place for the next; nothing else does.
    """
    kept = _kept_tokens(lengths, way, longest)
    grows = way in ("paged", "ranges")
    done = np.zeros(len(lengths.prompt), np.int64)
    following, peak = min(held, len(done)), 0
    running = list(range(following))
    while running:
        now = np.array(running)
        count = int((lengths.output[now] - done[now]).min())
        done[now] += count  # between two ends each one only grows
        taken = _units(lengths, kept, done - 1, running, grows, unit_tokens).sum()
        peak = max(peak, int(taken))
        running = [each for each in running if done[each] < lengths.output[each]]
        if following == len(done):
            break  # the load falls from here
        while len(running) < held and following < len(done):
            running.append(following)
            following += 1
    return peak * unit_tokens


def _kept_tokens(lengths: Lengths, way: Way, longest: int) -> Ints:
    """Tokens that each sequence's room is for where it does not grow."""
    if way == "max":
        return np.full(len(lengths.prompt), longest, np.int64)
    if way == "power2":
        power = np.array([1 << (int(n) - 1).bit_length() for n in lengths.output], np.int64)
        kept: Ints = np.minimum(lengths.prompt + power, longest)
        return kept
    return lengths.prompt + lengths.output


def _units(
    lengths: Lengths, kept: Ints, done: Ints, which: list[int], grows: bool, unit_tokens: int
) -> Ints:
    """Units that sequences take in the step that comes."""
    rows = np.array(which, np.int64)
    tokens = lengths.prompt[rows] + done[rows] + 1 if grows else kept[rows]
    units: Ints = -(-tokens // unit_tokens)
    return units
