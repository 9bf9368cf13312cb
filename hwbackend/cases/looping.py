"""Decode loops: every step's attention in one graph, with what offloading copies beside it."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.cases.attending import batch_of, layout_of, vector_bytes
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.cuda.buffers import copy
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.measuring.samples import Samples, samples_us
from vsim.hwbackend.memory.slots import Slots
from vsim.sim.fidelity.gpu.loop_cases import LoopCase, LoopCopy

REPEATS: Final = 5
_WINDOW_BYTES: Final = 2**30
_SEED: Final = 13
Int64s = NDArray[np.int64]
Pairs = list[tuple[int, int]]


def measure_loop(bench: CaseBench, case: LoopCase) -> Samples:
    """Time a whole loop."""
    pages = pages_of_steps(case)
    held_most = 1 + max(int(each.max()) for step in pages for each in step)
    window = max(1, _WINDOW_BYTES // case.page_bytes)
    lower = {tier for each in case.copies for tier in (each.source, each.target)} - {"hbm"}
    with ExitStack() as held:
        counts: dict[str, int] = {"hbm": held_most + window}
        counts |= dict.fromkeys(sorted(lower), window)
        slots = held.enter_context(bench.slots(case.page_bytes, counts))
        layout = layout_of(case.heads, case.layers)
        most = max(len(step) for step in pages)
        size = vector_bytes(case.heads, most)
        q, out = (held.enter_context(bench.numbers(size)) for _ in range(2))
        steps = []
        for at, mine in enumerate(pages):
            decode = held.enter_context(PagedDecode(bench.home, layout, case.heads.heads))
            batch = batch_of(case.heads, case.contexts(at), np.concatenate(mine), slots)
            decode.bind(decode.plan(batch), bench.main)
            steps.append(decode)
        first = {name: slots.first_slot(name) for name in counts}
        first["hbm"] += held_most
        lanes = {
            way: held.enter_context(Stream())
            for way in dict.fromkeys((each.source, each.target) for each in case.copies)
        }
        moves = [
            [
                (lanes[each.source, each.target], _pairs(slots, first, window, each))
                for each in case.copies_of(step)
            ]
            for step in range(case.steps)
        ]
        begun = held.enter_context(Event(timing=False))
        ended = {way: held.enter_context(Event(timing=False)) for way in lanes}

        def work(stream: Stream) -> None:
            for decode, copies in zip(steps, moves, strict=True):
                if copies:
                    begun.record(stream)
                for lane, pairs in copies:
                    lane.wait(begun)
                    for target, source in pairs:
                        copy(target, source, case.page_bytes, lane)
                for layer in range(case.layers):
                    decode.launch(stream, q.address, out.address, slots.base, layer)
            for way, lane in lanes.items():
                ended[way].record(lane)
                stream.wait(ended[way])

        return samples_us(work, bench.main, REPEATS)


def pages_of_steps(case: LoopCase) -> list[list[Int64s]]:
    """The pages of each request of each step, in the order of `LoopCase.contexts`.

    A request takes all pages of its stay when it comes, drawn from those that are free, and gives
    them back when it goes.
    """
    size = case.heads.page_tokens
    needs = [-(-(stay.context + stay.steps - 1) // size) for stay in case.stays]
    most = 0
    for step in range(case.steps):
        here = sum(
            need
            for need, stay in zip(needs, case.stays, strict=True)
            if stay.first <= step < stay.first + stay.steps
        )
        most = max(most, here)
    draw = np.random.Generator(np.random.PCG64(_SEED))
    free = draw.permutation(most).tolist()
    mine: dict[int, Int64s] = {}
    found = []
    for step in range(case.steps):
        for number, stay in enumerate(case.stays):
            if stay.first + stay.steps == step:
                free += mine.pop(number).tolist()
        for number, stay in enumerate(case.stays):
            if stay.first == step:
                taken = [free.pop() for _ in range(needs[number])]
                mine[number] = np.array(taken, np.int64)
        found.append(
            [
                mine[number][: -(-(stay.context + step - stay.first) // size)]
                for number, stay in enumerate(case.stays)
                if stay.first <= step < stay.first + stay.steps
            ]
        )
    return found


def _pairs(slots: Slots, first: Mapping[str, int], window: int, each: LoopCopy) -> Pairs:
    """Target and source of each page: slots of a window that all copies of a tier share."""
    pages = np.arange(each.pages, dtype=np.int64) % window
    source = slots.addresses(first[each.source] + pages)
    target = slots.addresses(first[each.target] + pages[::-1])
    return list(zip(target.tolist(), source.tolist(), strict=True))
