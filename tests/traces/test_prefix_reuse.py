"""Runs of reused prefix blocks, and the hits of LRU caches that follow from them."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.traces.prefix_reuse import PrefixReuse


def packed(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return offsets, np.asarray([i for row in rows for i in row], dtype=np.int64)


def lru_hits(rows: list[list[int]], capacity: int) -> list[int]:
    """Replay requests against an LRU cache, block by block: what one pass is compared with."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = [0] * len(rows)
    for at, blocks in enumerate(rows):
        for block in blocks:
            if block not in cache:
                break
            hits[at] += 1
        for block in reversed(blocks):
            cache[block] = None
            cache.move_to_end(block)
            if len(cache) > capacity:
                cache.popitem(last=False)
    return hits


@st.composite
def chains(draw: st.DrawFn) -> list[list[int]]:
    """Prompts that share prefixes: each goes on from a leading part of an earlier one."""
    rows: list[list[int]] = []
    fresh = 0
    for _ in range(draw(st.integers(1, 25))):
        base = draw(st.sampled_from([[], *rows]))
        kept = base[: draw(st.integers(0, len(base)))]
        new = draw(st.integers(0, 5))
        rows.append([*kept, *range(fresh, fresh + new)])
        fresh += new
    return rows


def test_runs_of_three_prompts() -> None:
    """Of a b c d, a b e and a b c d the last finds a b as the second left them, c d as the first.

    Above a b, in the order of last use, lies nothing; above c d lie a, b and e.
    """
    reuse = PrefixReuse.of(*packed([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 4]]))
    assert reuse.request.tolist() == [1, 2, 2]
    assert reuse.last_use.tolist() == [0, 1, 0]
    assert reuse.depth.tolist() == [0, 0, 2]
    assert reuse.count.tolist() == [2, 2, 2]
    assert reuse.above.tolist() == [0, 0, 3]
    assert reuse.lru_hits(np.arange(7)).tolist() == [0, 2, 4, 4, 5, 6, 6]


@settings(deadline=None)
@given(rows=chains(), spread=st.sampled_from([1, 10**12]))
def test_one_pass_equals_a_replay_at_every_capacity(rows: list[list[int]], spread: int) -> None:
    offsets, ids = packed(rows)
    reuse = PrefixReuse.of(offsets, ids * spread)
    capacities = np.arange(1, 60)
    replayed = [lru_hits(rows, int(size)) for size in capacities]
    assert reuse.lru_hits(capacities).tolist() == [sum(hits) for hits in replayed]
    for size in (1, 3, 17, 59):
        assert reuse.lru_hits_of_requests(size).tolist() == replayed[size - 1]


@settings(deadline=None)
@given(rows=chains())
def test_more_blocks_never_hit_less_up_to_all_that_were_used_before(rows: list[list[int]]) -> None:
    seen: set[int] = set()
    again = 0
    for row in rows:
        again += sum(block in seen for block in row)
        seen.update(row)
    blocks, hits = PrefixReuse.of(*packed(rows)).lru_curve()
    assert (np.diff(blocks) > 0).all()
    assert (np.diff(hits) >= 0).all()
    assert (blocks[0], hits[0]) == (0, 0)
    assert hits[-1] == again


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        # a prompt longer than the cache leaves its leading blocks
        ([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]], [0, 3]),
        # a hit ends at the first block that is missing
        ([[0, 1, 2], [7, 8], [0, 1, 2]], [0, 0, 1]),
        ([[], []], [0, 0]),
        ([[1, 2], [3]], [0, 0]),
    ],
)
def test_hits_of_three_blocks_by_hand(rows: list[list[int]], found: list[int]) -> None:
    assert lru_hits(rows, 3) == found
    reuse = PrefixReuse.of(*packed(rows))
    assert reuse.lru_hits_of_requests(3).tolist() == found
    assert reuse.lru_hits(np.array([0, 3])).tolist() == [0, sum(found)]


def test_no_requests_give_a_flat_curve() -> None:
    reuse = PrefixReuse.of(*packed([]))
    assert reuse.lru_hits(np.array([0, 1, 100])).tolist() == [0, 0, 0]
