"""Decode attention over pages of one tier or several: one graph of a launch a layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import BF16_BYTES, DecodeBatch, PageLayout
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import Samples, Work, calls_for, samples_us
from vsim.hwbackend.memory.slots import Slots
from vsim.sim.fidelity.gpu.cases import AttentionCase, MixedCase
from vsim.sim.fidelity.gpu.heads import Heads

REPEATS: Final = 9
_SEED: Final = 7
_GUESSED_BYTES_PER_US: Final = 3e6
Int64s = NDArray[np.int64]


def measure_attention(bench: CaseBench, case: AttentionCase) -> Samples:
    """Time all layers of a batch whose pages are in HBM."""
    with attention_load(bench, case) as work:
        return samples_us(work, bench.main, REPEATS, _calls(case))


def measure_mixed(bench: CaseBench, case: MixedCase) -> Samples:
    """Time the same with pages drawn at random for other tiers."""
    pages = sum(_pages_of(case))
    lower = {
        name: round(pages * share)
        for name, share in (("peer", case.peer_share), ("host", case.host_share))
        if share > 0
    }
    with attention_load(bench, case, lower) as work:
        return samples_us(work, bench.main, REPEATS, _calls(case))


@contextmanager
def attention_load(
    bench: CaseBench, case: AttentionCase | MixedCase, lower: Mapping[str, int] | None = None
) -> Iterator[Work]:
    """Make the work of one step: a launch a layer.

    Args:
        bench: whose GPU.
        case: the batch.
        lower: pages of each other tier; the rest are in HBM.
    """
    lower = lower or {}
    each = _pages_of(case)
    pages = sum(each)
    layout = layout_of(case.heads, case.layers)
    with ExitStack() as held:
        counts = {"hbm": pages - sum(lower.values()), **lower}
        slots = held.enter_context(bench.slots(layout.page_bytes, counts))
        draw = np.random.Generator(np.random.PCG64(_SEED))
        batch = batch_of(case.heads, case.contexts, _drawn(draw, slots, counts), slots)
        decode = held.enter_context(PagedDecode(bench.home, layout, case.heads.heads))
        decode.bind(decode.plan(batch), bench.main)
        size = vector_bytes(case.heads, len(case.contexts))
        q = held.enter_context(bench.numbers(size))
        out = held.enter_context(bench.numbers(size))

        def work(stream: Stream) -> None:
            for layer in range(case.layers):
                decode.launch(stream, q.address, out.address, slots.base, layer)

        yield work
        bench.main.synchronize()
        bench.side.synchronize()


def layout_of(heads: Heads, layers: int) -> PageLayout:
    """A page of so many layers."""
    return PageLayout(heads.page_tokens, heads.kv_heads, heads.head_dim, layers)


def vector_bytes(heads: Heads, requests: int) -> int:
    """Queries of a batch, or its results."""
    return requests * heads.heads * heads.head_dim * BF16_BYTES


def batch_of(heads: Heads, contexts: Sequence[int], numbers: Int64s, slots: Slots) -> DecodeBatch:
    """Make a batch of requests whose pages are in slots of these numbers, one after another."""
    tokens = np.array(contexts, np.int64)
    pages = -(-tokens // heads.page_tokens)
    last = tokens - (pages - 1) * heads.page_tokens
    return DecodeBatch.of(np.concatenate([[0], np.cumsum(pages)]), slots.units(numbers), last)


def _pages_of(case: AttentionCase | MixedCase) -> list[int]:
    return [-(-context // case.heads.page_tokens) for context in case.contexts]


def _drawn(draw: np.random.Generator, slots: Slots, counts: Mapping[str, int]) -> Int64s:
    """Slots in random order, whatever tier they are of."""
    mine = [slots.first_slot(name) + np.arange(count) for name, count in counts.items()]
    return draw.permutation(np.concatenate(mine).astype(np.int64))


def _calls(case: AttentionCase | MixedCase) -> int:
    moved = sum(case.contexts) * case.heads.token_bytes * case.layers
    return calls_for(moved / _GUESSED_BYTES_PER_US)
