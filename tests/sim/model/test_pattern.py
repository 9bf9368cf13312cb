"""Patterns: layers written as runs are the layers that they were."""

from hypothesis import given
from hypothesis import strategies as st

from vsim.sim.model.pattern import Run, as_runs, layer_names

NAMES = st.lists(st.sampled_from(["near dense", "far dense", "state"]), min_size=1, max_size=60)


def runs(names: list[str]) -> list[Run]:
    return [Run.model_validate(each) for each in as_runs(names)]


@given(NAMES)
def test_runs_repeat_to_the_layers_that_they_were_made_of(names: list[str]) -> None:
    assert layer_names(runs(names)) == tuple(names)


def test_five_windows_and_a_full_layer_are_one_run_and_what_is_left() -> None:
    names = (["near"] * 5 + ["far"]) * 10 + ["near", "near"]
    written = runs(names)
    assert [(run.times, run.layers) for run in written] == [
        (10, ("near",) * 5 + ("far",)),
        (2, ("near",)),
    ]


def test_layers_that_do_not_repeat_are_written_as_they_are() -> None:
    assert as_runs(["a", "b", "c"]) == [{"times": 1, "layers": ["a", "b", "c"]}]
