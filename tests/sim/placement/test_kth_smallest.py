"""The k-th smallest value is what sorting finds, whatever ties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.placement.kth_smallest import kth_smallest

VALUES = st.one_of(st.integers(0, 3).map(float), st.floats(allow_nan=False))


@settings(max_examples=examples(400), deadline=None)  # the first example compiles
@given(st.data(), st.lists(VALUES, min_size=1, max_size=60))
def test_it_is_what_sorting_finds_and_all_values_are_still_there(
    data: st.DataObject, values: list[float]
) -> None:
    k = data.draw(st.integers(0, len(values) - 1))
    shuffled = np.array(values)
    assert kth_smallest(shuffled, k) == sorted(values)[k]
    assert sorted(shuffled.tolist()) == sorted(values)


def test_values_in_order_in_reverse_and_all_alike() -> None:
    for values in (np.arange(1000.0), np.arange(1000.0)[::-1], np.ones(1000)):
        wanted = np.sort(values)
        for k in (0, 1, 499, 998, 999):
            assert kth_smallest(values.copy(), k) == wanted[k]
