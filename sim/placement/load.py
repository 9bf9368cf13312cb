"""From a placement scenario to its cases: read attention, select pages, size the memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vsim.sim.placement.applicability import (
    refuse_idle_selection,
    refuse_policies_without_mass,
    refuse_what_no_write_feels,
    refuse_what_reads_ignore,
)
from vsim.sim.placement.case import Case
from vsim.sim.placement.reshape import (
    first_steps,
    side_by_side,
    with_larger_pages,
    with_whole_context,
)
from vsim.sim.placement.retention import Seen
from vsim.sim.placement.scenario import (
    DEFAULT_SPARSITY,
    MemorySettings,
    PlacementScenario,
    SelectionSettings,
    TierSettings,
)
from vsim.sim.placement.stack.case import StackCase
from vsim.sim.schedules.tier_stack import TierStack
from vsim.sim.schedules.two_tiers import TwoTiers
from vsim.traces.attention import BYTES_OF_ENTRY, AttentionTrace, read_attention
from vsim.traces.attention_generator import generate
from vsim.traces.faults import Fault, InputError
from vsim.traces.machine_memory import memory_fault
from vsim.traces.page_reads import PageReads
from vsim.traces.selection import (
    Dense,
    Selection,
    SlidingWindow,
    TopMass,
    TopShare,
    select_with_mass,
)

_BYTES_OF_CELL = 8
"""Tables of a page at a step: two of a state, one of a schedule, and one of its copies."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One case of a scenario. `sparsity` is None for a selection that is not by share."""

    case: Case
    sparsity: float | None
    hbm_share: float


@dataclass(frozen=True, slots=True, eq=False)
class StackPoint:
    """One case over several tiers. `sparsity` is None for a selection that is not by share."""

    case: StackCase
    tier_names: tuple[str, ...]
    sparsity: float | None
    hbm_share: float


def selections(settings: SelectionSettings) -> list[tuple[float | None, Selection]]:
    """The selections that a scenario asks for, with the sparsity of each."""
    refuse_idle_selection(settings)
    score = settings.score or "mass"
    if settings.kind == "top-share":
        return [(s, TopShare(s, score)) for s in settings.sparsity or (DEFAULT_SPARSITY,)]
    if settings.kind == "top-mass":
        return [(None, TopMass(settings.mass_share or 1.0, score))]
    if settings.kind == "window":
        return [(None, SlidingWindow(settings.sinks or 0, settings.window or 1))]
    return [(None, Dense())]


def points(scenario: PlacementScenario, base: Path) -> Iterator[Point]:
    """Make the cases of a scenario: every sparsity with every share of HBM.

    Args:
        scenario: what to compare.
        base: the folder that relative paths start at.

    Raises:
        InputError: a trace or a setting is wrong.
    """
    for sparsity, reads, seen in _selected(scenario, base):
        for share in scenario.memory.hbm_share:
            case = Case(reads, _tiers(scenario, reads, share), scenario.memory.start, seen)
            if scenario.time_per == "layer":
                case = case.by_layer()
            yield Point(case, sparsity, share)


def stack_points(scenario: PlacementScenario, base: Path) -> Iterator[StackPoint]:
    """Make the cases of a scenario that lists its tiers, or whose two tiers are exclusive.

    Args:
        scenario: what to compare.
        base: the folder that relative paths start at.

    Raises:
        InputError: a trace or a setting is wrong.
    """
    memory = scenario.memory
    for sparsity, reads, seen in _selected(scenario, base):
        for tiers in listed_tiers(memory):
            shares = [tier.share for tier in tiers]
            stack = TierStack(
                bytes_per_s=tuple(tier.bandwidth for tier in tiers),
                pages=tuple(None if s is None else int(s * reads.n_pages) for s in shares),
                weight_bytes=memory.weights or 0,
                duplex=memory.duplex,
                exclusive=memory.exclusive,
                norm=math.inf if memory.norm is None else memory.norm,
            )
            case = StackCase(reads, stack, memory.start, seen)
            if scenario.time_per == "layer":
                case = case.by_layer()
            names = tuple(tier.tier for tier in tiers)
            yield StackPoint(case, names, sparsity, shares[0] or 0.0)


def listed_tiers(memory: MemorySettings) -> list[tuple[TierSettings, ...]]:
    """The tiers of each case: those listed, or HBM with each of its shares before the slow tier."""
    if memory.tiers is not None:
        return [memory.tiers]
    slow = TierSettings(tier=memory.slow_tier, bandwidth=memory.slow_bandwidth)
    return [
        (TierSettings(tier="hbm", bandwidth=memory.hbm_bandwidth, share=share), slow)
        for share in memory.hbm_share
    ]


def _selected(
    scenario: PlacementScenario, base: Path
) -> Iterator[tuple[float | None, PageReads, Seen | None]]:
    chosen = selections(scenario.selection)
    traces = _traces(scenario, base)
    for sparsity, selection in chosen:
        reads, seen = _reads(scenario, traces, selection)
        if reads.reads == 0:
            raise InputError([Fault(traces[0].source, "has no page that a step reads")])
        refuse_what_no_write_feels(scenario, reads)
        if seen is None:
            refuse_policies_without_mass(scenario)
        if scenario.memory.stacked:
            _refuse_table(reads)
        yield sparsity, reads, seen


def _refuse_table(reads: PageReads) -> None:
    """Policies over several tiers lay out where each page is at each step."""
    needed = reads.n_pages * reads.steps * _BYTES_OF_CELL
    what = f"{reads.n_pages:,} pages at {reads.steps:,} steps on several tiers"
    _refuse_memory(needed, what, "steps")


def _refuse_memory(needed_bytes: int, what: str, place: str) -> None:
    fault = memory_fault("scenario", needed_bytes, what, place)
    if fault is not None:
        raise InputError([fault])


def _traces(scenario: PlacementScenario, base: Path) -> list[AttentionTrace]:
    drawn = scenario.generate
    if drawn is None:
        traces = [read_attention(base / name) for name in scenario.attention or ()]
        listed = sum(len(trace.pages) for trace in traces)
        what = f"{len(traces)} traces with {listed:,} pages in all rows"
        _refuse_memory(listed * BYTES_OF_ENTRY, what, "attention")
        return traces
    fault = drawn.fault()
    if fault is not None:
        raise InputError([fault])
    return [generate(drawn.spec(request)) for request in range(drawn.requests)]


def _reads(
    scenario: PlacementScenario, traces: list[AttentionTrace], selection: Selection
) -> tuple[PageReads, Seen | None]:
    parts: list[PageReads] = []
    masses: list[Seen | None] = []
    for trace in traces:
        selected = select_with_mass(trace, selection)
        has_mass = len(selected.pages) > 0
        mass = Seen(selected.offsets, selected.pages, selected.relative) if has_mass else None
        reads, mass = with_whole_context(selected.reads, mass)
        parts.append(reads)
        masses.append(mass)
    try:
        reads, seen = side_by_side(parts, masses)
    except ValueError as error:
        raise InputError([Fault("scenario", str(error), place="attention")]) from None
    refuse_what_reads_ignore(scenario, reads)
    if scenario.steps is not None:
        reads, seen = first_steps(reads, seen, scenario.steps)
    if scenario.page_factor > 1 or scenario.merge_heads:
        reads = with_larger_pages(reads, scenario.page_factor, merge_heads=scenario.merge_heads)
        seen = None
    return reads, seen


def _tiers(scenario: PlacementScenario, reads: PageReads, share: float) -> TwoTiers:
    memory = scenario.memory
    return TwoTiers(
        hbm_bytes_per_s=memory.hbm_bandwidth,
        slow_bytes_per_s=memory.slow_bandwidth,
        hbm_pages=int(share * reads.n_pages),
        weight_bytes=memory.weights or 0,
        exclusive=memory.exclusive,
        duplex=memory.duplex,
        norm=math.inf if memory.norm is None else memory.norm,
    )
