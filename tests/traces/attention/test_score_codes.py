"""Scores as one byte each: what a selection reads from them, and what is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.score_codes import DENSITIES, LogScale, encode, pages_wanted, ranks


def masses_of(seed: int, rows: int, width: int, spread: float) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(seed))
    exponents = np.clip(generator.normal(scale=spread, size=(rows, width)), -120, 120)
    drawn = np.exp2(exponents).astype(np.float32)
    return drawn / drawn.sum(axis=-1, keepdims=True)


def chosen(scores: np.ndarray, pages: np.ndarray, density: float) -> np.ndarray:
    place = np.arange(scores.shape[-1])[None, :]
    older = np.where(place < (pages - 1)[:, None], scores.astype(np.float32), -1)
    return (ranks(older) < (pages_wanted(pages, density) - 1)[:, None]) & (older > 0)


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pages=st.integers(1, 120),
    spread=st.sampled_from([0.0, 0.01, 0.5, 4.0, 30.0]),
    step=st.sampled_from([0.125, 0.5, 1.0, 4.0]),
)
def test_a_top_share_at_a_named_density_is_the_same_from_codes_as_from_floats(
    seed: int, pages: int, spread: float, step: float
) -> None:
    masses = masses_of(seed, 3, 120, spread)
    masses = np.maximum(masses, 1e-30).astype(np.float32)
    count = np.full(3, pages)
    codes = encode(masses, count, LogScale(step), kept=0.6, graded=0.4)
    for density in DENSITIES:
        expected = chosen(masses, count, density)
        assert (chosen(codes, count, density) == expected).all()


def test_a_code_stands_for_its_mass_within_half_a_step_where_no_threshold_is_near() -> None:
    scale = LogScale(0.5)
    masses = np.exp2(-np.arange(0.0, 20.0, 2.0)).astype(np.float32)[None, :]
    codes = encode(masses, np.array([10]), scale, kept=1.0)
    assert np.allclose(np.log2(scale.table()[codes]), np.log2(masses), atol=0.25)


def test_pages_beyond_the_share_kept_have_code_zero_and_the_newest_never() -> None:
    masses = masses_of(1, 1, 20, 3.0)
    masses[0, 19] = 0
    codes = encode(masses, np.array([20]), LogScale(1.0), kept=0.5)
    assert np.count_nonzero(codes) == 10
    assert codes[0, 19] > 0


def test_codes_beyond_the_graded_share_keep_the_rank_only() -> None:
    masses = masses_of(2, 1, 101, 3.0)
    codes = encode(masses, np.array([101]), LogScale(0.125), kept=0.6, graded=0.4)
    assert sorted(np.unique(codes)[:3]) == [0, 1, 2]
    assert np.count_nonzero(codes == 1) == np.count_nonzero(codes == 2) == 10


@pytest.mark.parametrize("step", [0.125, 0.5, 1.0, 8.0])
def test_a_heavier_code_stands_for_more_mass_and_every_code_for_some(step: float) -> None:
    masses = LogScale(step).table()
    assert masses[0] == 0
    assert (np.diff(masses) > 0).all()
    assert LogScale(step).nearest(masses)[245] == 245


def test_a_scale_is_read_as_it_was_written() -> None:
    assert LogScale.parse(str(LogScale(0.25))) == LogScale(0.25)


@pytest.mark.parametrize(
    "text", ["", "log2", "log2 step=0 fine=0 above=2^-6", "log2 step=x", "ln step=1"]
)
def test_an_unknown_scale_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like .log2 step=0\.5 fine=0\.125 above=2.-6."):
        LogScale.parse(text)


def test_a_share_of_pages_is_rounded_up_and_at_least_one() -> None:
    assert pages_wanted(np.array([1, 10, 11, 300]), 0.2).tolist() == [1, 2, 3, 60]
