"""`replay`: carry out what was predicted, as a plan or live, and compare."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from vsim.hwbackend.replay.carry_out import Progress, carry_out
from vsim.hwbackend.replay.decisions import Run, compare_decisions
from vsim.hwbackend.replay.measured_log import as_measured, measured_log
from vsim.hwbackend.replay.needs import Need, needs
from vsim.hwbackend.replay.options import ReplayOptions
from vsim.hwbackend.replay.outcome import Compared, Outcome, of_pairs, of_plan
from vsim.hwbackend.replay.pairing import paired
from vsim.hwbackend.replay.plan import plan_of
from vsim.hwbackend.replay.recorded_times import RecordedTimes
from vsim.hwbackend.replay.source import LiveServer, Source
from vsim.hwbackend.replay.sums_within import sums_within
from vsim.sim.engine.backend import Backend
from vsim.sim.engine.drivers import drive
from vsim.sim.engine.run import collect
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State

SIMULATED = "the simulated backend"


@dataclass(frozen=True, slots=True)
class Carriers:
    """What carries operations out.

    Args:
        name: in words.
        for_plan: makes a backend for a plan.
        for_live: makes one for an engine's state.
        facts: says, at the end, of the machine and of what it did.
        work_bytes: what steps take of GPUs beside pages.
        simulated: whether an engine's log has predicted times.
    """

    name: str
    for_plan: Callable[[Source], Backend]
    for_live: Callable[[State], Backend]
    facts: Callable[[], dict[str, Any]] = dict
    work_bytes: int = 0
    simulated: bool = False


def simulated_carriers() -> Carriers:
    """Return what needs no GPU: predicted times again, or the simulated backend."""
    return Carriers(
        SIMULATED, lambda source: RecordedTimes(source.plan), SimulatedBackend, simulated=True
    )


def slots_needed(source: Source, options: ReplayOptions, work_bytes: int = 0) -> list[Need]:
    """What a replay takes of each tier: what the plan touches, or all that the engine may use."""
    if options.mode == "plan" or source.live is None:
        return needs(source, source.plan.slots, work_bytes)
    slots = source.live.state().arrays["t"]["slots"].tolist()
    return needs(source, slots, work_bytes)


def replay(
    source: Source,
    options: ReplayOptions,
    carriers: Carriers,
    progress: Progress | None = None,
) -> Outcome:
    """Replay a source and compare what was predicted with what was measured.

    Args:
        source: what to replay.
        options: how.
        carriers: what carries it out.
        progress: told how many steps, or of a live replay how many requests, are done.
    """
    if options.mode == "live":
        assert source.live is not None
        return _live(source, source.live, options, carriers, progress)
    plan = source.plan
    runs = [carry_out(plan, carriers.for_plan(source), progress) for _ in range(options.repeats)]
    found = of_plan(plan, runs, options)
    return replace(
        _outcome(source, options, carriers, found, measured_log(plan, runs[0])), notes=found.notes
    )


def _live(
    source: Source,
    live: LiveServer,
    options: ReplayOptions,
    carriers: Carriers,
    progress: Progress | None,
) -> Outcome:
    warm = live.state()  # so that no kernel of the engine is compiled while the clock runs
    drive(warm, SimulatedBackend(warm))
    state = live.state()
    backend = carriers.for_live(state)
    try:
        end = drive(state, backend, progress)
    finally:
        backend.close()
    result = collect(state, end, 0)
    assert result.operations is not None
    plan = source.plan
    measured = plan_of(
        result.operations,
        plan.tiers,
        page_tokens=plan.page_tokens,
        page_bytes=plan.page_bytes,
        file=source.file,
    )
    if carriers.simulated:
        measured = sums_within(measured, live.server.cost)
    pairs = paired(plan, measured)
    found = of_pairs(pairs, plan, options)
    return replace(
        _outcome(source, options, carriers, found, as_measured(result.operations)),
        compared=len(pairs),
        alone=(len(plan.operations) - len(pairs), len(measured.operations) - len(pairs)),
        decisions=compare_decisions(Run(plan, live.simulated), Run(measured, result)),
    )


def _outcome(
    source: Source, options: ReplayOptions, carriers: Carriers, found: Compared, log: pa.Table
) -> Outcome:
    """What both modes say of a replay that has ended, where every operation has its pair."""
    return Outcome(
        source=source,
        options=options,
        backend=carriers.name,
        needs=slots_needed(source, options, carriers.work_bytes),
        classes=found.classes,
        total=found.total,
        predicted_s=found.predicted_s,
        measured_s=found.measured_s,
        compared=found.operations,
        alone=(0, 0),
        idle_s=source.plan.idle_ns / 1e9,
        decisions=None,
        log=log,
        facts=carriers.facts(),
    )
