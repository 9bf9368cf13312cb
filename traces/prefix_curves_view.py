"""Curves by tenant and tier, sampled curves and working sets as tables of at most 100 columns."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from vsim.traces.info_view import WIDTH
from vsim.traces.prefix_curves import CurveOf, PrefixCurves, Sampled, TierHits
from vsim.traces.working_set import WorkingSet

_MOST_TENANTS = 8  # side by side; JSON has them all


def print_curves(curves: PrefixCurves) -> None:
    """Print what there is."""
    console = Console(width=WIDTH, markup=False, highlight=False)
    if curves.tenants:
        console.print()
        console.print(_tenants(curves.tenants))
        if len(curves.tenants) > _MOST_TENANTS:
            console.print(f"and {len(curves.tenants) - _MOST_TENANTS:,} more tenants: see --json")
    if curves.tiers:
        console.print()
        console.print(_tiers(curves.tiers))
    if curves.sampled is not None:
        console.print()
        console.print(_sample(curves.sampled))
    if curves.working_sets:
        console.print()
        console.print(_working_sets(curves.working_sets))


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _right(*headings: str) -> Table:
    table = Table(*headings, box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    return table


def _tenants(tenants: Sequence[CurveOf]) -> Table:
    """Hits of each tenant's prompts in one LRU cache for all, at powers of two."""
    shown = tenants[:_MOST_TENANTS]
    table = _right("LRU cache, blocks", *(tenant.name or "unnamed" for tenant in shown))
    enough = max(tenant.points[-1][0] for tenant in shown)
    for size in [1 << power for power in range((enough - 1).bit_length())] + [enough]:
        ratios = []
        for tenant in shown:
            sizes, hits = zip(*tenant.points, strict=True)
            ratios.append(_share(float(np.interp(size, sizes, hits)) / max(tenant.references, 1)))
        table.add_row(f"{size:,}", *ratios)
    return table


def _tiers(tiers: Sequence[TierHits]) -> Table:
    table = _right("tier", "blocks", "with those above", "hits in it")
    for at, tier in enumerate(tiers, 1):
        row = (f"{tier.blocks:,}", f"{tier.upto_blocks:,}", _share(tier.hit_ratio))
        table.add_row(f"{at}", *row)
    return table


def _sample(sampled: Sampled) -> Table:
    table = _right("LRU cache, blocks", "hits, sampled", "exact", "difference")
    table.title = (
        f"{sampled.requests:,} requests sampled, {_share(sampled.share)} of the references;"
        f" mean error {100 * sampled.mean_error:.2f} points"
    )
    table.title_justify = "left"
    table.title_style = ""
    columns = zip(sampled.sizes, sampled.hit_ratios, sampled.exact, strict=True)
    for size, estimate, exact in columns:
        difference = f"{100 * (estimate - exact):+.1f}"
        table.add_row(f"{size:,}", _share(estimate), _share(exact), difference)
    return table


def _working_sets(sets: Sequence[WorkingSet]) -> Table:
    table = _right("window, s", "working set, blocks", "hits", "misses", "LRU of that size hits")
    for each in sets:
        hits, lru = _share(each.hit_ratio), _share(each.lru_hit_ratio)
        misses = _share(1 - each.hit_ratio)
        table.add_row(f"{each.window_s:g}", f"{each.mean_blocks:,.0f}", hits, misses, lru)
    return table
