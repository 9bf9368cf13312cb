"""run_engine: simulate from the arrays of `build_state` to an EngineResult."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vsim.sim.engine.drivers import FastRun, Progress, check_policies, drive
from vsim.sim.engine.layout import CAUSES, LOWER_BOUND, OPERATIONS, REJECTED
from vsim.sim.engine.result import EngineResult, LinkCounters, TierCounters
from vsim.sim.engine.simulated import SimulatedBackend
from vsim.sim.engine.state import State
from vsim.traces.schema import schema_of

Mode = Literal["fast", "events", "backend"]


def run_engine(state: State, progress: Progress | None = None, mode: Mode = "fast") -> EngineResult:
    """Run a fresh state to its end.

    Args:
        state: from `build_state`; used up.
        progress: told (requests done, requests) now and then.
        mode: `fast`; `events`, the same with every step planned in full; `backend`, the oracle,
            step by step through the backend protocol. All three give the same result.
    """
    if mode == "backend":
        backend = SimulatedBackend(state)
        end = drive(state, backend, progress)
        events = 0
    else:
        run = FastRun(state, progress, fast_forward=mode == "fast")
        end = run.run()
        events = run.events
    for holder in state.holders:
        holder.check()
    control = state.control
    if control["overflowed"]:
        raise RuntimeError("the engine needed more page slots than setup reserved")
    if control["completed"] + control["rejected"] != len(state.requests):
        if control["failed"]:
            check_policies(state)
        raise RuntimeError(
            f"the engine stopped at {end} ns with {control['completed']} of "
            f"{len(state.requests)} requests done: {control['running']} running, "
            f"{control['waiting']} waiting, {control['loading']} loading"
        )
    return collect(state, end, events)


def collect(state: State, end: int, events: int) -> EngineResult:
    """Read a finished run's arrays."""
    control = state.control
    n, tiers = len(state.requests), len(state.tier_names)
    r = state.arrays["r"][:n]
    steps = state.arrays["step"][: control["steps"]]
    wait = state.arrays["wait"].reshape(-1, 2)
    counters = {
        name: int(control[name])
        for name in (
            "steps",
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
    counters["simpy_events"] = events
    counters["arithmetic_ns"] = int(control["time_arithmetic"])
    return EngineResult(
        arrival_ns=r["arrival"].copy(),
        admitted_ns=r["admitted"].copy(),
        first_token_ns=r["first"].copy(),
        last_token_ns=r["last"].copy(),
        hit_tokens=r["hit_tokens"].copy(),
        faults=r["faults"].copy(),
        fault_wait_ns=r["fault_wait"].copy(),
        preemptions=r["preemptions"].copy(),
        status=(r["state"] == REJECTED).astype(np.int64),
        hit_tokens_by_tier=state.arrays["hit"][: n * tiers].reshape(n, tiers),
        step_start_ns=steps["start"].copy(),
        step_end_ns=steps["end"].copy(),
        step_prefill_tokens=steps["prefill"].copy(),
        step_decode_tokens=steps["decode"].copy(),
        step_context_tokens=steps["context"].copy(),
        step_requests=steps["requests"].copy(),
        step_common=steps["common"].copy(),
        step_bound=np.minimum(steps["bound"], LOWER_BOUND),
        step_body_ns=steps["body"].copy(),
        itl_exceptions_ns=state.arrays["gap"][: control["exceptions"]].copy(),
        tiers=_tiers(state),
        links=_links(state),
        faults_by_cause={cause: int(wait[i, 0]) for i, cause in enumerate(CAUSES)},
        wait_ns_by_cause={cause: int(wait[i, 1]) for i, cause in enumerate(CAUSES)},
        time_ns=_times(state, end),
        token_ns_reserved=_wide(control, "reserved"),
        token_ns_used=_wide(control, "used"),
        counters=counters,
        simulated_ns=end,
        operations=_operations(state),
    )


def _wide(record: np.void, name: str) -> int:
    """Put a sum kept in two parts together."""
    return (int(record[f"{name}_high"]) << 40) + int(record[f"{name}_low"])


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
                capacity_pages=state.capacity_pages[i],
                page_bytes=state.page_bytes,
                peak_pages=int(t["peak"]),
                page_ns=_wide(t, "page_ns"),
                read_bytes=round(cost["read"] + moved[i].sum()),
                written_bytes=round(cost["written"] + moved[:, i].sum()),
                hit_tokens=int(t["hit_tokens"]),
                inserted_pages=int(t["inserted"]),
                evicted_pages=int(t["evicted"]),
                dropped_pages=int(t["dropped"]),
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


def _operations(state: State) -> pa.Table | None:
    """Make the log of operations a table of the schema `operations`, in order of their end."""
    control = state.control
    if not control["log_transfers"]:
        return None
    log = state.arrays["op"][: control["operations"]]
    offsets = np.append(log["pages_from"], control["operation_pages"])
    pages = pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32), pa.int32()),
        pa.array(state.arrays["op_pages"][: control["operation_pages"]]),
    )
    n = len(log)
    names = pa.array(state.tier_names)

    def tier(column: str) -> "pa.Array[Any]":
        codes = log[column].astype(np.int32)
        known = pa.array(codes, pa.int32(), mask=codes < 0)
        return pa.DictionaryArray.from_arrays(known, names)

    schema = schema_of("operations")
    columns = {
        "id": pa.array(log["serial"]),
        "step": pa.array(log["step"]),
        "kind": pa.DictionaryArray.from_arrays(
            pa.array(log["kind"].astype(np.int32), pa.int32()), pa.array(OPERATIONS)
        ),
        "source_tier": tier("source"),
        "target_tier": tier("target"),
        "pages": pages,
        "bytes": pa.array(log["bytes"]),
        "stream": pa.array(np.zeros(n, np.int64)),
        "depends_on": pa.array([[]] * n, pa.list_(pa.int64())),
        "submit_ns": pa.array(log["submit"]),
        "start_ns": pa.array(log["start"]),
        "end_ns": pa.array(log["end"]),
        "predicted": pa.array(np.ones(n, np.bool_)),
    }
    return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)
