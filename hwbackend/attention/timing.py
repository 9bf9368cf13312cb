"""Timing: kernels over a pool of pages, each as a graph of many calls that rotate over the pool."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vsim.hwbackend.attention.decode import DecodeVariant, PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import plan
from vsim.hwbackend.attention.prefill import PagedPrefill
from vsim.hwbackend.cuda.buffers import DeviceBuffer, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.held import Held, close_after, do_all
from vsim.hwbackend.cuda.places import Place
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.slots import Slots, TierSlots
from vsim.hwbackend.probes.memory import MemoryProbe
from vsim.sim.timing.equal_shares import LEAST_SLICES

GRAPH_US: Final = 6_000.0  # a graph holds calls for about so long
REPEATS: Final = 7
PROBE_BYTES: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch of requests of equal length."""

    requests: int
    context: int

    def __str__(self) -> str:
        return f"{self.requests}x{self.context}"

    def batch(self, page_tokens: int, seed: int = 0) -> DecodeBatch:
        """Draw it over pages in random order."""
        pages = -(-self.context // page_tokens)
        order = np.random.default_rng(seed).permutation(self.requests * pages)
        last = self.context - (pages - 1) * page_tokens
        return DecodeBatch.of(
            np.arange(self.requests + 1) * pages, order, np.full(self.requests, last)
        )

    def kv_bytes(self, layout: PageLayout) -> int:
        """Bytes of keys and values that one layer of it reads."""
        return self.requests * self.context * layout.layer_stride // layout.page_tokens


def graph_us(
    call: Callable[[Stream, int], None], calls: int, stream: Stream, repeats: int = REPEATS
) -> list[float]:
    """Return microseconds of one call, for each repeat of a graph of `calls`, sorted."""
    with Event(timing=True) as before, Event(timing=True) as after:
        with capture(stream) as graph:
            for at in range(calls):
                call(stream, at)
        found = []
        with graph:
            graph.launch(stream)
            stream.synchronize()
            for _ in range(repeats):
                before.record(stream)
                graph.launch(stream)
                after.record(stream)
                after.synchronize()
                found.append(after.us_since(before) / calls)
    return sorted(found)


class Timing(Held):
    """A pool of pages on the GPU, and times of kernels over them.

    Args:
        context: the GPU.
        pool_bytes: of pages in its memory.
        chunk_bytes: of the chunks under the pool.
        slow: another place, with a pool of its own behind the first.
        slow_bytes: of that pool.
        least_slices: as plans take it.
    """

    def __init__(
        self,
        context: Context,
        pool_bytes: int,
        chunk_bytes: int,
        slow: Place | None = None,
        slow_bytes: int = 0,
        least_slices: int = LEAST_SLICES,
    ) -> None:
        self.context = context
        self.least_slices = least_slices
        self.bytes = pool_bytes // chunk_bytes * chunk_bytes
        tiers = [TierSlots("fast", context.device.place, self.bytes // chunk_bytes)]
        if slow is not None:
            tiers.append(TierSlots("slow", slow, slow_bytes // chunk_bytes))
        self._held: list[Held] = []
        try:
            self._held.append(stream := Stream())
            self._held.append(slots := Slots(chunk_bytes, tiers, chunk_bytes, [context.device]))
            self._held.append(probe := MemoryProbe(context))
            probe.fill_normal(stream, slots.base, len(slots) * chunk_bytes)
            stream.synchronize()
        except BaseException as error:
            close_after(error, self.close)
            raise
        self.stream, self.slots, self.probe, self.base = stream, slots, probe, slots.base

    def close(self) -> None:
        """Give everything back."""
        do_all([each.close for each in reversed(self._held)])

    def ceiling(self) -> float:
        """GB/s of a plain kernel that reads the pool."""
        size = min(self.bytes, PROBE_BYTES)
        us = graph_us(lambda stream, _: self.probe.read(stream, self.base, size), 3, self.stream)
        return size / us[len(us) // 2] / 1e3

    def read_us(self, size: int) -> float:
        """Microseconds in which a plain kernel reads so many bytes, which L2 does not hold."""
        turns = self.bytes // size

        def read(stream: Stream, at: int) -> None:
            self.probe.read(stream, self.base + at % turns * size, size)

        us = graph_us(read, int(min(max(GRAPH_US / (size / 4e6), 6), 200)), self.stream)
        return us[len(us) // 2]

    def gathered(self, run_bytes: int) -> float:
        """GB/s of a plain kernel that reads runs of the pool in random order."""
        runs = min(self.bytes, PROBE_BYTES) // run_bytes
        order = np.random.default_rng(0).permutation(runs).astype(np.uint32)
        with DeviceBuffer(order.nbytes) as held:
            upload(held.address, order, self.stream)
            us = graph_us(
                lambda stream, _: self.probe.read_runs(
                    stream, self.base, held.address, runs, run_bytes
                ),
                3,
                self.stream,
            )
        return runs * run_bytes / us[len(us) // 2] / 1e3

    def decode_us(
        self, shape: Shape, layout: PageLayout, heads: int, variant: DecodeVariant | None,
        slow_share: float = 0.0,
    ) -> list[float]:  # fmt: skip
        """Times of one call in microseconds, sorted; a share of the pages lies in the slow pool."""
        batch = shape.batch(layout.page_tokens)
        span = len(batch.indices) * layout.page_bytes
        turns = self.bytes // span
        if not turns:
            raise ValueError(f"a pool of {self.bytes:,} bytes for {span:,} of {shape}")
        if slow_share:
            turns = 1
            chosen = np.random.default_rng(1).permutation(len(batch.indices))
            slow = chosen[: round(slow_share * len(chosen))]
            if len(slow) * layout.page_bytes + self.bytes > len(self.slots) * self.slots.slot_bytes:
                raise ValueError(f"a slow pool too small for {len(slow):,} pages")
            batch.indices[slow] = self.bytes // layout.page_bytes + np.arange(len(slow))
        q_bytes = shape.requests * heads * layout.row_bytes
        size = shape.kv_bytes(layout)
        calls = int(min(max(GRAPH_US / (size / 4e6), 6), 200))
        with (
            DeviceBuffer(2 * q_bytes) as queries,
            PagedDecode(self.context, layout, heads, variant=variant) as decode,
        ):
            self.probe.fill_normal(self.stream, queries.address, q_bytes, seed=7)
            shares = plan(batch, layout, decode.blocks, self.least_slices)
            decode.bind(shares, self.stream)

            def call(stream: Stream, at: int) -> None:
                base = self.base + (at % turns) * span
                decode.launch(
                    stream, queries.address, queries.address + q_bytes, base, at % layout.layers
                )

            return graph_us(call, calls, self.stream)

    def prefill_us(self, new: int, context: int, layout: PageLayout, heads: int) -> list[float]:
        """Times of one chunk at the end of one context in microseconds, sorted."""
        batch = Shape(1, context).batch(layout.page_tokens)
        q_bytes = new * heads * layout.row_bytes
        with (
            DeviceBuffer(2 * q_bytes) as queries,
            PagedPrefill(self.context, layout, heads) as prefill,
        ):
            self.probe.fill_normal(self.stream, queries.address, q_bytes, seed=7)
            prefill.bind(prefill.plan(batch, np.array([new], np.int32)), self.stream)

            def call(stream: Stream, at: int) -> None:
                prefill.launch(stream, queries.address, queries.address + q_bytes, self.base)

            return graph_us(call, 10, self.stream)
