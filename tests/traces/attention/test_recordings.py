"""The committed recordings are what their README says: valid, long enough, small, and measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.seeds import some

from vsim.traces.attention import AttentionTrace, read_attention
from vsim.traces.attention_fit import read_profiles
from vsim.traces.selection import TopShare, select

FOLDER = Path(__file__).parents[3] / "traces" / "recorded"
RECORDINGS = sorted(FOLDER.glob("*.arrow"))


def test_there_are_six_recordings_or_more_and_each_is_under_six_megabytes() -> None:
    assert len(RECORDINGS) >= 6
    assert all(path.stat().st_size < 6_000_000 for path in RECORDINGS)


@pytest.fixture(scope="module", params=some(RECORDINGS, 3), ids=lambda path: path.stem)
def trace(request: pytest.FixtureRequest) -> AttentionTrace:
    """One recording after the other, each read once."""
    return read_attention(request.param)


def test_a_recording_holds_every_step_layer_head_and_page(trace: AttentionTrace) -> None:
    assert trace.steps >= 400
    assert 4000 <= trace.prompt_tokens + trace.steps <= 8192
    assert len(trace) == trace.steps * 30 * 3
    pages = (trace.prompt_tokens + trace.step) // trace.page_tokens + 1
    assert (trace.row_pages == pages).all()
    assert trace.licence != "not stated"
    assert trace.facts["model"] == "SmolLM2-135M-Instruct"
    # K and V of 16 tokens in one head of 64 numbers of two bytes
    assert (trace.page_tokens, trace.page_bytes) == (16, 4096)


@pytest.mark.parametrize("score", ["mass", "quest"])
def test_a_recording_gives_every_sparsity_it_was_kept_for(
    trace: AttentionTrace, score: str
) -> None:
    kept = float(trace.facts[f"{score}_kept"])
    for sparsity in (1 - kept, 0.9)[: 1 if score == "quest" else 2]:
        reads = select(trace, TopShare(round(sparsity, 9), score))
        reads.check()
        pages = (trace.prompt_tokens + np.arange(trace.steps)) // 16 + 1
        wanted = 90 * np.ceil((1 - sparsity) * pages - 1e-9)
        assert (reads.reads_per_step == wanted).all()


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_selections_cost_was_measured_at_60_80_and_90_percent(path: Path) -> None:
    costs = json.loads(path.with_suffix(".cost.json").read_text())
    assert costs["recording"] == path.name
    measured = {cost["selection"]: cost for cost in costs["selections"]}
    for score in ("mass", "quest"):
        for share in (40, 20, 10):
            cost = measured[f"top {share} % of pages by {score}"]
            assert cost["pages_share"] == pytest.approx(share / 100, abs=0.005)
            assert cost["perplexity"] > 1
            assert 0 < cost["greedy_equal"] <= 1


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_codes_change_no_selection_at_the_sparsities_they_keep_exact(path: Path) -> None:
    losses = json.loads(path.with_suffix(".cost.json").read_text())["codes"]
    exact = {loss["selection"]: loss["differing"] for loss in losses}
    for share in (60, 50, 40, 30, 20, 10, 5):
        assert exact.get(f"top {share} % of pages by mass", 0) == 0
    assert exact["top 10 % of pages by mass"] == exact["top 20 % of pages by quest"] == 0


def test_the_generator_has_a_profile_for_each_head_that_was_recorded() -> None:
    profiles = read_profiles()
    assert [(p.layer, p.kv_head) for p in profiles] == [(i // 3, i % 3) for i in range(90)]
    for profile in profiles:
        assert 0 <= profile.constant + sum(profile.decaying) <= 1 + 1e-3
        assert 0 <= profile.neighbour < 1
