"""The kernel's partition, carried out in numpy: slices by warps, warps by block, blocks by slot."""

import numpy as np
import pytest
from tests.hwbackend.attention.emulated import Emulated
from tests.seeds import some

from vsim.hwbackend.attention.checking import DecodeCase, cases, random_pages, wanted_of
from vsim.hwbackend.attention.planner import plan
from vsim.hwbackend.attention.reference import bf16_of, floats_of_bf16, relative_error

SMALL = [case for case in cases() if sum(case.lengths) * case.layout.kv_heads < 25_000]


@pytest.mark.parametrize("blocks", [1, 13, 264])
@pytest.mark.parametrize("case", some(SMALL, 4), ids=str)
def test_the_partition_gives_the_dense_result(case: DecodeCase, blocks: int) -> None:
    layout, (batch, slots) = case.layout, case.batch()
    pages = random_pages(case, batch, slots)
    shape = (batch.requests, case.heads, layout.head_dim)
    q = floats_of_bf16(bf16_of(np.random.default_rng(3).standard_normal(shape, np.float32)))
    layer = layout.layers - 1
    found = Emulated(pages, layout, batch).run(plan(batch, layout, blocks), q, layer)
    assert relative_error(found, wanted_of(pages, batch, layout, q, layer)) < 1e-12


def test_the_small_cases_have_odd_lengths_shared_pages_and_subsets() -> None:
    assert len(SMALL) >= 12
    assert any(1 in case.lengths for case in SMALL)
    assert any(length % 16 for case in SMALL for length in case.lengths)
    assert any(case.shared for case in SMALL)
    assert any(case.keep < 1 for case in SMALL)
    assert {case.layout.head_dim for case in SMALL} == {64, 128}
    assert {case.layout.head_major for case in SMALL} == {True, False}
