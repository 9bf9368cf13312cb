"""Sparse decode: a plan of reads and moves, carried out step by step in one graph.

A step attends to its pages where they are; what the plan copies goes on beside it on another
stream. The next step begins when both have ended. A page's replicas lie side by side, so that one
copy moves them all.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsim.hwbackend.attention.decode import PagedDecode
from vsim.hwbackend.attention.layout import DecodeBatch
from vsim.hwbackend.cases.attending import layout_of, vector_bytes
from vsim.hwbackend.cases.bench import CaseBench
from vsim.hwbackend.copies.pages import PageCopies
from vsim.hwbackend.cuda.streams import Event, Stream
from vsim.hwbackend.measuring.samples import Samples, samples_us
from vsim.sim.fidelity.gpu.cases import SparseCase
from vsim.sim.fidelity.gpu.sparse_plan import (
    ATTEND_HBM,
    ATTEND_SLOW,
    COPY_IN,
    EVICT,
    WRITE_THROUGH,
    SparsePlan,
    plan_path,
    read_plan,
)

REPEATS: Final = 5
_COPY_BLOCKS: Final = 64  # fill any link, and leave multiprocessors their room for attention
Int64s = NDArray[np.int64]


def measure_sparse(bench: CaseBench, case: SparseCase, plans: Path) -> Samples:
    """Time all steps of a case's plan. Raises InputError where the plan is missing or damaged."""
    plan = read_plan(plan_path(case, plans))
    size = case.heads.page_bytes
    with ExitStack() as held:
        counts = {
            "hbm": plan.slots * case.replicas,
            case.slow: plan.n_pages * case.replicas,
        }
        slots = held.enter_context(bench.slots(size, counts))
        first_slow = slots.first_slot(case.slow)
        requests = plan.requests * case.replicas
        room = vector_bytes(case.heads, requests)
        q, out = (held.enter_context(bench.numbers(room)) for _ in range(2))
        copies = held.enter_context(PageCopies(bench.home, size * case.replicas))
        launches = []
        for step, (ready, taken) in enumerate(frames_of(plan)):
            decode = held.enter_context(
                PagedDecode(bench.home, layout_of(case.heads, 1), case.heads.heads)
            )
            read, where = pages_read(plan, step, ready, first_slow, case.replicas)
            batch = sparse_batch(plan.columns[read], where, case.replicas, plan.requests)
            units = slots.units(batch[1])
            last = np.full(requests, case.heads.page_tokens)
            decode.bind(decode.plan(DecodeBatch.of(batch[0], units, last)), bench.main)
            moves = []
            for kind in (COPY_IN, WRITE_THROUGH):
                pages = plan.pages[kind][step]
                if len(pages):
                    slow = slots.addresses(first_slow + pages * case.replicas)
                    hbm = slots.addresses(taken[pages] * case.replicas)
                    ends = (slow, hbm) if kind == COPY_IN else (hbm, slow)
                    moves.append(ends)
            launches.append((decode, moves))
        begun, moved = (held.enter_context(Event(timing=False)) for _ in range(2))

        def work(stream: Stream) -> None:
            for decode, moves in launches:
                if moves:
                    begun.record(stream)
                    bench.side.wait(begun)
                    for sources, targets in moves:
                        copies.by_kernel(bench.side, sources, targets, _COPY_BLOCKS)
                    moved.record(bench.side)
                decode.launch(stream, q.address, out.address, slots.base)
                if moves:
                    stream.wait(moved)

        return samples_us(work, bench.main, REPEATS)


def pages_read(
    plan: SparsePlan, step: int, ready: Int64s, first_slow: int, replicas: int
) -> tuple[Int64s, Int64s]:
    """The pages that a step reads, ascending, and the slot of each one's first replica.

    Raises:
        ValueError: the plan reads a page in HBM that is not there.
    """
    hits, below = plan.pages[ATTEND_HBM][step], plan.pages[ATTEND_SLOW][step]
    if (ready[hits] < 0).any():
        page = int(hits[ready[hits] < 0][0])
        raise ValueError(f"step {step} reads page {page} in HBM, where it is not")
    pages = np.concatenate([hits, below])
    slots = np.concatenate([ready[hits] * replicas, first_slow + below * replicas])
    order = np.argsort(pages, kind="stable")
    return pages[order], slots[order]


def sparse_batch(
    columns: Int64s, where: Int64s, replicas: int, requests: int
) -> tuple[Int64s, Int64s]:
    """Make a step's `indptr` and slots: all columns of the first replica, of the second, and so on.

    Args:
        columns: int64[n], the column of each page that is read, ascending.
        where: int64[n], the slot of its first replica; the others follow.
        replicas: how many.
        requests: columns in all.
    """
    counts = np.bincount(columns, minlength=requests)
    indptr = np.concatenate([[0], np.cumsum(np.tile(counts, replicas))])
    return indptr, (where[None, :] + np.arange(replicas)[:, None]).ravel()


def frames_of(plan: SparsePlan) -> Iterator[tuple[Int64s, Int64s]]:
    """Where pages are in HBM, step by step: two int64[n_pages] of frames, -1 for none.

    First those that the step may read; then those that hold or receive a page, what is on its way
    included. A frame is free again in the step after the one that drops its page.
    """
    ready = np.full(plan.n_pages, -1, np.int64)
    free = list(range(plan.slots - 1, -1, -1))
    for page in plan.start.tolist():
        ready[page] = free.pop()
    for step in range(plan.steps):
        for page in plan.pages[WRITE_THROUGH][step].tolist():
            ready[page] = free.pop()
        held = ready.copy()
        for page in plan.pages[COPY_IN][step].tolist():
            held[page] = free.pop()
        yield ready.copy(), held
        ready = held
        for page in plan.pages[EVICT][step].tolist():
            free.append(int(ready[page]))
            ready[page] = -1
