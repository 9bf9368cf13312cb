"""Selections pick the pages they say, and their reads are numbered and born as they should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples

from vsim.traces.attention import AttentionTrace
from vsim.traces.faults import InputError
from vsim.traces.selection import (
    Dense,
    Selection,
    SlidingWindow,
    TopMass,
    TopShare,
    select,
    select_pages,
    select_with_mass,
)

MASSES = np.array([[0.30, 0.05, 0.20, 0.02, 0.03, 0.10, 0.05, 0.15, 0.06, 0.04]], np.float32)


def picked(selection: Selection, pages: int = 10) -> list[int]:
    keep = select_pages(selection, MASSES, np.array([pages]))
    return [int(page) for page in np.flatnonzero(keep[0])]


def test_dense_reads_every_page_that_exists() -> None:
    assert picked(Dense(), 7) == [0, 1, 2, 3, 4, 5, 6]


def test_a_top_share_is_the_newest_page_and_the_heaviest_others() -> None:
    assert picked(TopShare(0.6)) == [0, 2, 7, 9]
    assert picked(TopShare(0.9)) == [9]


def test_among_equal_scores_the_later_page_is_read() -> None:
    assert picked(TopShare(0.3)) == [0, 2, 5, 6, 7, 8, 9]


def test_a_top_mass_is_the_fewest_pages_that_reach_it() -> None:
    assert picked(TopMass(0.5)) == [0, 2, 9]
    assert picked(TopMass(0.55)) == [0, 2, 7, 9]
    assert picked(TopMass(1.0)) == list(range(10))


def test_a_top_mass_that_the_pages_listed_do_not_reach_reads_them_all() -> None:
    keep = select_pages(TopMass(0.9), MASSES / 2, np.array([10]))
    assert keep.all()


def test_a_sliding_window_reads_sinks_and_the_newest_pages() -> None:
    assert picked(SlidingWindow(2, 3)) == [0, 1, 7, 8, 9]
    assert picked(SlidingWindow(2, 3), 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopShare(1.0),
        lambda: TopShare(-0.1),
        lambda: TopShare(float("nan")),
        lambda: TopMass(0.0),
        lambda: TopMass(1.1),
        lambda: SlidingWindow(-1, 4),
        lambda: SlidingWindow(1, 0),
    ],
)
def test_a_selection_that_means_nothing_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"write it like|must be"):
        make()


@settings(max_examples=examples(50), deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pages=st.integers(1, 40), sparsity=st.floats(0, 0.99))
def test_a_top_share_reads_its_share_of_pages_and_no_lighter_page_instead_of_a_heavier(
    seed: int, pages: int, sparsity: float
) -> None:
    scores = np.random.Generator(np.random.PCG64(seed)).random((1, 40)).astype(np.float32) + 1e-3
    keep = select_pages(TopShare(sparsity), scores, np.array([pages]))[0]
    assert keep.sum() == max(1, np.ceil((1 - sparsity) * pages - 1e-9))
    assert keep[pages - 1]
    assert not keep[pages:].any()
    older = scores[0, : pages - 1]
    read, left = older[keep[: pages - 1]], older[~keep[: pages - 1]]
    assert not len(read) or not len(left) or read.min() >= left.max()


def trace_of(steps: int = 3, heads: int = 2) -> AttentionTrace:
    """Two requests of 3 prompt tokens and pages of 2 tokens, one layer."""
    generator = np.random.Generator(np.random.PCG64(3))
    rows = [(s, r, h) for s in range(steps) for r in (4, 9) for h in range(heads)]
    counts = [(3 + s) // 2 + 1 for s, _, _ in rows]
    return AttentionTrace(
        step=np.array([s for s, _, _ in rows]),
        request=np.array([r for _, r, _ in rows]),
        layer=np.zeros(len(rows), np.int32),
        kv_head=np.array([h for _, _, h in rows], np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        pages=np.concatenate([np.arange(c, dtype=np.int32) for c in counts]),
        scores={"mass": generator.random(sum(counts)).astype(np.float32)},
        scales={},
        page_tokens=2,
        page_bytes=64,
        prompt_tokens=3,
        source="by hand",
    )


def test_reads_are_numbered_by_request_layer_head_and_place() -> None:
    reads = select(trace_of(), Dense())
    reads.check()
    assert reads.n_pages == 12
    assert reads.request.tolist() == [4] * 6 + [9] * 6
    assert reads.kv_head.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert reads.position.tolist() == [0, 1, 2] * 4
    # 3 prompt tokens fill pages 0 and 1; step 1 writes token 4, the first of page 2
    assert reads.born.tolist() == [-1, -1, 1] * 4
    assert reads.prompt_pages == 8
    assert reads.reads_per_step.tolist() == [8, 12, 12]


def test_every_step_reads_the_page_being_written() -> None:
    reads = select(trace_of(), TopShare(0.6))
    reads.check()
    for step in range(3):
        pages = reads.pages[reads.offsets[step] : reads.offsets[step + 1]]
        assert set(reads.position[pages]) >= {(3 + step) // 2}


def test_relative_mass_is_zero_at_the_least_page_read_and_negative_below() -> None:
    selected = select_with_mass(trace_of(), TopShare(0.5))
    for step in range(3):
        part = slice(selected.offsets[step], selected.offsets[step + 1])
        read = set(
            selected.reads.pages[selected.reads.offsets[step] : selected.reads.offsets[step + 1]]
        )
        unread = [r for p, r in zip(selected.pages[part], selected.relative[part], strict=True)
                  if p not in read]  # fmt: skip
        inside = [r for p, r in zip(selected.pages[part], selected.relative[part], strict=True)
                  if p in read]  # fmt: skip
        assert min(inside) == 0
        assert all(np.isfinite(unread))


def test_a_score_that_the_trace_lacks_is_a_fault() -> None:
    with pytest.raises(InputError, match=r"no score 'quest'.*it has mass"):
        select(trace_of(), TopShare(0.5, "quest"))
