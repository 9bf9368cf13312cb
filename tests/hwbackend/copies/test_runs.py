"""Neighbouring pages are one copy; every page is copied once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsim.hwbackend.copies.pages import PAGES_A_LAUNCH, PageCopies, runs
from vsim.hwbackend.probes.memory import MemoryProbe

PAGE = 4096


def addresses(pages: list[int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    return np.array(pages, np.int64) * PAGE


def test_pages_that_are_neighbours_on_both_sides_go_together() -> None:
    sources = addresses([4, 5, 6, 9, 10, 2])
    targets = addresses([0, 1, 7, 8, 9, 10])
    assert list(runs(sources, targets, PAGE)) == [(0, 2), (2, 1), (3, 2), (5, 1)]


def test_no_pages_are_no_runs() -> None:
    assert list(runs(addresses([]), addresses([]), PAGE)) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_runs_cover_every_pair_once_and_are_as_long_as_can_be(pairs: list[tuple[int, int]]) -> None:
    sources, targets = addresses([a for a, _ in pairs]), addresses([b for _, b in pairs])
    found = list(runs(sources, targets, PAGE))
    assert [at for first, count in found for at in range(first, first + count)] == list(
        range(len(pairs))
    )
    for first, count in found:
        ahead = np.arange(count) * PAGE
        assert (sources[first : first + count] == sources[first] + ahead).all()
        assert (targets[first : first + count] == targets[first] + ahead).all()
        end = first + count
        if end < len(pairs):
            apart = (sources[end] - sources[end - 1], targets[end] - targets[end - 1])
            assert apart != (PAGE, PAGE)


def test_a_launch_s_lists_fit_the_arguments_of_a_kernel() -> None:
    assert 16 * PAGES_A_LAUNCH + 16 <= 4096


@pytest.mark.parametrize("page_bytes", [0, -16, 100])
def test_pages_that_words_do_not_fill_are_refused(page_bytes: int) -> None:
    with pytest.raises(ValueError, match="copies move multiples of 16"):
        PageCopies(None, page_bytes)  # type: ignore[arg-type]  # refused before it is looked at


def test_probes_refuse_sizes_that_words_do_not_fill() -> None:
    probe = object.__new__(MemoryProbe)
    with pytest.raises(ValueError, match="17 bytes: the probes take multiples of 16"):
        probe.write(None, 0, 17)  # type: ignore[arg-type]  # refused before it is looked at
