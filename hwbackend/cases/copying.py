"""Copies between tiers, alone and beside attention."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np

from vsim.hwbackend.cases.attending import attention_load
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.copies.pages import PageCopies
from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.graphs import capture
from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.measuring.at_once import at_once
from vsim.hwbackend.measuring.samples import Samples, Work, stream_us
from vsim.sim.fidelity.gpu.cases import CopyCase

REPEATS: Final = 9
_SEED: Final = 11
_CALL_US: Final = 5.0  # the host's, at most
_COVER_US: Final = 250.0


def measure_copy(bench: CaseBench, case: CopyCase) -> Samples:
    """Time a case's copies, or the attention beside them."""
    with ExitStack() as held:
        copying = held.enter_context(copy_load(bench, case))
        cover = bench.cover(1 + round(case.count * _CALL_US / _COVER_US))
        if case.beside is None:
            return stream_us(copying, bench.main, REPEATS, cover=cover)
        attending = held.enter_context(attention_load(bench, case.beside))
        attending(bench.main)  # what it loads is there before the capture
        bench.main.synchronize()
        with capture(bench.main) as graph:
            attending(bench.main)
        held.callback(graph.close)
        attend_us = stream_us(graph.launch, bench.main, REPEATS).median_us
        copy_us = stream_us(copying, bench.side, REPEATS).median_us
        both = at_once((bench.main, bench.side), (graph.launch, copying), (attend_us, copy_us))
        return Samples(both.one if case.timed == "attention" else both.other)


@contextmanager
def copy_load(bench: CaseBench, case: CopyCase) -> Iterator[Work]:
    """Make the work of all copies; no two pieces lie side by side, in the source or the target."""
    with ExitStack() as held:
        spread = 2 * case.count
        slots = held.enter_context(
            bench.slots(case.bytes, dict.fromkeys((case.source, case.target), spread))
        )
        draw = np.random.Generator(np.random.PCG64(_SEED))
        pieces = 2 * np.arange(case.count, dtype=np.int64)
        sources = slots.addresses(slots.first_slot(case.source) + pieces)
        targets = slots.addresses(slots.first_slot(case.target) + draw.permutation(pieces))
        if case.way == "kernel":
            copies = held.enter_context(PageCopies(bench.home, case.bytes))

            def by_kernel(stream: Stream) -> None:
                copies.by_kernel(stream, sources, targets)

            yield by_kernel
        else:
            pairs = list(zip(targets.tolist(), sources.tolist(), strict=True))

            def by_engine(stream: Stream) -> None:
                for target, source in pairs:
                    copy(target, source, case.bytes, stream)

            yield by_engine
        bench.main.synchronize()
        bench.side.synchronize()
