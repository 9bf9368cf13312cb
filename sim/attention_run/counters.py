"""`engine_result`: what a run of recorded attention did, in the engine's own record.

So that its metrics, tables and verdict are those of every other run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vsim.sim.attention_run.batch import Batch
from vsim.sim.attention_run.occupancy import Occupancy
from vsim.sim.attention_run.prefill import Chunks
from vsim.sim.attention_run.work import Timed, Work
from vsim.sim.engine.exact_sums import exact_dot, exact_sum
from vsim.sim.engine.layout import CAUSES
from vsim.sim.engine.result import (
    EngineResult,
    LinkCounters,
    StepLog,
    StepTotals,
    TierCounters,
    gaps_of,
)
from vsim.sim.engine.topology import Topology

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """All that happened: P prefill steps, then T decode steps, each array over both.

    Attributes:
        batch: the requests.
        parts: what the prefill steps computed.
        work: what each step did.
        times: how long it took.
        weight_bytes: float64[P + T], weights that it read.
        held: pages in each tier.
        tier_names: HBM, then the slower tier.
        capacity_pages: pages that each can hold.
        copied_bytes: KV that came to HBM by copies, promoted or kept after it was streamed in.
        arrived: pages that came to each tier after the prompts.
        evicted: pages that left HBM before the end; one whose read the slower tier served in its
            stead counts, since it is out of HBM for that step.
    """

    batch: Batch
    parts: Chunks
    work: Work
    times: Timed
    weight_bytes: npt.NDArray[np.float64]
    held: Occupancy
    tier_names: tuple[str, str]
    capacity_pages: tuple[int, int]
    copied_bytes: int
    arrived: tuple[int, int]
    evicted: int

    @property
    def end_ns(self) -> Int64s:
        """int64[P + T]: when each step ends; the first begins at 0 and none waits."""
        return np.cumsum(self.times.step_ns)


def engine_result(
    history: History, net: Topology, kv_write_bytes: float, operations: pa.Table | None
) -> EngineResult:
    """Write the record.

    Args:
        history: what happened.
        net: the tiers' links.
        kv_write_bytes: written to HBM for each token computed.
        operations: the log, or None.
    """
    batch, parts, times = history.batch, history.parts, history.times
    n, prefill = len(batch), parts.steps
    end = history.end_ns
    first_token = _at_last_part(parts, end[:prefill], n)
    admitted = _at_first_part(parts, (end - times.step_ns)[:prefill], n)
    zeros = np.zeros(n, np.int64)
    decode_tokens = np.where(np.arange(len(end)) < prefill, 0, n)
    common, exceptions = _gaps(first_token, end, prefill)
    log = StepLog(
        start_ns=end - times.step_ns,
        end_ns=end,
        prefill_tokens=history.work.tokens - decode_tokens,
        decode_tokens=decode_tokens,
        context_tokens=_context_tokens(history),
        requests=_running(parts, n, batch.steps),
        common=common,
        bound=times.bound,
        body_ns=times.body_ns,
        exceptions_ns=exceptions,
    )
    return EngineResult(
        arrival_ns=zeros,
        admitted_ns=admitted,
        first_token_ns=first_token,
        last_token_ns=np.full(n, end[-1]),
        hit_tokens=zeros,
        faults=zeros,
        fault_wait_ns=zeros,
        preemptions=zeros,
        status=zeros,
        hit_tokens_by_tier=np.zeros((n, 2), np.int64),
        steps=StepTotals.of(log),
        gaps=gaps_of(log),
        tiers=_tiers(history, kv_write_bytes),
        links=_links(history.work, net),
        faults_by_cause=dict.fromkeys(CAUSES, 0),
        wait_ns_by_cause=dict.fromkeys(CAUSES, 0),
        time_ns=_times(times, history.tier_names[1]),
        token_ns_reserved=exact_dot(history.held.reserved_tokens, times.step_ns),
        token_ns_used=exact_dot(history.held.used_tokens, times.step_ns),
        counters={
            "steps": len(end),
            "promoted": exact_sum(history.work.promoted_bytes) // batch.reads.page_bytes,
            "peak_running": n,
            "arithmetic_ns": exact_sum(times.arithmetic_ns),
        },
        simulated_ns=int(end[-1]),
        step_log=log,
        operations=operations,
    )


def _at_last_part(parts: Chunks, end_ns: Int64s, n: int) -> Int64s:
    found = np.zeros(n, np.int64)
    found[parts.request] = end_ns[parts.step]  # parts are in order, so the last one stays
    return found


def _at_first_part(parts: Chunks, start_ns: Int64s, n: int) -> Int64s:
    found = np.zeros(n, np.int64)
    found[parts.request[::-1]] = start_ns[parts.step[::-1]]
    return found


def _gaps(first_token: Int64s, end: Int64s, prefill: int) -> tuple[Int64s, Int64s]:
    """Tokens whose gap is the time since the last step; and the other gaps, one by one.

    The others are of requests that waited for the rest of the batch's prompts.
    """
    n = len(first_token)
    waited = first_token < end[prefill - 1]
    common = np.where(np.arange(len(end)) <= prefill, 0, n)
    common[prefill] = n - int(waited.sum())
    return common, end[prefill] - first_token[waited]


def _context_tokens(history: History) -> Int64s:
    """KV tokens that each step reads: of decode steps the mean over layers and heads."""
    reads, parts = history.batch.reads, history.parts
    sparse = reads.reads_per_step * reads.page_tokens // history.batch.columns
    return np.concatenate([parts.per_step(parts.end), sparse])


def _running(parts: Chunks, n: int, steps: int) -> Int64s:
    """Requests whose prompt was begun."""
    begun = np.zeros(parts.steps, np.int64)
    np.maximum.at(begun, parts.step, parts.request + 1)
    return np.concatenate([np.maximum.accumulate(begun), np.full(steps, n)])


def _times(times: Timed, slow: str) -> Mapping[str, int]:
    """Where the time went; no time passes between steps."""
    kv, lower = times.kv_ns, times.lower == 1
    return {
        "launch": exact_sum(times.launch_ns),
        "communication": exact_sum(times.communication_ns),
        "vmm": 0,
        "compute": exact_sum(times.compute_ns),
        "hbm_weights": exact_sum(times.weights_ns),
        "hbm_kv": exact_sum(kv[~lower]),
        "small_kernels": exact_sum(times.small_ns),
        f"lower_tier:{slow}": exact_sum(kv[lower]),
        "idle_transfers": 0,
        "idle_capacity": 0,
        "idle_no_requests": 0,
    }


def _tiers(history: History, kv_write_bytes: float) -> tuple[TierCounters, TierCounters]:
    work, held = history.work, history.held
    up, down = exact_sum(work.up_bytes), exact_sum(work.down_bytes)
    written = round(float(work.tokens.sum()) * kv_write_bytes)
    weights = round(float(history.weight_bytes.sum()))
    read = (weights + exact_sum(work.hbm_kv_bytes) + down, up)
    wrote = (written + history.copied_bytes, down)
    found = [
        TierCounters(
            name=history.tier_names[i],
            capacity_pages=history.capacity_pages[i],
            page_bytes=history.batch.reads.page_bytes,
            peak_pages=int(pages.max()),
            page_ns=exact_dot(pages, history.times.step_ns),
            read_bytes=read[i],
            written_bytes=wrote[i],
            hit_tokens=0,
            inserted_pages=history.arrived[i],
            evicted_pages=(history.evicted, 0)[i],
            dropped_pages=0,
        )
        for i, pages in enumerate((held.hbm_pages, held.slow_pages))
    ]
    return found[0], found[1]


def _links(work: Work, net: Topology) -> tuple[LinkCounters, ...]:
    """What links carried: pages read up, in place or promoted, and copies down."""
    carried = [[0, 0] for _ in net.links]
    used: set[int] = set()
    for tier, link, forward in net.attended:
        if tier == 1:
            carried[link][0 if forward else 1] += exact_sum(work.up_bytes)
            used.add(link)
    for path, link, forward in net.crossed:
        if path == 1:  # from HBM down
            carried[link][0 if forward else 1] += exact_sum(work.down_bytes)
            used.add(link)
    return tuple(
        LinkCounters(
            name=link.name,
            forward_bytes=carried[i][0],
            reverse_bytes=carried[i][1],
            forward_busy_ns=round(carried[i][0] / link.bytes_per_s * 1e9),
            reverse_busy_ns=round(carried[i][1] / link.reverse_bytes_per_s * 1e9),
        )
        for i, link in enumerate(net.links)
        if i in used
    )
