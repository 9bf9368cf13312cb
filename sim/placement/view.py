"""A comparison as a table of text, at most 100 columns wide."""

from vsim.sim.placement.comparison import Comparison
from vsim.traces import printed
from vsim.traces.units import format_bandwidth, format_bytes


def render(found: Comparison, sparsity: float | None, hbm_share: float) -> str:
    """Say what was compared, the bound, and one row a policy."""
    reads, tiers = found.case.reads, found.case.tiers
    chosen = "" if sparsity is None else f", sparsity {sparsity:.0%}"
    certificate = f"certified in {found.bound.seconds:.2f} s by {found.bound.solver}"
    lines = [
        f"{reads.source}",
        f"{reads.steps:,} steps, {reads.n_pages:,} pages of {reads.page_tokens} tokens"
        f" ({format_bytes(reads.page_bytes)}), {reads.reads:,} reads{chosen}",
        f"HBM {format_bandwidth(tiers.hbm_bytes_per_s)}, {tiers.hbm_pages:,} pages"
        f" ({hbm_share:.0%}); slow tier {format_bandwidth(tiers.slow_bytes_per_s)};"
        f" start {found.case.start}",
        "",
        f"no policy takes less than {printed.bound(found.bound.bound_s)}: {certificate},",
        f"{_beside_lp(found)}; by hand, no less than {printed.bound(found.floors.capacity_s)}",
        "",
        f"{'policy':<24}{'time':>12}{'vs static':>11}{'HBM hits':>10}{'moved':>12}"
        f"{'above bound':>13}",
    ]
    static = next((row.cost.time_s for row in found.rows if row.name == "static"), None)
    for row in found.rows:
        speed = f"{static / row.cost.time_s:.2f}x" if static else "-"
        oracle = " *" if row.placement is None or row.placement.oracle else ""
        lines.append(
            f"{row.name + oracle:<24}{printed.seconds(row.cost.time_s):>12}{speed:>11}"
            f"{row.cost.hit_ratio:>10.1%}{format_bytes(row.cost.moved_bytes):>12}{row.gap:>13.3%}"
        )
    lines += ["", "* knows the future, or has memory that is not there"]
    return "\n".join(lines)


def _beside_lp(found: Comparison) -> str:
    """Where the certificate is beside the program that proposed its multipliers."""
    gap = found.bound.gap_to_lp
    if gap is None:
        return "the LP of the whole trace was not solved"
    if gap >= 0:
        return f"{gap:.1e} below the LP"
    return f"{-gap:.1e} above the LP, which was solved no more exactly"
