"""Where Python enters the kernels: with the address of the world's table of arrays."""

from typing import Any

from numba import types

from vsim.sim.compiled import borrowing_kernel
from vsim.sim.engine.committing import commit, deliver_all, submit_copies
from vsim.sim.engine.demand import begin_step
from vsim.sim.engine.fluid import advance_service, finish_flows, settle, start_flow
from vsim.sim.engine.layout import FAILED, IDLE, LOG_FULL, RELEASED, TABLE
from vsim.sim.engine.linking import call_addresses
from vsim.sim.engine.planning import plan
from vsim.sim.engine.pointers import table_reader
from vsim.sim.engine.queues import arrive
from vsim.sim.engine.stepping import decode_run, log_has_room, start_planned

world = table_reader(TABLE)


def compile_kernels() -> None:
    """Compile what a fast run calls, or load it from the cache, so that no run's time holds it."""
    call_addresses()
    time, flag = types.int64, types.boolean
    entries: tuple[tuple[Any, tuple[Any, ...]], ...] = (
        (enter_advance, (time, time, flag, time)),
        (enter_flow_event, (time, time)),
        (enter_arrive, (time, time, time, time)),
    )
    for dispatcher, arguments in entries:
        dispatcher.compile(arguments)


@borrowing_kernel
def enter_advance(now: int, horizon: int, fast: bool, address: int) -> int:
    """Run steps until one would end at or after the horizon or a transfer's end.

    Returns that end, with the step left under way; or IDLE; or RELEASED when finished requests
    release others, which the driver has to announce first; or LOG_FULL.
    """
    w = world(address)
    while True:
        if not log_has_room(w):
            w.c[0].now = now
            return LOG_FULL
        if w.c[0].in_flight:
            if w.c[0].flows > 0:
                advance_service(w, now)
            commit(w, now)
            if w.c[0].released > 0:
                w.c[0].now = now
                return RELEASED
        if fast:
            now = decode_run(w, now, horizon)
            if w.c[0].in_flight:
                w.c[0].now = now
                return int(w.c[0].step_end)
        end = start_planned(w, plan(w, now), now)
        if w.c[0].failed:
            return FAILED
        if end == IDLE or end >= horizon or end >= w.c[0].next_flow:
            w.c[0].now = now
            return end
        now = end


@borrowing_kernel
def enter_flow_event(now: int, address: int) -> int:
    """Transfers end now; returns how many arrived, or LOG_FULL with nothing done."""
    w = world(address)
    if not log_has_room(w):
        return LOG_FULL
    finish_flows(w, now)
    arrived = w.c[0].done
    if arrived > 0:
        deliver_all(w, now)
    submit_copies(w, now)
    settle(w, now)
    return int(arrived)


@borrowing_kernel
def enter_arrive(first: int, end: int, now: int, address: int) -> None:
    """Rows first .. end - 1 arrive now."""
    w = world(address)
    for request in range(first, end):
        arrive(w, request, now)


@borrowing_kernel
def enter_plan(now: int, address: int) -> int:
    """Plan a step: 1 if it computes, 0 if not; -1 when a log must grow first."""
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
