"""Prefix ids: chains, scopes, order."""

from itertools import pairwise
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vsim.traces.id_runs import IdRuns
from vsim.traces.prefix_chain import chained, first_broken, made_global, reordered, truncated


def packed(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return offsets, np.asarray([i for row in rows for i in row], dtype=np.int64)


def unpacked(offsets: np.ndarray, ids: np.ndarray) -> list[list[int]]:
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


ROWS = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=8)


def first_broken_plainly(rows: list[list[int]]) -> tuple[int, int] | None:
    before: dict[int, int] = {}
    for row, ids in enumerate(rows):
        for last, identity in zip([-1, *ids], ids, strict=False):
            if before.setdefault(identity, last) != last:
                return row, identity
    return None


RISING = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=3), min_size=1, max_size=6
).map(lambda rows: [[a + i for a, n in row for i in range(n)] for row in rows])


@given(
    rows=ROWS | RISING,
    spread=st.sampled_from([1, 10**12]),
    at_once=st.sampled_from([1, 3, 1 << 22]),
    few=st.sampled_from([0, 64]),
)
def test_a_broken_chain_is_found_where_a_plain_search_finds_it(
    rows: list[list[int]], spread: int, at_once: int, few: int
) -> None:
    rows = [[i * spread for i in row] for row in rows]
    with (
        patch("vsim.traces.prefix_chain._AT_ONCE", at_once),
        patch("vsim.traces.id_runs._AT_ONCE", at_once),
        patch("vsim.traces.id_runs._FEW", few),
    ):
        assert first_broken(*packed(rows)) == first_broken_plainly(rows)


@given(rows=RISING, kind=st.sampled_from([np.int32, np.int64]))
def test_runs_of_ids_are_the_ids(rows: list[list[int]], kind: type) -> None:
    offsets, ids = packed(rows)
    runs = IdRuns.of(offsets, ids.astype(kind))
    if runs is None:
        assert ids.size == 0
        return
    spelled = [range(a, b + 1) for a, b in zip(runs.first, runs.last, strict=True)]
    assert [i for run in spelled for i in run] == ids.tolist()
    starts = np.cumsum([0, *map(len, spelled)])[:-1]
    assert set(offsets[:-1][np.diff(offsets) > 0]) <= set(starts)
    before = [-1 if at in offsets else ids[at - 1] for at in starts]
    assert runs.before.tolist() == before
    top = int(ids.max()) + 1
    assert np.flatnonzero(runs.members(top)).tolist() == sorted(set(ids.tolist()))


@given(rows=ROWS)
def test_chained_ids_are_equal_where_all_blocks_up_to_them_are(rows: list[list[int]]) -> None:
    offsets, ids = packed(rows)
    made = unpacked(offsets, chained(offsets, ids))
    assert first_broken(offsets, chained(offsets, ids)) is None
    prefixes: dict[tuple[int, ...], int] = {}
    for row, chain in zip(rows, made, strict=True):
        assert len(row) == len(chain)
        for depth, identity in enumerate(chain, 1):
            assert prefixes.setdefault(tuple(row[:depth]), identity) == identity
    assert len(set(prefixes.values())) == len(prefixes)


def test_local_ids_of_64_bits_become_global_without_overflow() -> None:
    offsets, ids = packed([[2**63 - 1, 5], [2**63 - 1]])
    made = made_global(offsets, ids, np.array([0, 1]))
    assert len(set(made.tolist())) == 3
    assert made.min() >= 0


def test_one_id_at_one_place_is_a_chain() -> None:
    assert first_broken(*packed([[0, 1, 2], [], [0, 1, 7], [9], [0]])) is None
    assert first_broken(*packed([[0, 1], [1]])) == (1, 1)
    assert first_broken(*packed([[4, 4]])) == (0, 4)


@given(rows=ROWS, data=st.data())
def test_ids_of_different_scopes_never_meet(rows: list[list[int]], data: st.DataObject) -> None:
    scopes = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    offsets, ids = packed(rows)
    made = unpacked(offsets, made_global(offsets, ids, np.asarray(scopes, dtype=np.int64)))
    pairs = {
        (scope, old): new
        for scope, olds, news in zip(scopes, rows, made, strict=True)
        for old, new in zip(olds, news, strict=True)
    }
    assert len(set(pairs.values())) == len(pairs)
    for scope, olds, news in zip(scopes, rows, made, strict=True):
        assert [pairs[scope, old] for old in olds] == news


@given(rows=ROWS, data=st.data())
def test_reordering_moves_whole_rows(rows: list[list[int]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    moved = unpacked(*reordered(*packed(rows), np.asarray(order)))
    assert moved == [rows[i] for i in order]


@given(rows=ROWS, data=st.data())
def test_truncating_keeps_leading_ids(rows: list[list[int]], data: st.DataObject) -> None:
    most = data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows)))
    kept = unpacked(*truncated(*packed(rows), np.asarray(most)))
    assert kept == [row[:n] for row, n in zip(rows, most, strict=True)]


@given(rows=ROWS, in_place=st.booleans())
def test_narrow_ids_stay_narrow_and_are_the_same(rows: list[list[int]], in_place: bool) -> None:
    offsets, ids = packed(rows)
    scopes = np.arange(len(rows)) % 2
    order = np.arange(len(rows))[::-1]
    wide = reordered(offsets, made_global(offsets, ids, scopes), order)[1]
    made = made_global(offsets, ids.astype(np.int32), scopes, in_place=in_place)
    narrow = reordered(offsets, made, order)[1]
    assert narrow.dtype == np.int32
    assert narrow.tolist() == wide.tolist()


def test_ids_that_outgrow_32_bits_are_widened() -> None:
    offsets, ids = packed([[2**31 - 2], [5]])
    made = made_global(offsets, ids.astype(np.int32), np.array([0, 1]), in_place=True)
    assert made.tolist() == [2**31 - 2, 2**31 + 4]
