"""Reads made of other reads keep what they must."""

from dataclasses import replace

import numpy as np

from vsim.sim.placement.reshape import (
    first_steps,
    side_by_side,
    with_larger_pages,
    with_whole_context,
)
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.synthetic import reads_of_sets, synthetic_reads
from vsim.traces.page_reads import PageReads


def two_heads() -> PageReads:
    """Two heads of four pages; head 1 lacks its pages 1 and 2."""
    reads = reads_of_sets([{0, 2, 4}, {1, 3, 5}], [-1, -1, -1, 1, -1, 1], 8)
    return replace(
        reads,
        kv_head=np.array([0, 0, 0, 0, 1, 1], np.int16),
        position=np.array([0, 1, 2, 3, 0, 3], np.int32),
    )


def test_pages_that_no_step_reads_are_numbered_too() -> None:
    seen = Seen(np.array([0, 1, 2]), np.array([4, 5], np.int32), np.zeros(2, np.float32))
    whole, mass = with_whole_context(two_heads(), seen)
    whole.check()
    assert whole.n_pages == 8
    assert whole.prompt_pages == 6
    assert whole.kv_head.tolist() == [0] * 4 + [1] * 4
    assert whole.position.tolist() == [0, 1, 2, 3] * 2
    assert whole.born.tolist() == [-1, -1, -1, 1] * 2
    assert whole.pages.tolist() == [0, 2, 4, 1, 3, 7]
    assert mass is not None
    assert mass.pages.tolist() == [4, 7]


def test_a_whole_context_is_left_as_it_is() -> None:
    reads = synthetic_reads(30, 10, 0.5, seed=1)
    assert with_whole_context(reads, None)[0] is reads


def test_larger_pages_are_read_if_any_part_is() -> None:
    larger = with_larger_pages(two_heads(), 2)
    larger.check()
    assert larger.page_bytes == 16
    assert larger.page_tokens == 32
    assert larger.born.tolist() == [-1, -1, -1, 1]
    assert larger.pages.tolist() == [0, 1, 2, 0, 1, 3]
    merged = with_larger_pages(two_heads(), 2, merge_heads=True)
    merged.check()
    assert merged.page_bytes == 32
    assert merged.pages.tolist() == [0, 1, 0, 1]


def test_a_batch_reads_in_each_step_what_its_requests_read() -> None:
    one = synthetic_reads(20, 6, 0.5, seed=1, born_every=2)
    two = synthetic_reads(30, 4, 0.5, seed=2, born_every=1)
    batch, _ = side_by_side([one, two], [None, None])
    batch.check()
    assert batch.steps == 4
    cut, _ = first_steps(one, None, 4)
    assert batch.n_pages == cut.n_pages + 30
    assert batch.request.tolist() == [0] * cut.n_pages + [1] * 30
    for t in range(4):
        found = batch.pages[batch.offsets[t] : batch.offsets[t + 1]].tolist()
        first = cut.pages[cut.offsets[t] : cut.offsets[t + 1]].tolist()
        second = two.pages[two.offsets[t] : two.offsets[t + 1]].tolist()
        assert found == first + [p + cut.n_pages for p in second]


def test_pages_written_after_the_last_step_do_not_exist() -> None:
    reads = synthetic_reads(20, 6, 0.5, seed=1, born_every=2)
    cut, _ = first_steps(reads, None, 3)
    cut.check()
    assert cut.steps == 3
    assert cut.n_pages == 19
    assert cut.born.max() == 2
