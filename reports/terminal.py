"""The summary of a run for a terminal: what a person reads in ten seconds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vsim.traces import printed
from vsim.traces.plain_table import plain_table
from vsim.traces.units import short

_LATENCIES = (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("ITL", "itl_ms"), ("E2E", "e2e_ms"))
_QUANTILES = ("mean", "p50", "p90", "p99")
_PARTS_SHOWN = 4
_HELD = ("peak", "requests_peak", "decoding_peak")


def _head(summary: Mapping[str, Any]) -> Sequence[Text]:
    machine, model = summary["machine"], summary["model"]
    gpus = "" if machine["gpus"] == 1 else f" ({machine['gpus']} GPUs)"
    if (replicas := machine.get("replicas", 1)) > 1:
        gpus = f" ({replicas} replicas, {machine['gpus']} GPUs)"
    requests, throughput = summary["requests"], summary["throughput"]
    rejected = f", {requests['rejected']:,} rejected" if requests["rejected"] else ""
    rate = requests["submitted"] / max(summary["engine_wall_s"], 1e-9)
    return (
        Text.assemble(
            (summary["scenario"], "bold"), f" · {model['name']} on {machine['name']}{gpus}"
        ),
        *_declared(model),
        Text(
            f"{requests['completed']:,} of {requests['submitted']:,} requests completed{rejected} "
            f"in {printed.digits(summary['simulated_s'])} s simulated "
            f"({printed.digits(summary['engine_wall_s'])} s of engine, {rate:,.0f} requests/s)"
        ),
        Text(
            f"{printed.digits(throughput['requests_per_s'])} requests/s, "
            f"{printed.digits(throughput['prompt_tokens_per_s'])} prompt and "
            f"{printed.digits(throughput['output_tokens_per_s'])} output tokens/s"
        ),
    )


def _declared(model: Mapping[str, Any]) -> Sequence[Text]:
    """Say which precisions are the checkpoint's, where a scenario wrote none."""
    keys = {"weights": ("weights in", "weight_precision"), "kv": ("KV in", "kv_precision")}
    told = [keys[each] for each in model.get("declared", ())]
    said = [f"{words} {model[key]}" for words, key in told]
    return [Text(f"{', '.join(said)}, as the checkpoint declares")] if said else []


def _latencies(summary: Mapping[str, Any]) -> Table:
    table = plain_table("latency", *_QUANTILES)
    for title, key in _LATENCIES:
        table.add_row(title, *(printed.milliseconds(summary[key][each]) for each in _QUANTILES))
    return table


def _cache(summary: Mapping[str, Any]) -> Text:
    concurrent = summary["concurrent_requests"]
    causes = ", ".join(
        f"{cause.replace('_', ' ')} {count:,}"
        for cause, count in summary["faults_by_cause"].items()
        if count
    )
    return Text(
        f"prefix hits {printed.percent(summary['prefix_hit_ratio'])} of prompt tokens"
        f"{_certified(summary)} · "
        f"{short(summary['faults_per_1000_tokens'])} faults per 1,000 tokens"
        + (f" ({causes})" if causes else "")
        + f" · {summary['preemptions']:,} preemptions{_recomputed(summary)} · "
        f"{concurrent['mean']:.1f} requests at a time, {concurrent['peak']:,} at the peak · "
        f"fragmentation {printed.percent(summary['fragmentation'])}{_net(summary)}"
    )


def _certified(summary: Mapping[str, Any]) -> str:
    """Say what no prefix cache of this size could pass."""
    bound = summary.get("prefix_bound")
    return "" if bound is None else f" (at most {printed.percent(bound['hit_ratio'])}, certified)"


def _net(summary: Mapping[str, Any]) -> str:
    """Say what hits saved net of loads, and what none over these tiers could pass."""
    net = summary.get("prefix_net_bound")
    if net is None:
        return ""
    return (
        f"\nprefix hits saved {net['saved_s']:,.4g} s of prefill net of loads; over these tiers at"
        f" most {net['most_s']:,.4g} s, certified"
    )


def _recomputed(summary: Mapping[str, Any]) -> str:
    """Say how many tokens were computed once more after preemptions."""
    tokens = summary.get("recomputed_tokens")
    return f" ({tokens:,} tokens computed again)" if tokens else ""


def _placement(summary: Mapping[str, Any]) -> Sequence[Text]:
    """Say where a placement's page reads were served, and how far it is from the best."""
    placed = summary["placement"]
    certificate = placed["certificate"]
    knows = "oracle: it knows the future" if placed["oracle"] else "online"
    first = Text.assemble(
        "placement ",
        (placed["policy"], "bold"),
        f" ({knows}): {printed.percent(placed['hit_ratio'])} of page reads from HBM, "
        f"{printed.size(placed['moved_bytes'])} moved",
    )
    bound, aside = printed.bound(placed["bound_s"]), ""
    if certificate["launch_and_communication_s"] + certificate["dense_kernels_s"] > 0:
        aside = f"; {_gap(placed['attention_gap'])} for attention alone"
    return (
        first,
        Text(
            f"certified: its decode steps take {_gap(placed['gap'])} more than "
            f"{bound}, which no placement on these tiers can beat{aside} "
            f"({certificate['solver']}, {printed.digits(summary['bound_wall_s'])} s)"
        ),
    )


def _gap(share: float) -> str:
    """Print how far above the best, with two digits more where it is less than one percent."""
    return printed.percent(share) if share >= 0.01 else f"{100 * share:.3f}%"


def _tiers(summary: Mapping[str, Any]) -> Table:
    sizes = ("capacity", "peak", "mean", "read", "written")
    placed = summary.get("placement")
    table = plain_table("tier", *sizes, "page reads" if placed else "hit share", "evicted")
    for index, tier in enumerate(summary["tiers"]):
        share = tier["hit_share"]
        if placed:
            share = placed["hit_ratio"] if index == 0 else 1 - placed["hit_ratio"]
        table.add_row(
            tier["name"],
            *(printed.size(tier[f"{size}_bytes"]) for size in sizes),
            printed.percent(share),
            f"{tier['evicted_pages']:,} pages",
        )
    return table


def _kv_groups(summary: Mapping[str, Any]) -> Sequence[Table]:
    """What HBM held of each KV group, where layers keep KV in several."""
    groups = summary.get("kv_groups", ())
    if len(groups) < 2:
        return ()
    table = plain_table("kv in hbm", "layers", "page", "peak", "of requests", "of those decoding")
    for group in groups:
        table.add_row(
            group["name"],
            f"{group['layers']}",
            printed.size(group["page_bytes"]),
            *(printed.size(group[f"{name}_bytes"]) for name in _HELD),
        )
    return (table,)


def _dropped(summary: Mapping[str, Any]) -> Sequence[Text]:
    """Say which tiers lost pages, and why: for want of room below at that moment, or of any use."""
    lost, useless = [], []
    for tier, below in pairwise(summary["tiers"]):
        if not tier.get("dropped_pages"):
            continue
        gone = f"{tier['dropped_pages']:,} pages evicted from {tier['name']}"
        if below.get("takes_pages", True):
            lost.append(f"{gone} found no room in {below['name']}")
        else:
            useless.append(f"{gone}: a page is computed sooner than it comes from {below['name']}")
    skipped = summary.get("counters", {}).get("through_skipped", 0)
    if skipped:
        lost.append(f"{skipped:,} pages were not written through, since there was none")
    lines = []
    if lost:
        lines.append(f"dropped: {'; '.join(lost)} (backlog: wait keeps what is evicted)")
    if useless:
        lines.append(f"dropped: {'; '.join(useless)} (engine.loading: always keeps them)")
    return [Text(line) for line in lines]


def _links(summary: Mapping[str, Any]) -> Table:
    table = plain_table("link", "moved", "busy")
    for link in summary["links"]:
        source, _, target = link["name"].partition("-")
        for way, arrow in (("forward", (source, target)), ("reverse", (target, source))):
            table.add_row(
                " → ".join(arrow),
                printed.size(link[f"{way}_bytes"]),
                printed.percent(link[f"{way}_busy_share"]),
            )
    return table


def _time(summary: Mapping[str, Any]) -> Text:
    parts = sorted(summary["time_share"].items(), key=lambda part: -part[1])
    shown = ", ".join(
        f"{part.replace('_', ' ').replace(':', ' ')} {printed.percent(share)}"
        for part, share in parts[:_PARTS_SHOWN]
        if share > 0
    )
    step = summary["step"]
    return Text(
        f"{step['count']:,} steps of {printed.milliseconds(step['mean_ms'])} with "
        f"{step['mean_requests']:.1f} requests on average; time went to {shown}"
    )


def _bound_by(summary: Mapping[str, Any]) -> str:
    """Begin the verdict, which of several replicas is about the first."""
    replicas = summary["machine"].get("replicas", 1)
    return "Bound by " if replicas == 1 else f"The first of {replicas} replicas is bound by "


def _verdict(summary: Mapping[str, Any]) -> Sequence[Text]:
    verdict = summary["verdict"]
    return (
        Text.assemble((_bound_by(summary), "bold"), (verdict["bound_by"], "bold yellow"), ": ")
        + Text(verdict["why"] + "."),
        Text.assemble(("What would help: ", "bold"), verdict["relief"] + "."),
    )


def show_summary(
    summary: Mapping[str, Any], out: str | None = None, *, file: IO[str] | None = None
) -> None:
    """Print a run's summary, at most 100 columns wide; plain where the output is no terminal.

    Args:
        summary: what summary.json holds.
        out: the folder that holds the result, if one was written.
        file: where to print; standard output when left out.
    """
    console = Console(file=file, highlight=False)
    if not console.is_terminal or console.width > printed.WIDTH:
        console = Console(file=file, highlight=False, width=printed.WIDTH)
    for line in _head(summary):
        console.print(line)
    console.print()
    console.print(_latencies(summary))
    console.print()
    for line in _placement(summary) if "placement" in summary else (_cache(summary),):
        console.print(line)
    console.print()
    console.print(_tiers(summary))
    for table in _kv_groups(summary):
        console.print(table)
    if summary["links"]:
        console.print(_links(summary))
    for line in _dropped(summary):
        console.print(line)
    console.print()
    console.print(_time(summary))
    for line in _verdict(summary):
        console.print(line)
    if out is not None:
        console.print(Text(f"Wrote {out}"))
