"""The kernel's partition, carried out in numpy: slices by warps, warps by block, blocks by slot."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vsim.hwbackend.attention.checking import DecodeCase, cases, random_pages, wanted_of
from vsim.hwbackend.attention.layout import SLICE_TOKENS, DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import Plan, plan
from vsim.hwbackend.attention.reference import bf16_of, floats_of_bf16, relative_error

WARPS = 4
Floats = NDArray[np.float64]
Partial = tuple[Floats, Floats, Floats]  # maximum and sum of each head, output not yet divided


def merged(one: Partial, other: Partial) -> Partial:
    """As decode.cu's `merge`; a maximum of minus infinity is a part without tokens."""
    high = np.maximum(one[0], other[0])
    a, b = (np.where(np.isneginf(m), 0.0, np.exp(np.where(np.isneginf(m), 0.0, m - high)))
            for m in (one[0], other[0]))  # fmt: skip
    return high, one[1] * a + other[1] * b, one[2] * a[:, None] + other[2] * b[:, None]


def nothing(group: int, dim: int) -> Partial:
    return np.full(group, -np.inf), np.zeros(group), np.zeros((group, dim))


class Emulated:
    """Reads pages by strides from a base, as the kernel does."""

    def __init__(self, pages: NDArray[np.uint8], layout: PageLayout, batch: DecodeBatch) -> None:
        self.memory, self.layout, self.batch = pages.reshape(-1), layout, batch

    def row(self, slot: int, layer: int, part: int, head: int, token: int) -> Floats:
        layout = self.layout
        at = (slot * layout.page_bytes + layer * layout.layer_stride + part * layout.v_offset
              + head * layout.head_stride + token * layout.token_stride)  # fmt: skip
        return floats_of_bf16(self.memory[at : at + layout.row_bytes].view(np.uint16))

    def warp(self, item: list[int], warp: int, q: Floats, layer: int) -> Partial:
        _, head, pages_at, first, last, *_ = item
        page_slices = self.layout.page_tokens // SLICE_TOKENS
        slices = -(-(last - first) // SLICE_TOKENS)
        found = nothing(*q.shape)
        for turn in range(warp, slices, WARPS):
            piece = first // SLICE_TOKENS + turn
            slot = int(self.batch.indices[pages_at + piece // page_slices])
            left = min(SLICE_TOKENS, last - piece * SLICE_TOKENS)
            tokens = [piece % page_slices * SLICE_TOKENS + i for i in range(left)]
            keys = np.array([self.row(slot, layer, 0, head, token) for token in tokens])
            values = np.array([self.row(slot, layer, 1, head, token) for token in tokens])
            scores = q @ keys.T / np.sqrt(q.shape[1])
            high = scores.max(1)
            weights = np.exp(scores - high[:, None])
            found = merged(found, (high, weights.sum(1), weights @ values))
        return found

    def run(self, made: Plan, q: Floats, layer: int) -> Floats:
        """Blocks in reverse order: the result must not depend on who comes last."""
        group = q.shape[1] // self.layout.kv_heads
        out = np.full_like(q, np.nan)
        partials: dict[int, Partial] = {}
        arrived: dict[int, int] = {}
        for item in reversed(made.items.tolist()):
            request, head, *_, slot, first_slot, slots = item
            rows = slice(head * group, (head + 1) * group)
            mine = nothing(group, q.shape[2])
            for warp in range(WARPS):
                mine = merged(mine, self.warp(item, warp, q[request, rows], layer))
            if slots > 1:
                partials[slot] = mine
                arrived[first_slot] = arrived.get(first_slot, 0) + 1
                if arrived[first_slot] < slots:
                    continue
                mine = nothing(group, q.shape[2])
                for at in range(first_slot, first_slot + slots):
                    mine = merged(mine, partials[at])
            out[request, rows] = mine[2] / mine[1][:, None]
        return out


SMALL = [case for case in cases() if sum(case.lengths) * case.layout.kv_heads < 25_000]


@pytest.mark.parametrize("blocks", [1, 13, 264])
@pytest.mark.parametrize("case", SMALL, ids=str)
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
