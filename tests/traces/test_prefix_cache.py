"""Prefix hits of a trace against caches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.traces.prefix_cache import lru_hits, lru_hits_plainly


def packed(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return offsets, np.asarray([i for row in rows for i in row], dtype=np.int64)


def unbounded_hits(offsets: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Count each request's hit blocks in a cache that never evicts; ids are dense.

    An id stands for its whole prefix: one seen before has all blocks before it seen before too,
    so that no contiguity need be checked.
    """
    rows = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    first = np.full(len(ids), len(offsets), dtype=np.int64)
    np.minimum.at(first, ids, rows)
    return np.bincount(rows[first[ids] < rows], minlength=len(offsets) - 1)


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


@settings(deadline=None)
@given(rows=chains(), capacity=st.integers(1, 40), spread=st.sampled_from([1, 10**12]))
def test_compiled_lru_equals_plain_python(
    rows: list[list[int]], capacity: int, spread: int
) -> None:
    offsets, ids = packed(rows)
    compiled = lru_hits(offsets, ids * spread, capacity)
    assert compiled.tolist() == lru_hits_plainly(offsets, ids, capacity).tolist()


@settings(deadline=None)
@given(rows=chains())
def test_more_blocks_never_hit_less_up_to_the_unbounded_cache(rows: list[list[int]]) -> None:
    offsets, ids = packed(rows)
    sums = [int(lru_hits(offsets, ids, size).sum()) for size in (1, 2, 4, 8, 16, 1000)]
    assert sums == sorted(sums)
    assert sums[-1] == int(unbounded_hits(offsets, ids).sum())


@given(rows=chains())
def test_unbounded_hits_are_the_blocks_of_earlier_requests(rows: list[list[int]]) -> None:
    seen: set[int] = set()
    wanted = []
    for row in rows:
        wanted.append(sum(i in seen for i in row))
        seen.update(row)
    assert unbounded_hits(*packed(rows)).tolist() == wanted


def test_a_prompt_longer_than_the_cache_leaves_its_leading_blocks() -> None:
    offsets, ids = packed([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    assert lru_hits(offsets, ids, 3).tolist() == [0, 3]


def test_a_hit_ends_at_the_first_block_that_is_missing() -> None:
    offsets, ids = packed([[0, 1, 2], [7, 8], [0, 1, 2]])
    assert lru_hits(offsets, ids, 3).tolist() == [0, 0, 1]


@pytest.mark.parametrize("capacity", [1, 5])
def test_no_blocks_no_hits(capacity: int) -> None:
    offsets, ids = packed([[], []])
    assert lru_hits(offsets, ids, capacity).tolist() == [0, 0]
    assert unbounded_hits(offsets, ids).tolist() == [0, 0]
