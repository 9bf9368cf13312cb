"""Verdict: what a run is bound by, in words, and what would relieve it.

A run that keeps up with its arrivals is bound by them, whatever its steps wait for: a faster
machine would shorten the latencies and leave the throughput. Otherwise the largest part of the
time names the bound. HBM that is read mostly for weights while requests wait for room is a lack of
capacity: a larger batch would share those reads.
"""

from collections.abc import Mapping
from typing import Any

from vsim.traces.units import format_bytes, format_duration

# A server keeps up if it is without requests for so much of the time, whatever waits there are
# between bursts; or if it neither holds requests back for much of their time nor needs much of
# its own for what is left when the last one has arrived.
KEEPS_UP_IDLE_SHARE = 0.1
KEEPS_UP_WAIT_SHARE = 0.2
KEEPS_UP_BACKLOG_SHARE = 0.2
_PART_NAMES = {
    "launch": "launching steps",
    "communication": "traffic between GPUs",
    "compute": "arithmetic",
    "hbm_weights": "reading weights from HBM",
    "hbm_kv": "reading KV from HBM",
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


def _busiest_way(summary: Mapping[str, Any]) -> tuple[str, float]:
    """Return the link, or the memory under HBM, that is busy longest one way, and that share."""
    ways = [
        (max(link["forward_busy_share"], link["reverse_busy_share"]), f"link {link['name']}")
        for link in summary["links"]
    ]
    for tier in summary["tiers"][1:]:
        ways.append((tier.get("read_busy_share", 0.0), f"read bandwidth of {tier['name']}"))
        ways.append((tier.get("write_busy_share", 0.0), f"write bandwidth of {tier['name']}"))
    busy, name = max(ways, default=(0.0, "no link"))
    return name, busy


def _groups(share: Mapping[str, float]) -> dict[str, float]:
    """Join the parts of the time that one resource is to blame for."""
    groups = {
        "compute": share.get("compute", 0.0),
        "hbm_bandwidth": share.get("hbm_weights", 0.0) + share.get("hbm_kv", 0.0),
        "capacity": share.get("idle_capacity", 0.0),
        "transfers": share.get("idle_transfers", 0.0) + share.get("vmm", 0.0),
        "communication": share.get("communication", 0.0),
        "launch": share.get("launch", 0.0),
    }
    lower = {part: value for part, value in share.items() if part.startswith("lower_tier:")}
    return groups | lower


def _short_of_capacity(summary: Mapping[str, Any]) -> bool:
    """Tell whether room for KV, not the batch limit, kept the batch small."""
    held_back = summary["preemptions"] > 0 or summary["wait_s_by_cause"].get("capacity", 0) > 0
    limit = summary["engine"]["max_running_requests"]
    return bool(held_back and summary["concurrent_requests"]["peak"] < limit)


def _keeps_up(summary: Mapping[str, Any]) -> bool:
    if summary["time_share"].get("idle_no_requests", 0.0) >= KEEPS_UP_IDLE_SHARE:
        return True
    waited, lasted = summary["admission_wait_ms"]["mean"], summary["e2e_ms"]["mean"]
    simulated_s = summary["simulated_s"]
    backlog_s = simulated_s - summary["last_arrival_s"]
    return bool(
        waited < KEEPS_UP_WAIT_SHARE * lasted and backlog_s < KEEPS_UP_BACKLOG_SHARE * simulated_s
    )


def _capacity(summary: Mapping[str, Any]) -> tuple[str, str]:
    hbm = summary["tiers"][0]
    batch = summary["concurrent_requests"]["mean"]
    weights = summary["time_share"]["hbm_weights"]
    idle = summary["time_share"].get("idle_capacity", 0.0)
    stopped = f"{_percent(idle)} of the time nothing runs for want of room, " if idle else ""
    return (
        f"HBM has {format_bytes(hbm['capacity_bytes'])} for KV, room for {batch:.0f} requests at a "
        f"time ({summary['preemptions']} preemptions); {stopped}{_percent(weights)} of the time "
        "goes to reading weights that a larger batch would share",
        f"more HBM for KV (kv: fp8 halves it): room for twice as many saves at most "
        f"{_percent(idle + weights / 2)} of the time",
    )


def _hbm(summary: Mapping[str, Any]) -> tuple[str, str]:
    share = summary["time_share"]
    weights, kv = share["hbm_weights"], share["hbm_kv"]
    relief = f"twice the HBM bandwidth saves at most {_percent((weights + kv) / 2)} of the time"
    if kv >= weights:
        relief += "; kv: fp8 halves the KV read"
    elif "placement" in summary:
        relief += "; more traces in workload.attention share each read of the weights"
    elif summary["concurrent_requests"]["peak"] >= summary["engine"]["max_running_requests"]:
        relief += "; a larger max_running_requests shares each read of the weights among more"
    else:
        relief += "; weights: fp8 halves the weights read"
    return (
        f"{_percent(weights)} of the time goes to reading weights and {_percent(kv)} to reading "
        f"KV, with {summary['step']['mean_requests']:.0f} requests in a mean step",
        relief,
    )


def _compute(summary: Mapping[str, Any]) -> tuple[str, str]:
    compute = summary["time_share"]["compute"]
    hits = summary["prefix_hit_ratio"]
    relief = f"twice the arithmetic rate saves at most {_percent(compute / 2)} of the time"
    if summary["engine"]["prefix_caching"]:
        relief += f"; so would more prefix hits than {_percent(hits)}: a larger lowest tier"
    return (
        f"{_percent(compute)} of the time is arithmetic, "
        f"{summary['step']['mean_prefill_tokens']:.0f} prompt tokens in a mean step",
        relief,
    )


def _transfers(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    way, busy = _busiest_way(summary)
    idle = summary["time_share"].get("idle_transfers", 0.0)
    vmm = summary["time_share"].get("vmm", 0.0)
    found = f"{_percent(idle)} of the time nothing runs because pages are on their way"
    if vmm > 0:
        found += f", {_percent(vmm)} goes to VMM calls"
    return (
        way,
        f"{found}; the {way} is in use {_percent(busy)} of the time",
        f"twice of it saves at most {_percent(idle / 2)} of the time; "
        "or more room above, or prefetch_requests",
    )


def _lower_tier(summary: Mapping[str, Any], part: str) -> tuple[str, str, str]:
    tier, share = part.partition(":")[2], summary["time_share"][part]
    way, busy = _busiest_way(summary)
    return (
        f"bandwidth to {tier}",
        f"{_percent(share)} of the time steps wait for pages attended in place in {tier}; "
        f"the {way} is in use {_percent(busy)} of the time",
        f"twice of it saves at most {_percent(share / 2)} of the time; or fewer pages there: "
        + _fewer_pages_below(summary),
    )


def _fewer_pages_below(summary: Mapping[str, Any]) -> str:
    if "placement" in summary:
        gap = summary["placement"]["gap"]
        saved = _percent(gap / (1 + gap))
        return f"more capacity in HBM, or another placement (at most {saved} of the decode time)"
    balanced = summary["engine"]["placement"] == "balanced"
    return ("" if balanced else "placement: balanced, ") + (
        "access: promote, or fewer requests at a time"
    )


def _fixed(summary: Mapping[str, Any], part: str) -> tuple[str, str]:
    share = summary["time_share"][part]
    relief = (
        "a larger batch spreads the launches over more tokens"
        if part == "launch"
        else "a faster link between the GPUs, or fewer of them"
    )
    return f"{_percent(share)} of the time is {part_name(part)}", relief


def _resource(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name the resource that most of the busy time waits for, with its figures and relief."""
    share = summary["time_share"]
    groups = _groups(share)
    top = max(groups, key=lambda name: groups[name])
    if top == "compute":
        return ("compute", *_compute(summary))
    if top == "transfers":
        return _transfers(summary)
    if top.startswith("lower_tier:"):
        return _lower_tier(summary, top)
    if top in ("communication", "launch"):
        return (part_name(top), *_fixed(summary, top))
    if top == "capacity":
        return ("capacity", *_capacity(summary))
    if _short_of_capacity(summary) and share["hbm_weights"] > share["hbm_kv"]:
        return ("capacity", *_capacity(summary))
    return ("HBM bandwidth", *_hbm(summary))


def verdict(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return `bound_by`, `step_bound_by`, `why` and `relief` of a run.

    Args:
        summary: as `vsim.sim.results.metrics.summarise` returns it.
    """
    resource, why, relief = _resource(summary)
    if summary["requests"]["completed"] == 0:
        return {
            "bound_by": "capacity",
            "step_bound_by": resource,
            "why": "no request fits, so all were rejected",
            "relief": "more HBM for KV: a GPU more, smaller precision, or shorter requests",
        }
    if not _keeps_up(summary):
        return {"bound_by": resource, "step_bound_by": resource, "why": why, "relief": relief}
    waited = summary["admission_wait_ms"]["mean"]
    idle = summary["time_share"].get("idle_no_requests", 0.0)
    return {
        "bound_by": "arrivals",
        "step_bound_by": resource,
        "why": (
            f"requests wait {format_duration(1e6 * waited)} for admission, {_percent(idle)} of the "
            f"time there is none to serve; latency is bound by {resource}: {why}"
        ),
        "relief": f"for throughput a higher rate_scale; for latency: {relief}",
    }
