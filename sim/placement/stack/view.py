"""A comparison over tiers as a table of text, at most 100 columns wide."""

from vsim.sim.placement.stack.comparison import StackComparison
from vsim.traces import printed
from vsim.traces.units import format_bandwidth, format_bytes

WIDTH = 100


def render_stack(found: StackComparison, sparsity: float | None) -> str:
    """Say what was compared, the bound, and one row a policy."""
    reads, stack = found.case.reads, found.case.stack
    chosen = "" if sparsity is None else f", sparsity {sparsity:.0%}"
    kind = "exclusive" if stack.exclusive else "inclusive"
    lines = [
        f"{reads.source}",
        f"{reads.steps:,} steps, {reads.n_pages:,} pages of {reads.page_tokens} tokens"
        f" ({format_bytes(reads.page_bytes)}), {reads.reads:,} reads{chosen}",
    ]
    for name, rate, pages in zip(found.tier_names, stack.bytes_per_s, stack.pages, strict=True):
        held = "the rest" if pages is None else f"{pages:,} pages ({pages / reads.n_pages:.0%})"
        if pages is None and not stack.exclusive:
            held = "a copy of every page"
        lines.append(f"  {name[:24]:<26}{format_bandwidth(rate):>12}   {held}")
    lines += [
        f"{kind}, {'duplex' if stack.duplex else 'simplex'}, start {found.case.start}",
        "",
        f"no policy takes less than {printed.bound(found.bound.bound_s)}:"
        f" certified in {found.bound.seconds:.1f} s by {found.bound.solver}",
        "",
    ]
    head = f"{'policy':<18}{'time':>11}{'vs static':>11}"
    room = WIDTH - len(head) - 12 - 13
    shown = min(len(found.tier_names), room // 9)
    for name in found.tier_names[:shown]:
        head += f"{name[:8]:>9}"
    lines.append(head + f"{'moved':>12}{'above bound':>13}")
    static = next((row.cost.time_s for row in found.rows if row.name == "static"), None)
    for row in found.rows:
        speed = f"{static / row.cost.time_s:.2f}x" if static else "-"
        oracle = " *" if row.placement.oracle else ""
        line = f"{row.name + oracle:<18}{printed.seconds(row.cost.time_s):>11}{speed:>11}"
        line += "".join(f"{ratio:>9.1%}" for ratio in row.cost.hit_ratios[:shown])
        line += f"{format_bytes(row.cost.moved_bytes):>12}{row.gap:>13.3%}"
        lines.append(line)
    lines += ["", "under a tier's name: the share of the reads that it serves; * knows the future"]
    return "\n".join(lines)
