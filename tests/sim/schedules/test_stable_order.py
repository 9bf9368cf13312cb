"""Values are ordered as numpy orders them, whatever ties and infinities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.schedules.stable_order import stable_order

VALUES = st.one_of(
    st.integers(0, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0]),
    st.floats(),
)  # fmt: skip


@settings(max_examples=examples(400), deadline=None)  # the first example compiles
@given(st.lists(VALUES, max_size=80))
def test_the_order_is_numpys(values: list[float]) -> None:
    assert stable_order(np.array(values)).tolist() == np.argsort(values, kind="stable").tolist()


@pytest.mark.parametrize("n", [15, 16, 17, 31, 32, 33, 1000, 4097])
def test_runs_of_any_length_are_merged(n: int) -> None:
    draw = np.random.Generator(np.random.PCG64(n))
    for values in (draw.integers(0, 5, n) * 1.0, draw.random(n), np.arange(n)[::-1] * 1.0):
        assert (stable_order(values) == np.argsort(values, kind="stable")).all()
