"""A plan covers every token once, in equal shares, and always the same way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import ITEM_FIELDS, Plan, plan
from vsim.hwbackend.attention.prefill import ROWS, plan_prefill
from vsim.sim.timing.equal_shares import SLICE_TOKENS, SNAP_SLICES

H200 = 264  # blocks: two of each of 132 multiprocessors


def batch_of(lengths: list[int], page_tokens: int = 16) -> DecodeBatch:
    counts = [-(-length // page_tokens) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(counts)])
    last = [(length - 1) % page_tokens + 1 for length in lengths]
    return DecodeBatch.of(indptr, np.arange(indptr[-1]), last)


def column(of: Plan, name: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.int32]]":
    return of.items[:, ITEM_FIELDS.index(name)]


batches = st.lists(st.integers(1, 3_000), min_size=1, max_size=40)


@given(batches, st.integers(1, 9), st.sampled_from([1, 7, 132, H200]), st.integers(1, 16))
@settings(max_examples=examples(150), deadline=None)
def test_every_token_of_every_head_is_in_exactly_one_item(
    lengths: list[int], kv_heads: int, blocks: int, least: int
) -> None:
    made = plan(batch_of(lengths), PageLayout(16, kv_heads, 128), blocks, least)
    covered = [np.zeros((kv_heads, length), int) for length in lengths]
    for request, head, _, first, last, *_ in made.items:
        assert first % SLICE_TOKENS == 0
        assert first < last
        covered[request][head, first:last] += 1
    assert all((each == 1).all() for each in covered)
    assert made.block_items[0] == 0
    assert made.block_items[-1] == len(made.items)
    assert (np.diff(made.block_items) >= 0).all()


@given(batches, st.integers(1, 9), st.sampled_from([1, 7, 132, H200]))
@settings(max_examples=examples(150), deadline=None)
def test_no_block_has_much_more_than_its_share(
    lengths: list[int], kv_heads: int, blocks: int
) -> None:
    made = plan(batch_of(lengths), PageLayout(16, kv_heads, 128), blocks)
    slices = made.slices()
    used = (slices > 0).sum()
    longest = max(-(-length // SLICE_TOKENS) for length in lengths)
    assert slices.max() <= -(-slices.sum() // used) + min(2 * SNAP_SLICES, longest)


@given(batches, st.integers(1, 9), st.sampled_from([3, 132]))
@settings(max_examples=examples(150), deadline=None)
def test_the_parts_of_a_request_and_head_have_slots_side_by_side_in_order(
    lengths: list[int], kv_heads: int, blocks: int
) -> None:
    made = plan(batch_of(lengths), PageLayout(16, kv_heads, 128), blocks)
    by_pair: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for item in made.items.tolist():
        by_pair.setdefault((item[0], item[1]), []).append(tuple(item))
    taken: list[int] = []
    for parts in by_pair.values():
        assert [part[3] for part in parts] == sorted(part[3] for part in parts)
        assert {part[7] for part in parts} == {len(parts)}
        if len(parts) > 1:
            slots = [part[5] for part in parts]
            assert {part[6] for part in parts} == {slots[0]}
            assert slots == list(range(slots[0], slots[0] + len(parts)))
            taken += slots
    assert sorted(taken) == list(range(made.partials))
    assert made.partials <= 2 * blocks  # what PagedDecode takes room for


@pytest.mark.parametrize("length", [8_192, 131_072, 1_000_003])
def test_one_long_request_fills_all_blocks_evenly(length: int) -> None:
    slices = plan(batch_of([length]), PageLayout(16, 8, 128), H200).slices()
    assert slices.min() > 0
    assert slices.max() - slices.min() <= 1


def test_many_short_requests_fill_all_blocks_evenly() -> None:
    slices = plan(batch_of([1_024] * 256), PageLayout(16, 8, 128), H200).slices()
    assert slices.max() / slices.mean() < 1.01


def test_little_work_is_spread_over_blocks_but_not_cut_to_pieces() -> None:
    made = plan(batch_of([1, 20]), PageLayout(16, 8, 128), H200)
    assert len(made.items) == 16
    assert made.partials == 0
    assert made.slices().max() <= 3
    assert plan(batch_of([64]), PageLayout(16, 1, 128), H200).partials == 0


def test_a_plan_is_the_same_each_time() -> None:
    batch, layout = batch_of([5, 700, 33, 9_000]), PageLayout(16, 8, 128)
    one, other = plan(batch, layout, H200), plan(batch, layout, H200)
    assert np.array_equal(one.items, other.items)
    assert np.array_equal(one.block_items, other.block_items)


def test_an_empty_batch_is_an_empty_plan() -> None:
    made = plan(DecodeBatch.of([0], [], []), PageLayout(16, 8, 128), 5)
    assert len(made.items) == 0
    assert made.block_items.tolist() == [0] * 6


def test_a_launch_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="0 blocks: a launch has at least one"):
        plan(batch_of([1]), PageLayout(16, 8, 128), 0)


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 2_000)), min_size=1, max_size=9),
       st.integers(1, 8))  # fmt: skip
@settings(max_examples=examples(80), deadline=None)
def test_every_row_of_a_prefill_is_in_exactly_one_tile(
    requests: list[tuple[int, int]], group: int
) -> None:
    layout = PageLayout(16, 3, 64)
    new = np.array([n for n, _ in requests], np.int32)
    made = plan_prefill(batch_of([n + seen for n, seen in requests]), new, layout, 3 * group)
    rows = np.zeros((3, int(new.sum()) * group), int)
    for first_query, head, _, context, of_new, tile, *_ in made.items:
        begin, end = tile * ROWS, min((tile + 1) * ROWS, of_new * group)
        rows[head, first_query * group + begin : first_query * group + end] += 1
        assert context >= of_new
    assert (rows == 1).all()


def test_the_longest_prefill_tiles_come_first() -> None:
    made = plan_prefill(batch_of([100, 900]), np.array([100, 500]), PageLayout(16, 1, 128), 4)
    reads = [context - new + min(new, (tile + 1) * ROWS // 4)
             for _, _, _, context, new, tile, _, _ in made.items.tolist()]  # fmt: skip
    assert reads == sorted(reads, reverse=True)


@pytest.mark.parametrize(
    ("new", "why"),
    [([0], "request 0 has 0 new tokens in a context of 20"),
     ([21], "request 0 has 21 new tokens in a context of 20"),
     ([1, 1], "2 counts of new tokens for 1 requests")],
)  # fmt: skip
def test_prefills_that_make_no_sense_are_refused(new: list[int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        plan_prefill(batch_of([20]), np.array(new), PageLayout(16, 1, 128), 4)
