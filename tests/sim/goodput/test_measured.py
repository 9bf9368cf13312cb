"""Statistics of latencies: nearest ranks over what was observed and what never came."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.goodput.measured import PERCENTS, statistics


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 5))
def test_quantiles_are_those_of_a_sorted_list_with_infinities_at_its_end(
    values: list[int], late: int
) -> None:
    array = np.array(values, np.int64)
    found = statistics(array, np.ones(array.size, np.int64), sum(values), late)
    every = [*sorted(values), *[None] * late]
    for percent in PERCENTS:
        rank = math.ceil(percent * len(every) / 100)
        assert found[f"p{percent}"] == (every[rank - 1] if every else None)
    mean = math.ceil(sum(values) / len(values)) if values and not late else None
    assert found["mean"] == mean


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=9))
def test_a_value_observed_several_times_counts_as_often(pairs: list[tuple[int, int]]) -> None:
    values, counts = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    total = int((values * counts).sum())
    repeated = np.repeat(values, counts)
    assert statistics(values, counts, total, 2) == statistics(
        repeated, np.ones(repeated.size, np.int64), total, 2
    )
