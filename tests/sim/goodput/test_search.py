"""The search: it ends at the boundary, whatever the boundary, and asks for little."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.sim.goodput.load import (
    HIGHEST_RUNG,
    LOWEST_RUNG,
    RUNGS_PER_OCTAVE,
    nearest_rung,
    rate_scale,
)
from vsim.sim.goodput.search import Bracket, bracket, next_rungs

RUNGS = st.integers(LOWEST_RUNG, HIGHEST_RUNG)


def searched(meets: Callable[[int], bool], start: int, at_once: int) -> dict[int, bool]:
    met: dict[int, bool] = {}
    while rungs := next_rungs(met, start, at_once):
        assert len(set(rungs)) == len(rungs)
        assert not set(rungs) & set(met), "no load is run twice"
        assert all(LOWEST_RUNG <= rung <= HIGHEST_RUNG for rung in rungs)
        met |= {rung: meets(rung) for rung in rungs}
    return met


@settings(max_examples=examples(60), deadline=None)
@given(RUNGS, RUNGS, st.sampled_from([1, 2]))
def test_a_boundary_is_found_between_two_neighbours_that_were_run(
    boundary: int, start: int, at_once: int
) -> None:
    met = searched(lambda rung: rung <= boundary, start, at_once)
    found = bracket(met)
    if boundary < HIGHEST_RUNG:
        assert found == Bracket(boundary, boundary + 1, monotone=True)
        assert met[boundary]
        assert not met[boundary + 1]
    else:
        assert found == Bracket(HIGHEST_RUNG, None, monotone=True)
    # at most: doublings from anywhere, halvings of the widest bracket, two probes
    assert len(met) <= (5 + 9 + 3 if at_once == 1 else 5 + 2 * 6 + 3)


@settings(max_examples=examples(60), deadline=None)
@given(st.sets(RUNGS), RUNGS, st.sampled_from([1, 2]))
def test_where_it_is_not_monotone_no_run_at_or_under_the_answer_failed(
    failing: set[int], start: int, at_once: int
) -> None:
    found = bracket(met := searched(lambda rung: rung not in failing, start, at_once))
    if found.below is not None:
        assert all(good for rung, good in met.items() if rung <= found.below)
    if found.below is not None and found.above is not None:
        assert found.above == found.below + 1
    assert found.monotone == (
        found.above is None or not any(good for rung, good in met.items() if rung > found.above)
    )


def test_a_load_that_meets_it_again_above_a_failing_one_is_told() -> None:
    met = searched(lambda rung: rung <= 10 or rung == 15, 0, 1)
    assert bracket(met) == Bracket(10, 11, monotone=False)


def test_where_nothing_meets_it_the_search_ends_at_the_lowest_load() -> None:
    met = searched(lambda rung: False, 5, 1)
    assert bracket(met) == Bracket(None, LOWEST_RUNG, monotone=True)
    assert len(met) <= 6


def test_rungs_rise_by_the_32nd_root_of_two() -> None:
    assert rate_scale(0) == 1.0
    assert rate_scale(RUNGS_PER_OCTAVE) == 2.0
    assert rate_scale(-RUNGS_PER_OCTAVE) == 0.5
    assert rate_scale(1) == pytest.approx(2 ** (1 / 32), rel=1e-4)


@settings(max_examples=examples(60), deadline=None)
@given(RUNGS)
def test_a_rung_s_load_is_printed_whole_and_is_nearest_to_itself(rung: int) -> None:
    assert float(f"{rate_scale(rung):.5g}") == rate_scale(rung)
    assert nearest_rung(rate_scale(rung)) == rung
