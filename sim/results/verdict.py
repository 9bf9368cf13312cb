"""Verdict: what a run is bound by, in words, and what would relieve it.

Only the time in which there were requests is judged: a server that was saturated until one late
request came was saturated. It kept up, and is bound by arrivals, if it ran empty again and again,
so that no stretch without a pause served half of the requests; or if in that stretch requests
neither waited for admission for much of their time, nor were many left when no more came. Otherwise
the largest part of the busy time names the bound. HBM that is read mostly for weights while
requests wait for room is a lack of capacity: a larger batch would share those reads.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vsim.sim.results.advice.advice import LEAST_WORTH, Advice
from vsim.sim.results.advice.judged_run import Run, busiest_way
from vsim.sim.results.advice.rules import changes
from vsim.sim.results.run_settings import RunSettings
from vsim.sim.scenario.limits import MOST_RATE_SCALE
from vsim.traces.units import format_bytes, format_duration

BUSIEST_REQUESTS_SHARE = 0.5
KEEPS_UP_WAIT_SHARE = 0.2
KEEPS_UP_WAIT_STEPS = 2
KEEPS_UP_BACKLOG_SHARE = 0.2
_MOST_ADVICE = 4
_PART_NAMES = {
    "launch": "launching steps",
    "communication": "traffic between GPUs",
    "compute": "arithmetic",
    "hbm_weights": "reading weights from HBM",
    "hbm_kv": "reading KV from HBM",
    "small_kernels": "norms, activations and writing KV",
    "vmm": "mapping pages",
    "idle_no_requests": "no request to serve",
    "idle_transfers": "waiting for transfers",
    "idle_capacity": "waiting for room",
}


def part_name(part: str) -> str:
    """Say in words what a part of the time went to."""
    kind, _, tier = part.partition(":")
    return f"attending in place in {tier}" if kind == "lower_tier" else _PART_NAMES[part]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.1 or share == 0 else f"{100 * share:.1f}%"


def busy_shares(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the parts of the time in which there were requests; they sum to 1."""
    parts = {k: v for k, v in summary["time_share"].items() if k != "idle_no_requests"}
    whole = sum(parts.values())
    return {part: value / whole if whole > 0 else 0.0 for part, value in parts.items()}


def _groups(share: Mapping[str, float]) -> dict[str, float]:
    """Join the parts of the time that one resource is to blame for."""
    groups = {
        "compute": share.get("compute", 0.0),
        "hbm": sum(share.get(part, 0.0) for part in ("hbm_weights", "hbm_kv", "small_kernels")),
        "capacity": share.get("idle_capacity", 0.0),
        "transfers": share.get("idle_transfers", 0.0),
        "vmm": share.get("vmm", 0.0),
        "communication": share.get("communication", 0.0),
        "launch": share.get("launch", 0.0),
    }
    lower = {part: value for part, value in share.items() if part.startswith("lower_tier:")}
    return groups | lower


def _short_of_capacity(run: Run) -> bool:
    """Tell whether room for KV, not the batch limit, kept the batch small."""
    limit = run.summary["engine"]["max_running_requests"]
    return run.held_back and run.summary["concurrent_requests"]["peak"] < limit


def keeps_up(summary: Mapping[str, Any]) -> bool:
    """Tell whether the server did what it was asked in the time in which it was asked."""
    stretch = summary["busiest_stretch"]
    if stretch["requests_share"] < BUSIEST_REQUESTS_SHARE:
        return True
    # who comes during a step waits for its end, however little the server has to do
    promptly = stretch["wait_ms"] < KEEPS_UP_WAIT_STEPS * summary["step"]["mean_ms"]
    return bool(
        (promptly or stretch["wait_share"] < KEEPS_UP_WAIT_SHARE)
        and stretch["backlog_share"] < KEEPS_UP_BACKLOG_SHARE
    )


def _bound(run: Run) -> str:
    """Name the group of parts that most of the busy time waits for."""
    groups = _groups(run.share)
    top = max(groups, key=lambda name: groups[name])
    weights, kv = run.part("hbm_weights"), run.part("hbm_kv")
    if top == "hbm" and _short_of_capacity(run) and weights > kv:
        return "capacity"
    return top


def _name(run: Run, bound: str) -> str:
    """Name a bound as the verdict does."""
    if bound == "transfers":
        return busiest_way(run.summary)[0]
    if bound.startswith("lower_tier:"):
        return f"bandwidth to {bound.partition(':')[2]}"
    names = {"hbm": "HBM bandwidth", "compute": "compute", "capacity": "capacity"}
    return names.get(bound) or part_name(bound)


def _why(run: Run, bound: str, unit: str) -> str:
    summary = run.summary
    weights, kv = _percent(run.part("hbm_weights")), _percent(run.part("hbm_kv"))
    way, busy = busiest_way(summary)
    if bound == "capacity":
        hbm, idle = summary["tiers"][0], run.part("idle_capacity")
        stopped = f"{_percent(idle)} of {unit} nothing runs for want of room, " if idle else ""
        at_once = summary["concurrent_requests"]["mean"]
        return (
            f"HBM has {format_bytes(hbm['capacity_bytes'])} for KV, room for {at_once:.0f} "
            f"requests at a time ({summary['preemptions']} preemptions); {stopped}{weights} of "
            f"{unit} goes to reading weights that a larger batch would share"
        )
    if bound == "hbm":
        return (
            f"{weights} of {unit} goes to reading weights and {kv} to reading KV, "
            f"with {summary['step']['mean_requests']:.0f} requests in a mean step"
        )
    if bound == "compute":
        tokens = summary["step"]["mean_prefill_tokens"]
        arithmetic = _percent(run.part("compute"))
        return f"{arithmetic} of {unit} is arithmetic, {tokens:.0f} prompt tokens in a mean step"
    if bound == "transfers":
        waiting = _percent(run.part("idle_transfers"))
        return (
            f"{waiting} of {unit} nothing runs because pages are on their way; the {way} is in use "
            f"{_percent(busy)} of the time"
        )
    if bound.startswith("lower_tier:"):
        return (
            f"{_percent(run.part(bound))} of {unit} steps wait for pages attended in place in "
            f"{bound.partition(':')[2]}; the {way} is in use {_percent(busy)} of the time"
        )
    return f"{_percent(run.part(bound))} of {unit} is {part_name(bound)}"


def _relief(advice: Iterable[Advice], unit: str) -> str:
    """Put advice in words: settings before what only another machine or workload can change."""
    found = list(advice)
    if not found:
        return "nothing in the settings, as far as this run shows"
    first, *others = (f"{each.text} saves at most {_percent(each.saves)}" for each in found)
    rest = "".join(f"; {other.replace(' saves at most ', ', at most ')}" for other in others)
    missing = "" if found[0].setting else "nothing in the settings, as far as this run shows; "
    return f"{missing}{first} of {unit}{rest}"


def _selected(run: Run, bound: str) -> list[Advice]:
    """Choose what to say: the best settings, then the best of what no setting changes."""
    kind = "lower_tier" if bound.startswith("lower_tier:") else bound
    found = changes(run, kind)
    beyond = [advice for advice in found if advice.setting is None][:2]
    settings = [advice for advice in found if advice.setting is not None]
    return (
        settings[: _MOST_ADVICE - min(1, len(beyond))]
        + beyond[: max(1, _MOST_ADVICE - len(settings))]
    )


def _nothing_fits(run: Run) -> list[Advice]:
    """Advise on a run that rejected every request."""
    settings = [advice for advice in changes(run, "capacity") if advice.setting is not None]
    return [*settings, Advice("shorter requests", 1.0)]


def verdict(summary: Mapping[str, Any], settings: RunSettings) -> dict[str, Any]:
    """Return `bound_by`, `step_bound_by`, `why`, `relief` and `advice` of a run.

    `advice` lists what `relief` says: `change` in words, `setting` as `--set` takes it (None where
    no setting changes it), and `saves_at_most`, a share of the busy time.

    Args:
        summary: as `vsim.sim.results.metrics.summarise` returns it.
        settings: what the run was told.
    """
    run = Run(summary, busy_shares(summary), settings)
    if summary["requests"]["completed"] == 0:
        advice = _nothing_fits(run)
        words = [each.text for each in advice]
        return {
            "bound_by": "capacity",
            "step_bound_by": "capacity",
            "why": "no request fits, so all were rejected",
            "relief": " or ".join(words),
            "advice": _listed(advice),
        }
    idle = summary["time_share"].get("idle_no_requests", 0.0)
    unit = "the busy time" if idle >= LEAST_WORTH else "the time"
    bound = _bound(run)
    name, why = _name(run, bound), _why(run, bound, unit)
    advice = _selected(run, bound)
    relief = _relief(advice, unit)
    if keeps_up(summary):
        waited = summary["admission_wait_ms"]["mean"]
        why = (
            f"requests wait {format_duration(1e6 * waited)} for admission, {_percent(idle)} of the "
            f"time there is none to serve; latency is bound by {name}: {why}"
        )
        faster = _more_arrivals(run)
        relief = (f"for throughput {faster.text}; " if faster else "") + f"for latency: {relief}"
        advice = [*([faster] if faster else []), *advice]
    return {
        "bound_by": "arrivals" if keeps_up(summary) else name,
        "step_bound_by": name,
        "why": why,
        "relief": relief,
        "advice": _listed(advice),
    }


def _more_arrivals(run: Run) -> Advice | None:
    """Let requests come twice as fast: that saves at most half of the whole time."""
    scale = 2 * run.settings.scenario.workload.rate_scale
    if scale > MOST_RATE_SCALE or run.summary["last_arrival_s"] == 0:
        return None
    return Advice(f"rate_scale: {scale:g}", 0.5, f"workload.rate_scale={scale!r}")


def _listed(advice: Iterable[Advice]) -> list[dict[str, Any]]:
    return [
        {"change": each.text, "setting": each.setting, "saves_at_most": each.saves}
        for each in advice
    ]
