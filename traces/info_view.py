"""What a trace holds, as tables of at most 100 columns for a terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vsim.traces.info import PrefixInfo, Quantiles, RequestsInfo
from vsim.traces.units import short

WIDTH = 100


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _lengths(rows: Sequence[tuple[str, Quantiles]]) -> Table:
    table = Table("", "mean", "p50", "p90", "p99", "max", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, q in rows:
        table.add_row(name, *map(_number, (q.mean, q.p50, q.p90, q.p99, q.max)))
    return table


def _facts(info: RequestsInfo) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("source", info.source)
    table.add_row("requests", f"{info.requests:,} over {info.span_s:,.0f} s")
    if info.arrival_rate_per_s is not None and info.arrival_cv is not None:
        rate = f"{short(info.arrival_rate_per_s)} requests/s, gaps of CV {info.arrival_cv:.2f}"
        table.add_row("arrivals", rate)
    if info.sessions:
        table.add_row("sessions", f"{info.sessions:,}")
    if info.follow_ups:
        table.add_row("follow-ups", f"{info.follow_ups:,} requests continue another")
    if info.tenants:
        shares = ", ".join(f"{name} {count:,}" for name, count in info.tenants.items())
        table.add_row("tenants", shares)
    if len(info.priorities) > 1:
        levels = ", ".join(f"{level}: {count:,}" for level, count in info.priorities.items())
        table.add_row("priorities", levels)
    return table


def _prefixes(prefix: PrefixInfo) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    counts = f"{prefix.references:,} references, {prefix.unique:,} unique"
    table.add_row("prefix blocks", f"{counts}, of {prefix.block_tokens:,} tokens")
    table.add_row("prefix hits", f"{_share(prefix.hit_ratio)} with an unbounded cache")
    for blocks, ratio in prefix.lru_hit_ratio.items():
        table.add_row("", f"{_share(ratio)} with LRU over {blocks:,} blocks")
    return table


def _curve(prefix: PrefixInfo, points: Sequence[tuple[int, int]]) -> Table:
    """LRU's hits at powers of two, up to the first cache that hits all that any hits."""
    table = Table("LRU cache, blocks", "hits", "misses", box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    sizes, hits = zip(*points, strict=True)
    enough = sizes[hits.index(hits[-1])]
    at = 1
    while True:
        size = min(at, enough)
        ratio = float(np.interp(size, sizes, hits)) / prefix.references
        table.add_row(f"{size:,}", _share(ratio), _share(1 - ratio))
        if at >= enough:
            return table
        at *= 2


def print_requests(info: RequestsInfo) -> None:
    """Print what a request trace holds."""
    console = Console(width=WIDTH, markup=False, highlight=False)
    console.print(_facts(info))
    rows = [("prompt tokens", info.prompt_tokens), ("output tokens", info.output_tokens)]
    if info.think_s is not None:
        rows.append(("think time, s", info.think_s))
    console.print()
    console.print(_lengths(rows))
    if info.prefix is not None:
        console.print()
        console.print(_prefixes(info.prefix))
        if info.prefix.lru_curve is not None:
            console.print()
            console.print(_curve(info.prefix, info.prefix.lru_curve))


def print_table(facts: dict[str, Any]) -> None:
    """Print what a trace of another kind holds, see `info.describe_table`."""
    console = Console(width=WIDTH, markup=False, highlight=False)
    console.print(f"{facts['rows']:,} rows of {facts['kind']}")
    for key, value in facts["metadata"].items():
        console.print(f"{key}: {value}")
    table = Table("column", "type", "unit", "nulls", "least", "greatest", box=None, pad_edge=False)
    for name, c in facts["columns"].items():
        extremes = ["-" if c[key] is None else str(c[key]) for key in ("min", "max")]
        table.add_row(name, c["type"], c["unit"], f"{c['nulls']:,}", *extremes)
    console.print(table)
