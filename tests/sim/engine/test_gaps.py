"""Gaps in buckets: what is read from them beside what all gaps together would give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.sim.engine.gaps import SUB_BITS, GapCounter, Gaps
from vsim.sim.results.metrics import QUANTILES, gaps_ms, nearest_ranks

GAP = st.integers(0, 60).flatmap(lambda bits: st.integers(0, 2**bits))


def counted(batches: list[list[tuple[int, int]]]) -> Gaps:
    counter = GapCounter()
    for pairs in batches:
        counter.add(*(np.array([p[i] for p in pairs], np.int64) for i in (0, 1)))
    return counter.gaps()


def plainly(batches: list[list[tuple[int, int]]]) -> tuple[dict[int, tuple[int, int]], int]:
    """The same with Python's integers: (gaps, the largest) by first gap of the bucket; the sum."""
    found: dict[int, tuple[int, int]] = {}
    total = 0
    for gap, weight in (pair for pairs in batches for pair in pairs):
        total += gap * weight
        if weight:
            width = 1 << max(gap.bit_length() - SUB_BITS - 1, 0)
            count, largest = found.get(gap // width * width, (0, 0))
            found[gap // width * width] = (count + weight, max(largest, gap))
    return found, total


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.lists(st.tuples(GAP, st.integers(0, 2**31)), max_size=20), max_size=4))
def test_the_kernel_counts_what_plain_python_counts(batches: list[list[tuple[int, int]]]) -> None:
    gaps, (expected, total) = counted(batches), plainly(batches)
    rising = [expected[first] for first in sorted(expected)]
    assert gaps.counts.tolist() == [count for count, _ in rising]
    assert gaps.largest_ns.tolist() == [largest for _, largest in rising]
    assert gaps.total_ns == total


@given(st.lists(GAP, min_size=1, max_size=60))
def test_a_quantile_occurred_and_is_at_most_one_part_in_32768_above_the_exact_one(
    values: list[int],
) -> None:
    gaps = counted([[(value, 1) for value in values]])
    exact = nearest_ranks(np.array(values, np.int64), QUANTILES)
    for found, wanted in zip(
        nearest_ranks(gaps.largest_ns, QUANTILES, gaps.counts), exact, strict=True
    ):
        assert found in values
        assert wanted <= found <= wanted + wanted / 2**SUB_BITS
        if wanted < 2 << SUB_BITS:
            assert found == wanted


def test_the_mean_is_exact_beyond_64_bits() -> None:
    gaps = counted([[(2**59, 2**31)] * 10])
    assert gaps.total_ns == 10 * 2**90
    assert gaps_ms(gaps)["mean"] == 2**59 / 1e6


def test_steps_count_from_the_end_of_the_step_before_also_over_batches() -> None:
    counter = GapCounter()
    ends = np.array([10, 17, 30, 31])
    common = np.array([0, 2, 0, 3])
    counter.add_steps(ends[:1], common[:1])
    counter.add_steps(ends[1:3], common[1:3])
    counter.add_steps(ends[:0], common[:0])
    counter.add_steps(ends[3:], common[3:])
    gaps = counter.gaps()
    assert dict(zip(gaps.largest_ns.tolist(), gaps.counts.tolist(), strict=True)) == {7: 2, 1: 3}


@pytest.mark.parametrize("gap", [-1, 2**60 + 1])
def test_a_gap_of_no_run_is_refused(gap: int) -> None:
    with pytest.raises(ValueError, match="a gap between tokens"):
        counted([[(gap, 1)]])
