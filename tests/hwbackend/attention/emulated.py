"""Emulated: the decode kernel's partition, carried out in numpy in float64."""

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import Plan
from vsim.hwbackend.attention.reference import bf16_of, floats_of_bf16
from vsim.sim.timing.equal_shares import SLICE_TOKENS

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

    def run_bf16(self, made: Plan, q: NDArray[np.uint16], layer: int) -> NDArray[np.uint16]:
        """As `run`, from the bits of bf16 and to them."""
        return bf16_of(self.run(made, floats_of_bf16(q), layer))
