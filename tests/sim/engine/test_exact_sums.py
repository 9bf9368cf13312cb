"""Sums beyond 2^63 come out exact, in arrays and in kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.exact_sums import add_product, exact_dot, exact_sum, joined

INT64 = st.integers(-(2**63), 2**63 - 1)


@borrowing_kernel
def with_product(high: int, low: int, count: int, length: int) -> tuple[int, int]:
    """A running sum and one more product, as kernels add it."""
    return add_product(high, low, count, length)


@given(st.lists(INT64, max_size=40))
def test_a_sum_is_that_of_unbounded_integers(values: list[int]) -> None:
    assert exact_sum(np.array(values, np.int64)) == sum(values)


@given(st.lists(st.tuples(INT64, INT64), max_size=20))
def test_a_weighted_sum_is_that_of_unbounded_integers(pairs: list[tuple[int, int]]) -> None:
    values, weights = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    assert exact_dot(values, weights) == sum(v * w for v, w in pairs)


@pytest.mark.parametrize("count", [(1 << 20) - 1, 1 << 20, (1 << 21) + 3])
def test_sums_of_many_go_over_chunks(count: int) -> None:
    values = np.full(count, 2**62, np.int64)
    assert exact_sum(values) == count * 2**62
    assert exact_dot(values, values) == count * 2**124


def test_narrow_columns_are_widened_first() -> None:
    assert exact_sum(np.full(10, 120, np.int8)) == 1_200
    assert exact_dot(np.full(10, 120, np.int8), np.full(10, 2**31 - 1, np.int32)) == 1_200 * (
        2**31 - 1
    )


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.tuples(st.integers(0, 2**42 - 1), st.integers(0, 2**60)), min_size=1, max_size=30)
)
def test_a_running_sum_of_products_in_two_parts_is_exact(pairs: list[tuple[int, int]]) -> None:
    high = low = 0
    for count, length in pairs:
        high, low = with_product(high, low, count, length)
        assert 0 <= low < 2**40
        assert high < 2**63
    assert joined(high, low) == sum(count * length for count, length in pairs)
