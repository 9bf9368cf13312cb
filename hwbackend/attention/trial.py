"""Check and time the decode kernel on the GPU that is here.

`python -m vsim.hwbackend.attention.trial --check --variants "early=0;warps=8,blocks=1"`

Every time is a CUDA graph of many calls that rotate over more pages than L2 holds, the median of
repeats; the read ceiling, a plain kernel's, is measured in the same run.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from vsim.hwbackend.attention.checking import cases, check_decode
from vsim.hwbackend.attention.checking_prefill import check_prefill, prefill_cases
from vsim.hwbackend.attention.decode import SOURCE, DecodeVariant, PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.planner import LEAST_SLICES, plan
from vsim.hwbackend.attention.prefill import SOURCE as PREFILL_SOURCE
from vsim.hwbackend.attention.prefill import PagedPrefill, prefill_defines
from vsim.hwbackend.compiling.compiler import architecture, compiled
from vsim.hwbackend.cuda.buffers import DeviceBuffer, upload
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.device import Device, devices
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.places import Place, place_of
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.memory.slots import Slots, TierSlots
from vsim.hwbackend.probes.memory import MemoryProbe

SHAPES: Final = "32x8192,64x4096,256x1024,4x32768,1x131072,8x2048,1x8192"
GRAPH_US: Final = 6_000.0  # a graph holds calls for about so long
REPEATS: Final = 7
POOL_BYTES: Final = 8 << 30
SLOW_BYTES: Final = 2 << 30
Job = tuple[Path, dict[str, int | str]]


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


class Trial:
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
        self.stream = Stream()
        self.slots = Slots(chunk_bytes, tiers, chunk_bytes, [context.device])
        self.base = self.slots.base
        self.probe = MemoryProbe(context)
        self.probe.fill_normal(self.stream, self.base, len(self.slots) * chunk_bytes)
        self.stream.synchronize()

    def close(self) -> None:
        """Give everything back."""
        self.probe.close()
        self.slots.close()
        self.stream.close()

    def ceiling(self) -> float:
        """GB/s of a plain kernel that reads the pool."""
        size = min(self.bytes, 4 << 30)
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
        runs = min(self.bytes, 4 << 30) // run_bytes
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
        self, shape: Shape, layout: PageLayout, heads: int, variant: DecodeVariant,
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


def variants_of(text: str) -> Iterator[DecodeVariant]:
    """Read variants as `warps=8,blocks=1;early=0`; an empty one is the default."""
    kinds = {field.name: field.type for field in fields(DecodeVariant)}
    for one in text.split(";"):
        pairs = dict(pair.split("=") for pair in one.split(",") if pair)
        given = {
            name: bool(int(value)) if kinds[name] is bool else int(value)
            for name, value in pairs.items()
        }
        yield replace(DecodeVariant(), **given)  # type: ignore[arg-type]  # kinds are as fields say


def short(variant: DecodeVariant) -> str:
    """Name a variant in a few letters."""
    shape = f"w{variant.warps}s{variant.stages}b{variant.blocks}t{variant.together}"
    return shape + "+early" * variant.early


def time_all(
    trial: Trial, shapes: Sequence[Shape], layout: PageLayout, heads: int,
    variants: Sequence[DecodeVariant], slow_share: float = 0.0,
) -> None:  # fmt: skip
    """Print a line a variant, a column a shape, in GB/s."""
    order = "head-major" if layout.head_major else "token-major"
    print(f"{layout.page_tokens} tokens a page, {order}, {layout.layers} layers, "
          f"{heads}/{layout.kv_heads}x{layout.head_dim}, {slow_share:.1%} slow")  # fmt: skip
    print(" " * 28 + " ".join(f"{shape!s:>9}" for shape in shapes), flush=True)
    sizes = [shape.kv_bytes(layout) for shape in shapes]
    plain = (f"{size / trial.read_us(size) / 1e3:9.0f}" for size in sizes)
    print(f"{'a plain kernel':28}" + " ".join(plain), flush=True)
    for variant in variants:
        row = []
        for shape in shapes:
            us = trial.decode_us(shape, layout, heads, variant, slow_share)
            row.append(f"{shape.kv_bytes(layout) / us[len(us) // 2] / 1e3:9.0f}")
        print(f"{short(variant):28}" + " ".join(row), flush=True)


def time_prefill(
    trial: Trial, chunks: Sequence[tuple[int, int]], layout: PageLayout, heads: int
) -> None:
    """Print a line a chunk: microseconds, and arithmetic of the pairs that are not masked."""
    for new, context in chunks:
        us = trial.prefill_us(new, context, layout, heads)
        us_once = us[len(us) // 2]
        pairs = new * context - new * (new - 1) // 2
        rate = 4 * pairs * heads * layout.head_dim / us_once / 1e6
        print(f"prefill {new} new of {context}: {us_once:.1f} us, {rate:.0f} TFLOP/s", flush=True)


def compile_ahead(
    shapes: Iterable[tuple[int, PageLayout]], variants: Sequence[DecodeVariant]
) -> None:
    """Compile all that is wanted into the cache, on all cores: the GPU need not wait for it."""
    arch = architecture(Device(0).capability) if devices() else ""
    todo = {str(job): job for shape in shapes for job in _jobs(*shape, variants)}
    # A process that has talked to the driver must not fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_compile, arch), todo.values()))


def _jobs(group: int, layout: PageLayout, variants: Sequence[DecodeVariant]) -> Iterator[Job]:
    yield PREFILL_SOURCE, prefill_defines(group, layout)
    for variant in variants:
        yield SOURCE, variant.defines(group, layout)


def _compile(arch: str, job: Job) -> None:
    compiled(job[0], arch, job[1])


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with float64 first")
    parser.add_argument("--shapes", default=SHAPES, help="requests x context, or none")
    parser.add_argument("--variants", default="", help="as warps=8,blocks=1;early=0")
    parser.add_argument("--heads", default="32/8x128", help="query heads/KV heads x head size")
    parser.add_argument("--page", type=int, default=16)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--order", choices=("head", "token", "both"), default="head")
    parser.add_argument("--pool-gib", type=float, default=POOL_BYTES / 2**30)
    parser.add_argument("--least", type=int, default=LEAST_SLICES, help="slices of a share")
    parser.add_argument("--prefill", default="", help="new tokens x context, as 2048x8192,...")
    parser.add_argument("--chunk-mib", type=int, default=512, help="chunks under the pages")
    parser.add_argument("--slow", default="", help="place and shares, as device:1=0.04,0.07")
    parser.add_argument("--few", type=int, default=1000, help="so many cases to check at most")
    given = parser.parse_args()
    variants = list(variants_of(given.variants))
    place, _, shares = given.slow.partition("=")
    heads, _, rest = given.heads.partition("/")
    kv_heads, _, dim = rest.partition("x")
    wanted = list(cases())[: given.few] if given.check else []
    shape = PageLayout(given.page, int(kv_heads), int(dim))
    ahead = [(case.heads // case.layout.kv_heads, case.layout) for case in wanted]
    compile_ahead([*ahead, (int(heads) // shape.kv_heads, shape)], variants)
    slow = place_of(place) if place else None
    with ExitStack() as held:
        if slow is not None and slow.kind == "device":
            held.enter_context(Context(slow.number))  # its memory is there once it has one
        context = held.enter_context(Context(0))
        device = context.device
        print(f"{device.name}, {device.multiprocessors} multiprocessors, L2 {device.l2_bytes:,}")
        if given.check:
            passed = check_decode(context, variants, wanted)
            passed &= check_prefill(context, list(prefill_cases())[: given.few])
            if not passed:
                return 1
        if given.shapes == "none":
            return 0
        shapes = [Shape(*map(int, text.split("x"))) for text in given.shapes.split(",")]
        chunk_bytes = given.chunk_mib << 20
        trial = Trial(
            context, int(given.pool_gib * 2**30), chunk_bytes, slow, SLOW_BYTES, given.least
        )
        try:
            runs = ", ".join(f"{n} B {trial.gathered(n):.0f}" for n in (256, 4096, 32768))
            print(f"read ceiling {trial.ceiling():.0f} GB/s; runs in random order: {runs}")
            for order in ("head", "token") if given.order == "both" else (given.order,):
                layout = PageLayout(
                    given.page, int(kv_heads), int(dim), given.layers, order == "head"
                )
                chunks = [text.split("x") for text in filter(None, given.prefill.split(","))]
                time_prefill(trial, [(int(a), int(b)) for a, b in chunks], layout, int(heads))
                for share in [0.0, *map(float, filter(None, shares.split(",")))]:
                    time_all(trial, shapes, layout, int(heads), variants, share)
        finally:
            trial.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
