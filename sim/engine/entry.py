"""Where Python enters the kernels: with the address of the world's table of arrays."""

from typing import Any

from numba import types

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.calls import end_transfers
from vsim.sim.engine.committing import commit, deliver_all
from vsim.sim.engine.deciding import plan
from vsim.sim.engine.demand import begin_step
from vsim.sim.engine.fluid import advance_service, finish_flows, settle, start_flow
from vsim.sim.engine.gaps import compile_counting
from vsim.sim.engine.layout import (
    FAILED,
    IDLE,
    LAST_NS,
    LOG_FULL,
    NEVER,
    OUT_OF_TIME,
    RELEASED,
    TABLE,
)
from vsim.sim.engine.linking import call_addresses
from vsim.sim.engine.pointers import table_reader
from vsim.sim.engine.queues import arrive, arrive_next
from vsim.sim.engine.stepping import decode_run, log_has_room, start_planned

world = table_reader(TABLE)

_TRANSFERS_A_CALL = 64
"""So often at most do transfers end before the next end of one is an event of SimPy's again."""


def compile_kernels() -> None:
    """Compile what a fast run calls, or load it from the cache, so that no run's time holds it.

    What is compiled brings the entries of the other drivers along: kernels within kernels are at
    hand then, and not in the cache, so that compiling these later would take five times as long.
    """
    call_addresses()
    time, flag = types.int64, types.boolean
    entries: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (enter_advance, (time, time, flag, time)),
        (enter_flow_event, (time, time)),
        (enter_arrive, (time, time, time, time)),
        (enter_arrive_next, (time, time)),
    )
    others: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (enter_plan, (time, time)),
        (enter_commit, (time, time)),
        (enter_begin_step, (time, time)),
        (enter_start_flow, (time, time, time, time, time, time)),
        (enter_finish_flows, (time, time)),
        (enter_deliver, (time, time)),
        (enter_settle, (time, time)),
        (enter_advance_service, (time, time)),
    )
    for dispatcher, arguments in entries:
        dispatcher.compile(arguments)
    if any(dispatcher.stats.cache_misses for dispatcher, _ in entries):
        for dispatcher, arguments in others:
            dispatcher.compile(arguments)
    compile_counting()


@borrowing_kernel
def enter_advance(now: int, horizon: int, fast: bool, address: int) -> int:
    """Run until something else comes first: what happens at the horizon, or a transfer's end.

    What is due now goes first: arrivals, then transfers, then the end of the step under way. With
    `fast`, requests that arrive by the trace alone arrive here, and transfers end here as long as
    they are not too many; without, the driver has to announce both.

    Returns the end of the step left under way; or IDLE; or RELEASED when finished requests release
    others, which the driver has to announce; or LOG_FULL when the log has to be taken; or FAILED.
    """
    w = world(address)
    arrives = fast and not w.c[0].think
    left = _TRANSFERS_A_CALL if fast else 0
    while True:
        w.c[0].now = now
        if now > LAST_NS:
            w.c[0].failed = OUT_OF_TIME
            return FAILED
        if not log_has_room(w):
            return LOG_FULL
        if arrives and w.c[0].next_arrival == now:
            arrive_next(w, now)
        if w.c[0].in_flight and w.c[0].step_end == now and w.c[0].next_flow > now:
            if w.c[0].flows > 0:
                advance_service(w, now)
            commit(w, now)
            if w.c[0].released > 0:
                return RELEASED
        limit = min(horizon, LAST_NS)
        if arrives:
            limit = min(limit, w.c[0].next_arrival)
        if not w.c[0].in_flight and not w.c[0].planned:
            if fast:
                now = decode_run(w, now, limit)
                w.c[0].now = now
            if not w.c[0].in_flight:
                if not log_has_room(w):
                    return LOG_FULL  # the batch goes on decoding when it was taken
                start_planned(w, plan(w, now), now)
                if w.c[0].failed:
                    return FAILED
                if w.c[0].released > 0:
                    w.c[0].planned = 1
                    return RELEASED
        w.c[0].planned = 0
        end = w.c[0].step_end if w.c[0].in_flight else NEVER
        arrival = w.c[0].next_arrival if arrives else NEVER
        if arrival < NEVER and arrival <= min(end, min(horizon, w.c[0].next_flow)):
            now = arrival
        elif left > 0 and w.c[0].next_flow < horizon and w.c[0].next_flow <= end:
            if not log_has_room(w):
                w.c[0].planned = 1  # it was
                return LOG_FULL
            left -= 1
            now = w.c[0].next_flow
            if end_transfers(w, now) == 0 and not w.c[0].in_flight:
                w.c[0].planned = 1  # nothing changed that a plan could see
        elif end >= horizon or end >= w.c[0].next_flow or end == NEVER:
            return int(end) if w.c[0].in_flight else IDLE
        else:
            now = end


@borrowing_kernel
def enter_flow_event(now: int, address: int) -> int:
    """Transfers end now; returns how many arrived, or LOG_FULL with nothing done."""
    w = world(address)
    if not log_has_room(w):
        return LOG_FULL
    return end_transfers(w, now)


@borrowing_kernel
def enter_arrive_next(now: int, address: int) -> None:
    """See `queues.arrive_next`."""
    arrive_next(world(address), now)


@borrowing_kernel
def enter_arrive(first: int, end: int, now: int, address: int) -> None:
    """Rows first .. end - 1 arrive now."""
    w = world(address)
    for request in range(first, end):
        arrive(w, request, now)


@borrowing_kernel
def enter_plan(now: int, address: int) -> int:
    """Plan a step: 1 if it computes, 0 if not; -1 when the log must be taken first."""
    w = world(address)
    if not log_has_room(w):
        return -1
    return 1 if plan(w, now) else 0


@borrowing_kernel
def enter_commit(now: int, address: int) -> None:
    """See `committing.commit`."""
    commit(world(address), now)


@borrowing_kernel
def enter_begin_step(now: int, address: int) -> int:
    """See `demand.begin_step`."""
    return begin_step(world(address), now)


@borrowing_kernel
def enter_start_flow(now: int, path: int, first: int, pages: int, size: int, address: int) -> None:
    """See `fluid.start_flow`."""
    start_flow(world(address), now, path, first, pages, size)


@borrowing_kernel
def enter_finish_flows(now: int, address: int) -> None:
    """See `fluid.finish_flows`."""
    finish_flows(world(address), now)


@borrowing_kernel
def enter_deliver(now: int, address: int) -> None:
    """See `committing.deliver_all`."""
    deliver_all(world(address), now)


@borrowing_kernel
def enter_settle(now: int, address: int) -> None:
    """See `fluid.settle`."""
    settle(world(address), now)


@borrowing_kernel
def enter_advance_service(now: int, address: int) -> None:
    """See `fluid.advance_service`."""
    advance_service(world(address), now)
