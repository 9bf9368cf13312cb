"""Decode attention by batch, context and heads, and with pages in two memories."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import BF16_BYTES, DecodeBatch, PageLayout
from vsim.hwbackend.calibration.bench import HBM, HOST, Bench
from vsim.hwbackend.calibration.plan import MIB, PAGE_TOKENS, WHOLE, Heads, Plan, kv_bytes
from vsim.hwbackend.cuda.buffers import DeviceBuffer, copy, upload
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.samples import (
    Work,
    calls_for,
    copies_beyond,
    rotating,
    samples_us,
)
from vsim.hwbackend.memory.slots import Slots, TierSlots
from vsim.traces.gpu_samples import Point, Sampled

_SEED: Final = 20261127
MOST_SETS: Final = 128
_CHUNK_BYTES: Final = 32 * MIB
_GUESSED_BYTES_PER_US: Final = 3e6


@dataclass(frozen=True, slots=True)
class Decodes:
    """A batch of decodes: equal requests, pages in random order.

    Args:
        shape: heads, KV heads, head's size.
        requests: how many.
        context: tokens of each, a multiple of a page's.
    """

    shape: Heads
    requests: int
    context: int

    @property
    def layout(self) -> PageLayout:
        """Of a page of one layer."""
        _, kv_heads, head_dim = self.shape
        return PageLayout(PAGE_TOKENS, kv_heads, head_dim)

    @property
    def pages(self) -> int:
        """Of all requests."""
        return self.requests * self.context // PAGE_TOKENS

    @property
    def bytes(self) -> int:
        """Keys and values that it reads."""
        return kv_bytes(self.shape, self.requests * self.context)

    def batch(self, slow_pages: int = 0, slow_first: int = 0) -> DecodeBatch:
        """Say where the pages are: so many of them, drawn from all, in slots of a slower memory."""
        draw = np.random.Generator(np.random.PCG64(_SEED))
        order = draw.permutation(self.pages)
        slots = draw.permutation(self.pages)
        slots[order[:slow_pages]] = slow_first + draw.permutation(slow_pages)
        each = self.context // PAGE_TOKENS
        return DecodeBatch.of(
            np.arange(self.requests + 1) * each, slots, np.full(self.requests, PAGE_TOKENS)
        )


def measure_decodes(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time one layer's launch in a graph of several, microseconds; no cache holds its pages."""
    for shape, mine in by_shape(points).items():
        with ExitStack() as held:
            kernel = held.enter_context(kernel_for(bench, shape))
            vectors = held.enter_context(vectors_for(bench, shape, max(p["batch"] for p in mine)))
            for point in mine:
                load = Decodes(shape, point["batch"], point["context"])
                kernel.bind(kernel.plan(load.batch()), bench.main)
                sets = copies_beyond(bench.device.l2_bytes, load.bytes, MOST_SETS)
                base = bench.memory(HBM, sets * load.bytes)
                works = [launch_of(kernel, vectors, base + at * load.bytes) for at in range(sets)]
                calls = max(sets, calls_for(load.bytes / _GUESSED_BYTES_PER_US))
                taken = samples_us(rotating(works), bench.main, plan.repeats, calls)
                yield Sampled(point, load.bytes, taken.all_us)


def measure_mixes(bench: Bench, points: Sequence[Point], plan: Plan) -> Iterator[Sampled]:
    """Time decodes with a share of their pages, drawn at random, in a slower memory."""
    loads: dict[tuple[str, Decodes], list[Point]] = {}
    for point in points:
        load = Decodes(shape_of(point), point["batch"], point["context"])
        loads.setdefault((point.variant, load), []).append(point)
    for (place, load), mine in loads.items():
        most = max(point["share"] for point in mine)
        with ExitStack() as held:
            tiers = held.enter_context(_tiers(bench, load, place, most))
            kernel = held.enter_context(kernel_for(bench, load.shape))
            vectors = held.enter_context(vectors_for(bench, load.shape, load.requests))
            work = launch_of(kernel, vectors, tiers.base)
            for point in mine:
                slow = round(load.pages * point["share"] / WHOLE)
                kernel.bind(kernel.plan(load.batch(slow, _slow_first(tiers))), bench.main)
                calls = min(8, calls_for(load.bytes / _GUESSED_BYTES_PER_US))
                taken = samples_us(work, bench.main, plan.repeats, calls)
                yield Sampled(point, load.bytes, taken.all_us)


@contextmanager
def decode_load(
    bench: Bench, shape: Heads, requests: int, context: int, slow: str = HBM, share: int = 0
) -> Iterator[Work]:
    """Make work of one launch, a share of its pages, in WHOLE-ths, in a slower memory."""
    load = Decodes(shape, requests, context)
    with ExitStack() as held:
        kernel = held.enter_context(kernel_for(bench, shape))
        vectors = held.enter_context(vectors_for(bench, shape, requests))
        if share and slow != HBM:
            tiers = held.enter_context(_tiers(bench, load, slow, share))
            batch = load.batch(round(load.pages * share / WHOLE), _slow_first(tiers))
            base = tiers.base
        else:
            base, batch = bench.memory(HBM, load.bytes), load.batch()
        kernel.bind(kernel.plan(batch), bench.main)
        yield launch_of(kernel, vectors, base)
        bench.main.synchronize()


def slow_place(bench: Bench, place: str) -> Place:
    """Where a slower memory's chunks are. Raises AbsentError where there is none."""
    return bench.device.host if place == HOST else bench.need_peer().device.place


def _tiers(bench: Bench, load: Decodes, place: str, most: int) -> Slots:
    """Slots for all pages in HBM, and for the most that a share asks for in a slower memory."""
    page_bytes = load.layout.page_bytes
    slow = TierSlots(place, slow_place(bench, place), max(1, round(load.pages * most / WHOLE)))
    fast = TierSlots(HBM, bench.device.place, load.pages)
    made = Slots(page_bytes, [fast, slow], _CHUNK_BYTES, [bench.device])
    try:
        for tier in made.tiers:
            first = np.array([made.first_slot(tier.name)])
            _fill(bench, int(made.addresses(first)[0]), tier.slots * page_bytes)
    except BaseException:
        made.close()
        raise
    return made


def _fill(bench: Bench, target: int, size: int) -> None:
    """Fill memory with what was drawn in HBM."""
    done, most = 0, min(256 * MIB, bench.most(HBM))
    source = bench.memory(HBM, most)
    while done < size:
        more = min(most, size - done)
        copy(target + done, source, more, bench.main)
        done += more
    bench.main.synchronize()


def _slow_first(tiers: Slots) -> int:
    """Of the slower memory's first slot, its distance from the base in slots."""
    return int(tiers.units(np.array([tiers.first_slot(tiers.tiers[1].name)]))[0])


def kernel_for(bench: Bench, shape: Heads) -> PagedDecode:
    """The kernel of a head shape; the caller closes it."""
    heads, kv_heads, head_dim = shape
    return PagedDecode(bench.home, PageLayout(PAGE_TOKENS, kv_heads, head_dim), heads)


@contextmanager
def vectors_for(bench: Bench, shape: Heads, requests: int) -> Iterator[tuple[int, int]]:
    """Queries, drawn, and room for results."""
    heads, _, head_dim = shape
    count = requests * heads * head_dim
    draw = np.random.Generator(np.random.PCG64(_SEED))
    numbers = draw.standard_normal(count, dtype=np.float32).view(np.uint32) >> 16
    with DeviceBuffer(count * BF16_BYTES) as q, DeviceBuffer(count * BF16_BYTES) as out:
        upload(q.address, numbers.astype(np.uint16), bench.main)
        yield q.address, out.address


def launch_of(kernel: PagedDecode, vectors: tuple[int, int], base: int) -> Work:
    """Make work of one launch over pages from an address on."""
    q, out = vectors

    def work(stream: Stream) -> None:
        kernel.launch(stream, q, out, base)

    return work


def by_shape(points: Sequence[Point]) -> dict[Heads, list[Point]]:
    """Points of each head shape."""
    shapes: dict[Heads, list[Point]] = {}
    for point in points:
        shapes.setdefault(shape_of(point), []).append(point)
    return shapes


def shape_of(point: Point) -> Heads:
    """A point's heads."""
    return point["heads"], point["kv_heads"], point["head_dim"]
