"""A replay as it is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from vsim.hwbackend.replay.decisions import Decisions
from vsim.hwbackend.replay.errors import ClassErrors, format_us
from vsim.hwbackend.replay.needs import Need
from vsim.hwbackend.replay.outcome import Outcome
from vsim.traces.plain_table import plain_table
from vsim.traces.units import format_bytes

WIDTH = 110


def show_needs(found: Sequence[Need], tiers: Sequence[str], gpus: int = 1) -> None:
    """Say what a replay takes on a GPU, or on several together, before it begins."""
    parts = []
    for need, name in zip(found, tiers, strict=True):
        weights = f" and {_size(need.weight_bytes)} of weights" if need.weight_bytes else ""
        if need.buffer_bytes:
            weights += f" and {_size(need.buffer_bytes)} of buffers"
        parts.append(f"{name} {_size(need.kv_bytes)} of KV{weights}")
    console = Console(width=WIDTH, highlight=False)
    where = "a GPU" if gpus == 1 else f"{gpus} GPUs"
    console.print(f"takes on {where}: " + "; ".join(parts), soft_wrap=True)


def show(outcome: Outcome, out: str | None) -> None:
    """Print what a replay found, and where it was written."""
    console = Console(width=WIDTH, highlight=False)
    source, options = outcome.source, outcome.options
    console.print(
        f"[bold]{source.name}[/bold] · {source.model} on {source.machine} · {options.mode}, "
        f"{source.movement} · on {outcome.backend}",
        soft_wrap=True,
    )
    for note in (*source.notes, *outcome.notes):
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    for tier, other in options.stand_ins:
        console.print(f"note: {other} stands in for {tier}", markup=False, soft_wrap=True)
    if outcome.idle_s > 0:
        console.print(
            f"{outcome.idle_s:.3f} s in which nothing was under way were skipped", soft_wrap=True
        )
    alone = ""
    if any(outcome.alone):
        alone = f" ({outcome.alone[0]:,} only predicted, {outcome.alone[1]:,} only measured)"
    console.print(
        f"{source.plan.steps:,} steps, {outcome.compared:,} operations compared{alone}: "
        f"{outcome.predicted_s:.6g} s predicted, {outcome.measured_s:.6g} s measured",
        soft_wrap=True,
    )
    console.print()
    console.print(_errors([*outcome.classes, outcome.total]))
    if outcome.decisions is not None:
        console.print()
        _show_decisions(outcome.decisions, console)
    if outcome.backend.startswith("the simulated"):
        console.print(
            "Nothing was measured: this checks that a replay carries out what was predicted.",
            soft_wrap=True,
        )
    if outcome.facts:
        console.print(_measured(outcome.facts), soft_wrap=True)
    if out is not None:
        console.print(f"Wrote {out}", markup=False, soft_wrap=True)


def _measured(facts: Mapping[str, Any]) -> str:
    """What measured, and what of its time is in no operation."""
    device = f"{facts['gpus']} x {facts['device']}" if facts["gpus"] > 1 else facts["device"]
    said = f"{facts['date']}, {device}, driver {facts['driver']}, CUDA {facts['cuda']}"
    if facts["sm_mhz"]:
        said += f", {facts['sm_mhz']:,} MHz and {facts['watts']:.0f} W on the way"
    said += f"; the host prepared steps for {facts['host_prepared_s']:.3f} s and looked at what had"
    said += f" ended for {facts['host_finished_s']:.3f} s, which do not count"
    if facts["gpus"] > 1:
        said += f"; the GPUs' times of steps were {facts['apart_s']:.3f} s apart in all"
    if facts["disk"]:
        said += f"; pages on {facts['disk']}"
    if facts["pages_mapped"]:
        mapping = f"{facts['pages_mapped']:,} pages came under an address"
        said += f"; {mapping} in {facts['mapping_s']:.3f} s"
    if facts["pages_verified"]:
        said += f"; {facts['pages_verified']:,} times a page was looked at, and none was wrong"
    if facts["outputs_verified"]:
        outputs = f"{facts['outputs_verified']:,} outputs of attention"
        said += f"; {outputs} were held against a dense reference, and none was wrong"
    return said


def _errors(rows: Sequence[ClassErrors]) -> Table:
    table = plain_table(
        "operations", "count", "predicted", "measured", "spread", "error p50", "p95", "worst"
    )
    for row in rows:
        spread = "–" if row.spread is None else f"{100 * row.spread:.1f}%"
        table.add_row(
            row.name,
            f"{row.operations:,}",
            format_us(row.predicted_us),
            format_us(row.measured_us),
            spread,
            *(f"{100 * error:+.1f}%" for error in (row.median, row.p95, row.worst)),
        )
    return table


def _size(count: int) -> str:
    """Four digits, so that what is taken can be held against what is free."""
    for exponent, unit in ((3, "GiB"), (2, "MiB")):
        if count >= 1024**exponent:
            return f"{count / 1024**exponent:.4g} {unit}"
    return format_bytes(count)


def _show_decisions(found: Decisions, console: Console) -> None:
    table = plain_table("decisions", "simulated", "measured", "differing")
    table.add_row("steps", f"{found.steps[0]:,}", f"{found.steps[1]:,}", "")
    for kind in found.kinds:
        unit = f" {kind.unit}"
        table.add_row(
            kind.name,
            f"{kind.simulated:,}{unit}",
            f"{kind.measured:,}{unit}",
            f"{kind.differing:,} {kind.of}",
        )
    console.print(table)
    if found.first is None:
        console.print("All decisions are as simulated.")
    else:
        console.print(f"The first {found.alike:,} steps are alike; {found.first}.", soft_wrap=True)
