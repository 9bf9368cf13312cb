"""What `vsim alloc` finds: each model's run, growth, and sequences held."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsim.sim.allocators.call_costs import CallCosts
from vsim.sim.allocators.events import Events
from vsim.sim.allocators.growth import crossover_bytes, map_ns
from vsim.sim.allocators.kv_occupancy import WAYS, Lengths, Occupancy, memory_for, occupancy
from vsim.sim.allocators.model_settings import Memory, Settings
from vsim.sim.allocators.replay import AllocatorRun, replay
from vsim.sim.allocators.scenario import AllocScenario, GrowthSettings, KvSettings
from vsim.sim.model.model import Model
from vsim.traces.faults import Fault, InputError, refuse


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One model's run, and what its calls of the driver take on a machine, if one is named."""

    name: str
    settings: Settings
    run: AllocatorRun
    calls_ns: int | None

    def as_json(self) -> dict[str, Any]:
        """Everything but the series."""
        run, failure = self.run, self.run.first_failure
        peak = int(run.live_bytes.max(initial=0))
        return {
            "model": self.name,
            "settings": self.settings.model_dump(mode="json"),
            "peak_reserved_bytes": run.peak_reserved_bytes,
            **({"peak_beside_bytes": run.beside_bytes} if run.beside_bytes else {}),
            "peak_live_bytes": peak,
            "peak_allocated_bytes": int(run.allocated_bytes.max(initial=0)),
            "reserved_over_live_at_peak": run.peak_reserved_bytes / peak if peak else None,
            "mean_unused": self.unused,
            "failures": run.failures,
            "first_out_of_memory": None if failure is None else {
                "row": failure.row, "time_ns": failure.time_ns,
                "asked_bytes": failure.asked_bytes, "live_bytes": failure.live_bytes,
                "reserved_bytes": failure.reserved_bytes,
            },
            "recorded_failures_that_succeed": run.saved,
            "driver_calls": run.driver_calls,
            "driver_calls_ns": self.calls_ns,
        }  # fmt: skip

    @property
    def unused(self) -> float:
        """Share of what is reserved that nothing lives in, on average over the calls."""
        live, reserved = (float(v.sum()) for v in (self.run.live_bytes, self.run.reserved_bytes))
        return 1 - live / reserved if reserved else 0.0


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """What mapping costs, and from which buffer on it costs less than copying (None: never)."""

    added_bytes: int
    chunk_bytes: int
    map_ns: float
    crossover_bytes: int | None
    crossover_copy_alone_bytes: int | None


@dataclass(frozen=True, slots=True)
class KvRow:
    """One way of giving room: what a memory holds, and what an equal load takes."""

    way: str
    unit_tokens: int
    found: Occupancy
    equal_load_bytes: int


@dataclass(frozen=True, slots=True)
class KvComparison:
    """All ways over one trace of lengths."""

    settings: KvSettings
    bytes_per_token: int
    memory_tokens: int
    sequences: int
    left_out: int
    rows: tuple[KvRow, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        first = self.rows[0]
        return {
            "bytes_per_token": self.bytes_per_token,
            "memory_tokens": self.memory_tokens,
            "sequences": self.sequences,
            "left_out": self.left_out,
            "ways": [
                {
                    "way": row.way, "unit_tokens": row.unit_tokens, "held": row.found.held,
                    "times_max": row.found.held / first.found.held,
                    "used_share": row.found.used, "reserved_share": row.found.reserved,
                    "preemptions": row.found.preemptions, "steps": row.found.steps,
                    "equal_load_bytes": row.equal_load_bytes,
                    "less_than_max": 1 - row.equal_load_bytes / first.equal_load_bytes,
                }
                for row in self.rows
            ],
        }  # fmt: skip


def run_models(
    scenario: AllocScenario, events: Events, costs: CallCosts | None
) -> Iterator[ModelRun]:
    """Replay the events through each model, in order.

    Raises:
        InputError: a KV cache is asked for, and nothing in the trace grows.
    """
    named = scenario.named_models()
    idle = [
        Fault("scenario", "holds sequences, which grow, and the trace has no realloc; leave it out",
              place=f"models.{index}")
        for index, (_, settings) in enumerate(named)
        if settings.holds_sequences and not events.grows
    ]  # fmt: skip
    if idle:
        raise InputError(idle)
    for name, settings in named:
        memory = Memory(scenario.capacity, events.recorded_segments, events.private)
        limited = scenario.capacity is not None or settings.limit_bytes is not None
        run = replay(events, settings.make(memory), limited=limited)
        calls_ns = None
        if costs is not None:
            beside = run.calls_beside.items()
            calls_ns = costs.total_ns(run.calls)
            calls_ns += sum(costs.total_ns(calls, kind=kind) for kind, calls in beside)
        yield ModelRun(name, settings, run, calls_ns)


def growth_rows(costs: CallCosts, settings: GrowthSettings) -> list[GrowthRow]:
    """Every size that is added, in every chunk that is no larger."""
    return [
        GrowthRow(
            added,
            chunk,
            map_ns(costs, added, chunk),
            crossover_bytes(costs, added, chunk),
            crossover_bytes(costs, added, chunk, copy_alone=True),
        )
        for added in settings.added
        for chunk in settings.chunks
        if chunk <= added
    ]


def compare_kv(settings: KvSettings, lengths: Lengths, model: Model) -> KvComparison:
    """Serve the lengths in every way.

    Raises:
        InputError: no sequence fits, or the memory does not hold the longest one.
    """
    each_token = model.kv_bytes_per_token(settings.precision)
    if each_token == 0:
        refuse("scenario", "has layers that keep no tokens; name another", place="kv.model")
    memory_tokens = settings.memory // each_token
    fitting = lengths.at_most(settings.longest)
    left_out = len(lengths.prompt) - len(fitting.prompt)
    if settings.sequences is not None:
        fitting = fitting.first(settings.sequences)
    if len(fitting.prompt) == 0:
        refuse("scenario", "is shorter than every request; write more tokens", place="kv.longest")
    in_ranges = settings.chunk * 2 * model.layers // each_token
    if in_ranges == 0:
        refuse("scenario", "holds less than a token; write a larger one", place="kv.chunk")
    units = {"paged": settings.block_tokens, "ranges": in_ranges}
    needed = max(-(-settings.longest // unit) * unit for unit in units.values())
    if memory_tokens < needed:
        least = needed * each_token
        refuse("scenario", f"holds {memory_tokens:,} tokens, and the longest sequence takes up to "
               f"{needed:,}; write {least / 2**30:.1f}GiB or more", place="kv.memory")  # fmt: skip
    rows = []
    for way in WAYS:
        unit = units.get(way, 1)
        found = occupancy(fitting, way, memory_tokens, unit, settings.longest)
        if found.steps == 0:
            refuse("scenario", f"has {len(fitting.prompt):,} sequences that fit, which the memory "
                   "holds all at once; name a longer trace", place="kv.requests")  # fmt: skip
        load = memory_for(fitting, way, settings.held, unit, settings.longest)
        rows.append(KvRow(way, unit, found, load * each_token))
    return KvComparison(
        settings, each_token, memory_tokens, len(fitting.prompt), left_out, tuple(rows),
    )  # fmt: skip


def moments(events: Events, count: int) -> Sequence[int]:
    """Events at equal numbers of calls, the last among them.

    Not at equal times: a program that loads its kernels first does nothing for most of them.
    """
    rows = len(events) * np.arange(1, count + 1) // count - 1
    return sorted({int(row) for row in rows if row >= 0})
