"""What `vsim alloc` found, as tables of at most 100 columns for a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vsim.sim.allocators.comparison import GrowthRow, KvComparison, ModelRun, moments
from vsim.sim.allocators.events import Events
from vsim.sim.allocators.growth import MOST_BUFFER_BYTES

WIDTH = 100
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def show_runs(
    title: str, events: Events, runs: Sequence[ModelRun], rows: int, *, timed: bool
) -> None:
    """Print each model's peaks and costs, then fragmentation over time."""
    console = _console()
    live = events.live_bytes
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("trace", title)
    lasts = int(events.time_ns[-1] - events.time_ns[0]) / 1e9
    facts.add_row("calls", f"{len(events):,} over {lasts:.3g} s")
    facts.add_row("live bytes", f"{int(live.max()):,} at most, {int(live[-1]):,} at the end")
    if events.before_bytes:
        before = f"{events.before_bytes:,} bytes that are freed in it"
        facts.add_row("before the recording", before)
    if events.unknown:
        facts.add_row("left out", f"{events.unknown:,} frees of an unknown size")
    if events.recorded_reserved is not None:
        peak = int(events.recorded_reserved.max())
        facts.add_row("reserved as recorded", f"{peak:,} at most")
    console.print(facts)
    console.print()
    console.print(_peaks(runs, timed))
    for each in runs:
        failure = each.run.first_failure
        if failure is not None:
            console.print(
                f"{each.name}: out of memory first at row {failure.row} "
                f"({failure.time_ns / 1e9:.3g} s), asked for {_size(failure.asked_bytes)} with "
                f"{_size(failure.live_bytes)} live and {_size(failure.reserved_bytes)} reserved; "
                f"{each.run.failures:,} in all"
            )
        for place, size in each.run.beside_bytes.items():
            console.print(f"{each.name}: {size:,} bytes at most in {place} memory")
        if each.run.saved:
            console.print(f"{each.name}: {each.run.saved:,} calls that failed then succeed here")
    console.print()
    console.print(_over_time(events, runs, rows))


def show_growth(machine: str, rows: Sequence[GrowthRow]) -> None:
    """Print what mapping costs, and the buffers from which on it costs less than copying."""
    console = _console()
    console.print(f"Growth on {machine}: mapping is cheaper for buffers from this size on")
    table = _table(
        "added", "in chunks of", "map, us", "than a copy", "than a copy to cached memory"
    )
    for row in rows:
        table.add_row(
            _size(row.added_bytes),
            _size(row.chunk_bytes),
            f"{row.map_ns / 1e3:,.0f}",
            _crossover(row.crossover_bytes),
            _crossover(row.crossover_copy_alone_bytes),
        )
    console.print(table)


def show_kv(title: str, found: KvComparison) -> None:
    """Print how many sequences each way holds, and what an equal load takes."""
    console = _console()
    settings, first = found.settings, found.rows[0]
    console.print(
        f"Sequences of {title} in {_size(settings.memory)} of KV of {settings.model}: "
        f"{found.memory_tokens:,} tokens; {found.sequences:,} sequences of at most "
        f"{settings.longest:,} tokens ({found.left_out:,} longer ones left out)"
    )
    table = _table("room", "unit, tokens", "held", "times max", "tokens in use", "preempted",
                   f"memory of {settings.held}", "less than max")  # fmt: skip
    for row in found.rows:
        table.add_row(
            row.way,
            f"{row.unit_tokens:,}",
            f"{row.found.held:.1f}",
            f"{row.found.held / first.found.held:.2f}",
            f"{100 * row.found.used:.0f} %",
            f"{row.found.preemptions:,}",
            _size(row.equal_load_bytes),
            f"{100 * (1 - row.equal_load_bytes / first.equal_load_bytes):.0f} %",
        )
    console.print(table)


def _peaks(runs: Sequence[ModelRun], timed: bool) -> Table:
    heads = ["allocator", "peak reserved", "of peak live", "mean unused", "driver calls"]
    table = _table(*heads, *(["in calls, ms"] if timed else []))
    for each in runs:
        peak = int(each.run.live_bytes.max(initial=0))
        cells = [
            each.name,
            f"{each.run.peak_reserved_bytes:,}",
            f"{each.run.peak_reserved_bytes / peak:.3f}" if peak else "-",
            f"{100 * each.unused:.1f} %",
            f"{each.run.driver_calls:,}",
        ]
        if each.calls_ns is not None:
            cells.append(f"{each.calls_ns / 1e6:,.1f}")
        table.add_row(*cells)
    return table


def _over_time(events: Events, runs: Sequence[ModelRun], rows: int) -> Table:
    table = _table("time, s", "live", *(each.name for each in runs))
    table.title = "Share of reserved memory that nothing lives in, at equal numbers of calls"
    table.title_justify = "left"
    live = events.live_bytes
    for at in moments(events, rows):
        shares = [f"{100 * float(each.run.fragmentation[at]):.1f} %" for each in runs]
        table.add_row(f"{int(events.time_ns[at]) / 1e9:.3g}", _size(int(live[at])), *shares)
    return table


def _table(*heads: str) -> Table:
    table = Table(*heads, box=None, pad_edge=False, title_style="", header_style="")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _console() -> Console:
    return Console(width=WIDTH, markup=False, highlight=False)


def _crossover(found: int | None) -> str:
    if found is None:
        return f"none to {_size(MOST_BUFFER_BYTES)}"
    return _size(found) if found else "any"


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            shown = size / unit
            return f"{shown:,.0f} {name}" if shown == int(shown) else f"{shown:,.2f} {name}"
    return f"{size} B"
