"""Time `PagedDecode` beside FlashAttention 3, on the same pages, over batches and contexts.

    python -m vsim.hwbackend.kernels.against_flash _vllm_fa3_C.abi3.so RESULTS.jsonl

Heads are Llama-3.1-8B's, pages have 16 tokens. Each time is a graph of as many calls, which rotate
over more pages than L2 holds; the three of a shape (a plain kernel that reads as many bytes, ours,
theirs) are replayed in turn, so that a clock that drifts is all three's. FlashAttention 3 has its
best number of splits, ours is as it plans itself. Both results are compared. Each row is written
when it is measured. `--once 8x2048` launches each once, for `ncu`.

Exit codes: 0 done, 1 results differ, 2 the arguments or no GPU.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch, PageLayout
from vsim.hwbackend.attention.timing import Shape
from vsim.hwbackend.cuda.context import Context
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.kernels.flash3 import (
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    PAGE_TOKENS,
    Flash3,
    load_library,
)
from vsim.hwbackend.kernels.flash_ratios import Row, ratios
from vsim.hwbackend.probes.memory import MemoryProbe
from vsim.traces.faults import InputError

LAYOUT: Final = PageLayout(PAGE_TOKENS, KV_HEADS, HEAD_DIM, head_major=False)
BATCHES: Final = tuple(2**at for at in range(9))
CONTEXTS: Final = tuple(2**at for at in range(10, 18))
SPLITS: Final = (0, 1, 2, 4, 8, 16, 32, 64, 128)
GRAPH_US: Final = 6_000.0
MOST_CALLS: Final = 200
BYTES_PER_US: Final = 3e6  # a guess, to choose how many calls a graph holds
ROTATED_BYTES: Final = 8 << 30
SPARE_BYTES: Final = 5 << 30  # left to partial results, graphs and the GPU's own
TRIAL_REPEATS, REPEATS = 3, 9
MOST_APART: Final = 1e-2  # of bf16 results, by their norms
Replay = Callable[[], None]
Launch = Callable[[Any], None]
"""Attends over the pages from one on."""


class Beside:
    """Both kernels over one pool of pages. Closed by the stack that it is made with.

    Args:
        held: closes what is held.
        pool_bytes: of pages.
    """

    def __init__(self, held: ExitStack, pool_bytes: int) -> None:
        torch.cuda.init()
        self.context = held.enter_context(Context(0))
        self.stream = held.enter_context(Stream())
        self.probe = held.enter_context(MemoryProbe(self.context))
        self.decode = held.enter_context(PagedDecode(self.context, LAYOUT, HEADS))
        self._events = [held.enter_context(Event(timing=True)) for _ in range(2)]
        self.torch_stream = torch.cuda.ExternalStream(self.stream.handle)
        shape = (pool_bytes // LAYOUT.page_bytes, 2, PAGE_TOKENS, KV_HEADS, HEAD_DIM)
        self.pages = torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_()
        torch.cuda.synchronize()

    def fits(self, shape: Shape) -> bool:
        """Whether a batch's pages are there."""
        return shape.kv_bytes(LAYOUT) <= len(self.pages) * LAYOUT.page_bytes

    def measure(self, shape: Shape) -> Row:
        """Compare and time one shape."""
        batch = shape.batch(PAGE_TOKENS)
        queries = torch.randn(shape.requests, HEADS, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        outs = [torch.full_like(queries, torch.nan) for _ in range(2)]
        table = torch.from_numpy(batch.indices.reshape(shape.requests, -1)).cuda()
        torch.cuda.synchronize()
        ours = self._ours(batch, queries, outs[0])
        tried: dict[int, float] = {}
        best: tuple[Replay, Flash3] | None = None  # whose arrays the graph reads
        for splits in SPLITS:
            if splits * 64 > shape.context:
                continue
            flash = Flash3(queries, outs[1], table, shape.context, splits)
            replay = self._torch_graph(shape, flash.launch)
            taken = median(self._replayed([replay], TRIAL_REPEATS)[0])
            if not tried or taken < min(tried.values()):
                best = replay, flash
            tried[splits] = taken
        assert best is not None
        size, calls = shape.kv_bytes(LAYOUT), self._calls(shape)
        with ExitStack() as held:
            graphs = []
            for launch in (ours, partial(self._read, size)):
                with capture(self.stream) as graph:
                    for pages in self._turns(shape, calls):
                        launch(pages)
                graphs.append(held.enter_context(graph))
            replays: list[Replay] = [partial(graph.launch, self.stream) for graph in graphs]
            times = [
                [us / calls for us in each]
                for each in self._replayed([replays[0], best[0], replays[1]], REPEATS)
            ]
            outs[1].fill_(torch.nan)
            torch.cuda.synchronize()
            replays[0]()
            best[0]()
            self.stream.synchronize()
        apart = float((outs[0].float() - outs[1].float()).norm() / outs[1].float().norm())
        mine, theirs, plain = ((median(each), min(each), max(each)) for each in times)
        chosen = min(tried, key=lambda splits: tried[splits])
        tried = {splits: us / calls for splits, us in tried.items()}
        return Row(self.context.device.name, shape.requests, shape.context, chosen, mine, theirs,
                   plain, apart, tried)  # fmt: skip

    def once(self, shape: Shape, splits: int) -> None:
        """Launch each kernel once, for a profiler."""
        batch = shape.batch(PAGE_TOKENS)
        queries = torch.randn(shape.requests, HEADS, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        out = torch.empty_like(queries)
        table = torch.from_numpy(batch.indices.reshape(shape.requests, -1)).cuda()
        torch.cuda.synchronize()
        self._ours(batch, queries, out)(self.pages)
        with torch.cuda.stream(self.torch_stream):
            Flash3(queries, out, table, shape.context, splits).launch(self.pages)
        self.stream.synchronize()

    def _ours(self, batch: DecodeBatch, queries: Any, out: Any) -> Launch:
        self.decode.bind(self.decode.plan(batch), self.stream)
        self.stream.synchronize()
        q, to = queries.data_ptr(), out.data_ptr()
        return lambda pages: self.decode.launch(self.stream, q, to, pages.data_ptr())

    def _read(self, size: int, pages: Any) -> None:
        self.probe.read(self.stream, pages.data_ptr(), size)

    def _torch_graph(self, shape: Shape, launch: Launch) -> Replay:
        """A graph of torch's calls, which lives as long as its replay is kept."""
        turns = list(self._turns(shape, self._calls(shape)))
        with torch.cuda.stream(self.torch_stream):
            launch(turns[0])
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.torch_stream):
            for pages in turns:
                launch(pages)

        def replay() -> None:
            with torch.cuda.stream(self.torch_stream):
                graph.replay()

        return replay

    def _turns(self, shape: Shape, calls: int) -> Iterator[Any]:
        """The pages that each call of a graph reads, in turn."""
        span = -(-shape.context // PAGE_TOKENS) * shape.requests
        most = min(len(self.pages), ROTATED_BYTES // LAYOUT.page_bytes)
        turns = max(1, most // span)
        for at in range(calls):
            yield self.pages[at % turns * span : (at % turns + 1) * span]

    @staticmethod
    def _calls(shape: Shape) -> int:
        guess = shape.kv_bytes(LAYOUT) / BYTES_PER_US
        return int(min(max(GRAPH_US / guess, 2), MOST_CALLS))

    def _replayed(self, replays: Sequence[Replay], repeats: int) -> list[list[float]]:
        """Microseconds of replays, one after another, again and again; the first do not count."""
        before, after = self._events
        found: list[list[float]] = [[] for _ in replays]
        for turn in range(repeats + 1):
            for replay, taken in zip(replays, found, strict=True):
                before.record(self.stream)
                replay()
                after.record(self.stream)
                after.synchronize()
                if turn:
                    taken.append(after.us_since(before))
        return found


def run(given: argparse.Namespace) -> int:
    """Do what the arguments say."""
    load_library(given.library)
    began = time.monotonic()
    shapes = [Shape(requests, context) for context in given.contexts for requests in given.batches]
    if given.once:
        shapes = [given.once]
    needed = max(ROTATED_BYTES, *(shape.kv_bytes(LAYOUT) for shape in shapes))
    with ExitStack() as held:
        free, _ = torch.cuda.mem_get_info()
        beside = Beside(held, min(needed, free - SPARE_BYTES))
        if given.once:
            beside.once(given.once, given.splits)
            return 0
        print(f"{beside.context.device.name}, pool of {len(beside.pages):,} pages", flush=True)
        rows = []
        with given.results.open("a", encoding="utf-8") as file:
            for shape in shapes:
                if not beside.fits(shape):
                    print(f"left out: {shape} takes {shape.kv_bytes(LAYOUT) / 2**30:.0f} GiB")
                    continue
                if time.monotonic() - began > given.seconds:
                    print(f"left out: {shape} and what follows, after {given.seconds} s")
                    break
                rows.append(beside.measure(shape))
                file.write(json.dumps(asdict(rows[-1])) + "\n")
                file.flush()
    apart = max((row.apart for row in rows), default=0.0)
    print("\n".join(ratios(rows)))
    print(
        f"{len(rows)} shapes, results at most {apart:.1e} apart, {time.monotonic() - began:.0f} s"
    )
    return 0 if apart < MOST_APART else 1


def numbers(text: str) -> list[int]:
    """Read `1,2,4`."""
    return [int(one) for one in text.split(",")]


def shape_of(text: str) -> Shape:
    """Read `8x2048`."""
    requests, context = text.split("x")
    return Shape(int(requests), int(context))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        prog="vsim.hwbackend.kernels.against_flash", description=__doc__
    )
    add = parser.add_argument
    add("library", type=Path, help="_vllm_fa3_C.abi3.so of a vLLM wheel")
    add("results", type=Path, help="JSON lines, to which rows are added")
    add("--batches", type=numbers, default=list(BATCHES), help="as 1,2,4")
    add("--contexts", type=numbers, default=list(CONTEXTS), help="as 1024,2048")
    add("--seconds", type=float, default=400.0, help="begin no shape after so long")
    add("--once", type=shape_of, help="launch each kernel once for a profiler, as 8x2048")
    add("--splits", type=int, default=0, help="of FlashAttention 3, with --once")
    try:
        return run(parser.parse_args(arguments))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
