"""lifetimes: what each event of a process made and what it ended."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vsim.hwbackend.preload.chunks import Chunks
from vsim.hwbackend.preload.events import Kind, Op, ProcessLog

_OPS: Final = (
    Op.MALLOC, Op.FREE, Op.REALLOC, Op.CONTEXT_END, Op.MAP, Op.UNMAP, Op.RETAIN,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Live:
    """An allocation.

    Args:
        number: of the event that made it.
        address: where it is; of a chunk of virtual memory its driver's handle.
        bytes: as they were asked for.
        kind: how it was asked for.
        device: whose memory it is.
        context: the one that it goes with, by its handle.
    """

    number: int
    address: int
    bytes: int
    kind: Kind
    device: int
    context: int


@dataclass(frozen=True, slots=True)
class Step:
    """An event, and what came of it.

    Args:
        event: a record of the log.
        op: what it is of.
        this: what it names, as far as the event itself tells.
        made: whether that is there from now on.
        ended: what is gone.
        old: what a `realloc` is of, where that was seen.
        unseen: whether it frees what was never seen to be allocated.
    """

    event: Any
    op: Op
    this: Live
    made: bool = False
    ended: tuple[Live, ...] = ()
    old: Live | None = None
    unseen: bool = False


def lifetimes(log: ProcessLog) -> Iterator[Step]:
    """Follow every allocation of a process from its event to the one that ends it.

    A free ends it, a `realloc` ends the old one, a context's end all that is of it but chunks, and
    of chunks see `Chunks`. What the library did by itself is left out; an event that failed makes
    and ends nothing.
    """
    live: dict[tuple[bool, int], Live] = {}
    chunks = Chunks()
    for number, event in enumerate(log.events[np.isin(log.events["op"], _OPS)]):
        op, address, other = Op(event["op"]), int(event["address"]), int(event["other"])
        kind = Kind(event["kind"]) if op != Op.CONTEXT_END else Kind.PLAIN
        this = Live(number, address, int(event["bytes"]), kind, int(event["device"]), other)
        virtual = kind == Kind.VMM
        old = live.get((virtual, other)) if op == Op.REALLOC else None
        step = Step(event, op, this, old=old)
        if op == Op.RETAIN:
            chunks.retained(address)
        elif op == Op.MAP:
            chunks.mapped(address, this.bytes, other)
        elif op == Op.UNMAP:
            gone = [live.pop((True, each)) for each in chunks.unmapped(address, this.bytes)]
            yield replace(step, ended=tuple(gone))
        elif op == Op.CONTEXT_END:
            keys = [key for key, each in live.items() if each.context == other and not key[0]]
            yield replace(step, ended=tuple(live.pop(key) for key in keys))
        elif event["result"]:
            yield step
        elif op == Op.FREE and virtual:
            is_gone = chunks.released(address)
            ended = (live.pop((True, address)),) if is_gone else ()
            yield replace(step, ended=ended, unseen=is_gone is None)
        elif op == Op.FREE:
            found = live.pop((False, address), None)
            yield replace(step, ended=(found,) if found else (), unseen=found is None)
        else:
            if old is not None:
                del live[virtual, other]
                step = replace(step, this=replace(this, context=old.context), ended=(old,))
            if virtual:
                chunks.created(address)
            live[virtual, address] = step.this
            yield replace(step, made=True)
