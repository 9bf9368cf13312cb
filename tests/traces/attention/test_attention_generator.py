"""The generator draws what it was fitted to, and the fit finds what was drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.attention_fit import (
    DECAYS,
    NEAR,
    HeadProfile,
    drift,
    fit,
    middle,
    neighbours,
    overlap,
    read_profiles,
    selected_sets,
    statistics,
    tetrachoric,
)
from vsim.traces.attention_generator import GeneratorSpec, generate
from vsim.traces.faults import InputError
from vsim.traces.selection import TopShare, select

STILL = HeadProfile(
    layer=0,
    kv_head=0,
    constant=1.0,
    decaying=(0.0,) * len(DECAYS),
    neighbour=0.0,
    near=(0.0,) * len(NEAR),
    sinks=(0.0,) * 4,
    zipf=1.5,
)
RESTLESS = replace(STILL, constant=0.0)
MIXED = replace(STILL, constant=0.3, decaying=(0.1, 0.2, 0.2), neighbour=0.5)


def sets_of(profile: HeadProfile, steps: int = 60, tokens: int = 16_000) -> np.ndarray:
    spec = GeneratorSpec(prompt_tokens=tokens, steps=steps, heads=1, seed=2)
    sets, _ = selected_sets(select(generate(spec, [profile]), TopShare(0.8)))
    return middle(sets, tokens // 16)


def test_pages_whose_scores_never_change_are_selected_for_ever() -> None:
    # the share is of a context that grows, so only pages at the threshold come in
    assert overlap(sets_of(STILL), 40)[0] > 0.98


def test_pages_whose_scores_are_new_at_every_step_overlap_by_chance() -> None:
    assert overlap(sets_of(RESTLESS), 1)[0] == pytest.approx(0.2, abs=0.01)


def test_the_fit_finds_the_correlations_that_were_drawn() -> None:
    sets = sets_of(MIXED, steps=200, tokens=32_000)
    expected = [0.3 + 0.1 * 0.6**n + 0.2 * 0.93**n + 0.2 * 0.99**n for n in (1, 2, 3, 4)]
    assert np.allclose(drift(sets)[0, :4], expected, atol=0.03)
    assert neighbours(sets)[0] == pytest.approx(0.5, abs=0.03)


def test_a_fit_of_what_was_drawn_gives_the_profile_back() -> None:
    shifted = replace(MIXED, near=(2.0, 1.5, 1.0, 0.5, 0.3, 0.0, 0.0), sinks=(3.0, 1.0, 0.0, 0.0))
    spec = GeneratorSpec(prompt_tokens=16_000, steps=300, heads=1, seed=7)
    (found,) = fit([statistics(generate(spec, [shifted]))])
    assert found.constant == pytest.approx(0.3, abs=0.08)
    assert sum(found.decaying) == pytest.approx(0.5, abs=0.08)
    assert found.near[0] > 1.2
    assert found.near[0] > found.near[2] > found.near[6] - 0.2
    assert found.sinks[0] > 1.5
    assert found.zipf == pytest.approx(1.5, abs=0.1)


@settings(max_examples=examples(30), deadline=None)
@given(share=st.floats(0.02, 0.6), correlation=st.floats(0.0, 0.99))
def test_a_tetrachoric_correlation_gives_its_own_joint_share_back(
    share: float, correlation: float
) -> None:
    from scipy.stats import multivariate_normal, norm

    quantile = norm.ppf(1 - share)
    joint = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]]).cdf(
        [-quantile, -quantile]
    )
    found = tetrachoric(np.array([share]), np.array([joint]))[0]
    assert found == pytest.approx(correlation, abs=0.01)


def test_sinks_and_newest_pages_are_read_more_often_where_the_profile_says_so() -> None:
    profile = replace(RESTLESS, near=(3.0,) * 3 + (0.0,) * 4, sinks=(4.0, 0.0, 0.0, 0.0))
    spec = GeneratorSpec(prompt_tokens=8000, steps=100, heads=1)
    reads = select(generate(spec, [profile]), TopShare(0.8))
    sets, _ = selected_sets(reads)
    assert sets[:, 0, 0].mean() > 0.99
    assert sets[:, 0, 1].mean() < 0.4
    pages = (8000 + np.arange(100)) // 16 + 1
    assert sets[np.arange(100), 0, pages - 2].mean() > 0.9


def test_no_variation_repeats_the_first_step_and_more_variation_drifts_faster() -> None:
    overlaps = []
    for variation in (0.0, 0.5, 1.0, 2.0):
        spec = GeneratorSpec(prompt_tokens=16_000, steps=30, heads=1, variation=variation)
        sets, _ = selected_sets(select(generate(spec, [MIXED]), TopShare(0.8)))
        overlaps.append(float(overlap(middle(sets, 1000), 8)[0]))
    assert overlaps[0] > 0.98
    assert overlaps == sorted(overlaps, reverse=True)


def test_a_trace_keeps_its_share_of_pages_and_is_a_valid_read_set() -> None:
    spec = GeneratorSpec(prompt_tokens=1000, steps=40, heads=6, kept=0.4)
    trace = generate(spec, [MIXED, STILL])
    pages = (1000 + trace.step) // 16 + 1
    assert (trace.row_pages == np.ceil(0.4 * pages - 1e-9)).all()
    reads = select(trace, TopShare(0.6))
    reads.check()
    assert (trace.mass() > 0).all()


def test_the_same_seed_draws_the_same_trace() -> None:
    spec = GeneratorSpec(prompt_tokens=500, steps=10, heads=2, seed=4)
    first, same = generate(spec, [MIXED]), generate(spec, [MIXED])
    other = generate(replace(spec, seed=5), [MIXED])
    assert np.array_equal(first.pages, same.pages)
    assert not np.array_equal(first.pages, other.pages)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"kept": 0.0}, {"variation": -1.0}])
def test_a_spec_that_means_nothing_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|write a"):
        GeneratorSpec(**{"prompt_tokens": 100, "steps": 5, **changes})  # type: ignore[arg-type] # the fault


def test_a_file_without_profiles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"heads": [{"layer": 1}]}')
    with pytest.raises(InputError, match=r"holds no head profiles"):
        read_profiles(path)


def test_lru_hits_by_hand() -> None:
    from vsim.traces.attention_curves import lru_hit_ratio

    reads = select(generate(GeneratorSpec(320, 20, heads=1, kept=1.0), [STILL]), TopShare(0.0))
    pages = [page for step in range(20) for page in range((320 + step) // 16 + 1)]
    assert reads.pages.tolist() == pages
    # room for all: every page misses once; room for fewer than a round: each returns too late
    assert lru_hit_ratio(reads, 22) == 1 - 22 / len(pages)
    assert lru_hit_ratio(reads, 15) == 0
