"""Comparisons over tiers as tables of at most 100 columns, and as plain values."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from vsim.sim.prefixes.model_blocks import ModelBlocks
from vsim.sim.prefixes.tier_comparison import AtTiers
from vsim.sim.prefixes.view import WIDTH, print_heading, table_of, written_values
from vsim.traces.prefix_reuse import PrefixReuse
from vsim.traces.requests import Requests


def print_over_tiers(
    requests: Requests,
    reuse: PrefixReuse,
    found: Sequence[AtTiers],
    texts: Sequence[Sequence[str]],
    *,
    groups: bool,
) -> None:
    """Print one table for each value: a row a policy, a column a stack of tiers.

    Args:
        requests: the trace.
        reuse: its runs.
        found: for each stack.
        texts: each stack's tiers as written.
        groups: whether blocks have pieces in several groups of layers.
    """
    console = Console(width=WIDTH, markup=False, highlight=False)
    print_heading(console, requests, reuse)
    headings = ["\n+ ".join(each) for each in texts]
    for at in range(len(found[0].values)):
        console.print()
        console.print(table_of([each.values[at] for each in found], headings))
    console.print()
    console.print(
        "certified: no policy saves more over these tiers and in this order of admission, whatever"
        " it knows"
    )
    if len(found[0].tiers.parts) > 1:
        console.print("seconds are net of loads from the tiers below the first")
    if groups:
        console.print("room is counted in bytes; a hit needs every group of layers' piece")


def written_over_tiers(
    requests: Requests,
    reuse: PrefixReuse,
    found: Sequence[AtTiers],
    texts: Sequence[Sequence[str]],
    blocks: ModelBlocks,
) -> dict[str, Any]:
    """Give the comparison as plain values, ready for JSON."""
    return {
        "requests": len(requests),
        "blocks": reuse.blocks,
        "block_tokens": requests.block_tokens,
        "reused_blocks": int(reuse.count.sum()),
        "part_bytes": int(blocks.part_bytes()),
        "capacities": [
            {
                "tiers": [
                    {"tier": name, "written": text, "parts": parts, "load_s": float(load)}
                    for name, text, parts, load in zip(
                        each.tiers.names, written, each.tiers.parts, each.tiers.load_s, strict=True
                    )
                ],
                **written_values(each.values),
                "blocks_found": {name: list(where) for name, where in each.found.items()},
            }
            for each, written in zip(found, texts, strict=True)
        ],
    }
