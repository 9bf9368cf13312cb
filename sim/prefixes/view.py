"""Comparisons of prefix caches as tables of at most 100 columns, and as plain values."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from vsim.sim.prefixes.comparison import ONLINE, AtCapacity, ValueAtCapacity
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests

WIDTH: Final = 100
_NAMES: Final = {"expected-returns": "expected returns", "lp-rounding": "LP rounding"}


def print_comparison(
    requests: Requests, reuse: PrefixReuse, found: Sequence[AtCapacity], block_bytes: int | None
) -> None:
    """Print one table for each value: a row a policy, a column a capacity."""
    console = Console(width=WIDTH, markup=False, highlight=False)
    print_heading(console, requests, reuse)
    headings = [f"{each.blocks:,}" for each in found]
    if block_bytes is not None:
        sizes = [f"{each.blocks * block_bytes / 2**30:,.4g} GiB" for each in found]
        headings = [f"{blocks}\n{size}" for blocks, size in zip(headings, sizes, strict=True)]
    for at in range(len(found[0].values)):
        console.print()
        console.print(table_of([each.values[at] for each in found], headings))
    console.print()
    console.print(
        "certified: no policy saves more at this capacity, over all tiers together and in this"
        " order of\nadmission, whatever it knows"
    )


def print_heading(console: Console, requests: Requests, reuse: PrefixReuse) -> None:
    """Say what the trace holds."""
    blocks, again = reuse.blocks, int(reuse.count.sum())
    share = 100 * again / blocks if blocks else 0.0
    console.print(
        f"{len(requests):,} requests, {blocks:,} blocks of {requests.block_tokens:,} tokens;"
        f" {share:.1f} % of them were used before"
    )


def table_of(values: Sequence[ValueAtCapacity], headings: Sequence[str]) -> Table:
    """Lay out one value: a row a policy, those online by what they save first, a column a size."""
    table = Table(box=None, pad_edge=False)
    table.add_column(values[0].value.heading)
    for heading in headings:
        table.add_column(heading, justify="right")
    names = list(values[0].saved)
    online = [name for name in names if name in ONLINE]
    for name in sorted(online, key=lambda name: -values[0].saved[name]):
        _row(table, name, values)
    for name in names:
        if name not in ONLINE:
            _row(table, name, values)
    table.add_row("certified", *(f"{100 * each.most_share:.2f}" for each in values))
    return table


def _row(table: Table, name: str, values: Sequence[ValueAtCapacity]) -> None:
    shares = (f"{100 * each.share(name):.2f}" for each in values)
    table.add_row(_NAMES.get(name, name), *shares)


def written_comparison(
    requests: Requests, reuse: PrefixReuse, found: Sequence[AtCapacity]
) -> dict[str, Any]:
    """Give the comparison as plain values, ready for JSON."""
    return {
        "requests": len(requests),
        "blocks": reuse.blocks,
        "block_tokens": requests.block_tokens,
        "reused_blocks": int(reuse.count.sum()),
        "capacities": [
            {
                "blocks": each.blocks,
                **written_values(each.values),
            }
            for each in found
        ],
    }


def written_values(values: Sequence[ValueAtCapacity]) -> dict[str, Any]:
    """All values of one capacity, and the hit ratios of the first: hits are always counted."""
    hits = values[0]
    return {
        "bound_hit_ratio": hits.most_share,
        "policies": {name: hits.share(name) for name in hits.saved},
        "values": {
            one.value.name: {
                "total": one.total,
                "bound": float(one.certificate.most),
                "bound_share": one.most_share,
                "policies": {name: one.share(name) for name in one.saved},
            }
            for one in values
        },
    }
