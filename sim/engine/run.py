"""run_engine: simulate from the arrays of `build_state` to an EngineResult."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine.drivers import FastRun, Progress, drive, refuse_failed
from vsim.sim.engine.exact_sums import joined
from vsim.sim.engine.layout import CAUSES, REJECTED
from vsim.sim.engine.result import EngineResult, GroupCounters, LinkCounters, TierCounters
from vsim.sim.engine.run_log import RunLog
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State

Mode = Literal["fast", "events", "backend"]


def run_engine(
    state: State,
    progress: Progress | None = None,
    mode: Mode = "fast",
    log: RunLog | None = None,
) -> EngineResult:
    """Run a fresh state to its end.

    Args:
        state: from `build_state`; used up.
        progress: told (requests done, requests) now and then.
        mode: `fast`; `events`, the same with every step planned in full; `backend`, the oracle,
            step by step through the backend protocol. All three give the same result.
        log: takes what is logged; when left out, all of it is kept in memory.
    """
    if log is not None:
        state.log = log
    if mode == "backend":
        backend = SimulatedBackend(state)
        end = drive(state, backend, progress)
        events = 0
    else:
        run = FastRun(state, progress, fast_forward=mode == "fast")
        end = run.run()
        events = run.events
    return finished(state, end, events)


def finished(state: State, end: int, events: int) -> EngineResult:
    """Check that a run is over, and collect what it recorded.

    Args:
        state: of the run.
        end: when the last thing happened, ns.
        events: SimPy's.
    """
    for holder in state.holders:
        holder.check()
    control = state.control
    if control["overflowed"]:
        raise RuntimeError("the engine needed more page slots than setup reserved")
    if control["completed"] + control["rejected"] != len(state.requests):
        if control["failed"]:
            refuse_failed(state)
        raise RuntimeError(
            f"the engine stopped at {end} ns with {control['completed']} of "
            f"{len(state.requests)} requests done: {control['running']} running, "
            f"{control['waiting']} waiting, {control['loading']} loading"
        )
    return collect(state, end, events)


def collect(state: State, end: int, events: int) -> EngineResult:
    """Read a finished run's arrays. What is there a request is not copied."""
    control = state.control
    n, tiers = len(state.requests), len(state.tier_names)
    r = state.arrays["r"][:n]
    state.log.take(state.arrays, state.tier_names, everything=True)
    causes = len(CAUSES)
    wait = state.arrays["wait"]
    faults, waited_low = wait[: 2 * causes].reshape(-1, 2).T.tolist()
    waited = [joined(*parts) for parts in zip(wait[2 * causes :], waited_low, strict=True)]
    hits = np.broadcast_to(np.int32(0), (n, tiers))  # no request can hit anything
    if control["caching"]:
        hits = state.arrays["hit"][: n * tiers].reshape(n, tiers)
    counters = {"steps": int(control["step_no"])}
    counters |= {
        name: int(control[name])
        for name in (
            "fast_steps",
            "flow_events",
            "stalls",
            "unstuck",
            "copy_on_write",
            "promoted",
            "prefetched",
            "prefetch_used",
            "swapped",
            "recomputed",
            "recomputed_tokens",
            "swap_refused",
            "through_skipped",
            "peak_running",
        )
    }
    if any(each.group.kind == "state" for each in state.pages.groups):
        counters |= {name: int(control[name]) for name in ("states_kept", "states_skipped")}
    counters["simpy_events"] = events
    counters["arithmetic_ns"] = int(control["time_arithmetic"])
    first_ns = np.where(r["first"] < 0, -1, r["first"] + int(state.arrays["x"]["first_ns"][0]))
    return EngineResult(
        arrival_ns=r["arrival"],
        admitted_ns=r["admitted"],
        first_token_ns=_seen(state, first_ns),
        last_token_ns=_seen(state, np.maximum(r["last"], first_ns)),
        hit_tokens=r["hit_tokens"],
        faults=r["faults"],
        fault_wait_ns=r["fault_wait"],
        preemptions=r["preemptions"],
        status=(r["state"] == REJECTED).astype(np.int8),
        hit_tokens_by_tier=hits,
        steps=state.log.totals,
        gaps=state.log.gaps,
        tiers=_tiers(state),
        links=_links(state),
        faults_by_cause=dict(zip(CAUSES, faults, strict=True)),
        wait_ns_by_cause=dict(zip(CAUSES, waited, strict=True)),
        time_ns=_times(state, end),
        token_ns_reserved=_wide(control, "reserved"),
        token_ns_used=_wide(control, "used"),
        counters=counters,
        simulated_ns=end,
        step_log=state.log.steps,
        operations=state.log.operations if control["log_transfers"] else None,
        groups=_groups(state),
        keys=state.keys,
    )


def _seen(state: State, tokens_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: when clients saw tokens that came out at these times; -1 where none did."""
    x = state.arrays["x"][0]
    if not x["client_ns"] and not x["prompt_token_ns"]:
        return tokens_ns
    later = x["client_ns"] + x["prompt_token_ns"] * state.requests.prompt_tokens
    return np.where(tokens_ns < 0, tokens_ns, tokens_ns + later.astype(np.int64))


def _wide(record: np.void, name: str) -> int:
    """Put a sum kept in two parts together."""
    return joined(record[f"{name}_high"], record[f"{name}_low"])


def _times(state: State, end: int) -> dict[str, int]:
    """Where the time went. What no step took is idle time."""
    control = state.control
    times = {
        "launch": int(control["time_launch"]),
        "communication": int(control["time_communication"]),
        "vmm": int(control["time_vmm"]),
        "compute": int(control["time_compute"]),
        "hbm_weights": int(control["time_weights"]),
        "hbm_kv": int(control["time_kv"]),
        "small_kernels": int(control["time_small"]),
    }
    for name, tier in zip(state.tier_names[1:], state.arrays["t"][1:], strict=True):
        times[f"lower_tier:{name}"] = int(tier["bound_ns"])
    times["idle_transfers"] = int(control["time_idle_transfers"])
    times["idle_capacity"] = int(control["time_idle_capacity"])
    times["idle_no_requests"] = 0
    times["idle_no_requests"] = end - sum(times.values())
    return times


def _tiers(state: State) -> tuple[TierCounters, ...]:
    count = len(state.tier_names)
    moved = state.arrays["pr"]["bytes"].reshape(count, count)
    found = []
    for i, name in enumerate(state.tier_names):
        t, cost = state.arrays["t"][i], state.arrays["tc"][i]
        found.append(
            TierCounters(
                name=name,
                capacity_pages=state.capacity_units[i],
                page_bytes=state.pages.unit(i),
                peak_pages=int(t["peak"]),
                page_ns=_wide(t, "page_ns"),
                read_bytes=round(cost["read"] + moved[i].sum()),
                written_bytes=round(cost["written"] + moved[:, i].sum()),
                hit_tokens=int(t["hit_tokens"]),
                inserted_pages=int(t["inserted"]),
                evicted_pages=int(t["evicted"]),
                dropped_pages=int(t["dropped"]),
                all_page_bytes=_all_page_bytes(state, i),
                takes_pages=not t["worthless"],
            )
        )
    return tuple(found)


def _all_page_bytes(state: State, tier: int) -> int | None:
    """Bytes that a page of every group takes in a tier; None where there is one full group."""
    if not state.pages.grouped:
        return None
    return state.pages.page_bytes if tier == 0 else int(state.control["page_bytes"])


def _groups(state: State) -> tuple[GroupCounters, ...]:
    hbm = state.arrays["t"][0]
    found = []
    for kv, each in zip(state.arrays["kv"], state.pages.groups, strict=True):
        peak, end = int(kv["peak_pages"]), int(kv["pages"])
        if not state.pages.grouped:
            peak, end = int(hbm["peak"]), int(hbm["capacity"] - hbm["free"])
        found.append(
            GroupCounters(
                name=each.group.name,
                kind=each.group.kind,
                layers=each.group.layers,
                page_bytes=each.hbm_bytes,
                padding_bytes=each.padding_bytes,
                peak_pages=peak,
                end_pages=end,
                requests_peak_pages=int(kv["requests_peak"]),
                decoding_peak_pages=int(kv["decoding_peak"]),
            )
        )
    return tuple(found)


def _links(state: State) -> tuple[LinkCounters, ...]:
    net = state.topology
    carried = np.zeros((len(net.links), 2))
    for path, link, forward in net.crossed:
        carried[link, 0 if forward else 1] += state.arrays["pr"]["bytes"][path]
    for tier, link, forward in net.attended:
        carried[link, 0 if forward else 1] += state.arrays["tc"]["read"][tier]
    used = {link for _, link, _ in net.crossed} | {link for _, link, _ in net.attended}
    return tuple(
        LinkCounters(
            name=link.name,
            forward_bytes=round(carried[i, 0]),
            reverse_bytes=round(carried[i, 1]),
            forward_busy_ns=round(carried[i, 0] / link.bytes_per_s * 1e9),
            reverse_busy_ns=round(carried[i, 1] / link.reverse_bytes_per_s * 1e9),
        )
        for i, link in enumerate(net.links)
        if i in used
    )
