"""EngineResult: all that a run recorded, as arrays, before any metric is taken."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TierCounters:
    """What one tier did.

    Args:
        name: its name.
        capacity_pages: pages it can hold.
        page_bytes: bytes of a page.
        peak_pages: most pages held at once.
        page_ns: integral of pages held over time.
        read_bytes: read by steps and transfers.
        written_bytes: written by steps and transfers.
        hit_tokens: prompt tokens found here.
        inserted_pages: pages that became findable here.
        evicted_pages: pages its policy evicted.
        dropped_pages: evicted pages of which no copy was kept anywhere.
    """

    name: str
    capacity_pages: int
    page_bytes: int
    peak_pages: int
    page_ns: int
    read_bytes: int
    written_bytes: int
    hit_tokens: int
    inserted_pages: int
    evicted_pages: int
    dropped_pages: int


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What one link carried; its busy time is its bytes over its bandwidth, in each direction."""

    name: str
    forward_bytes: int
    reverse_bytes: int
    forward_busy_ns: int
    reverse_busy_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class EngineResult:
    """What a run recorded, in trace order. Times are int64 ns, -1 where a thing never happened.

    Args:
        arrival_ns: when each request arrived.
        admitted_ns: when it first joined the batch.
        first_token_ns: when its first output token came.
        last_token_ns: when its last output token came.
        hit_tokens: prompt tokens that it found cached, over all admissions.
        faults: pages that it had to wait for, and waits for a free page.
        fault_wait_ns: how long it waited for them.
        preemptions: how often it gave way.
        status: 0 completed, 1 rejected since it could never fit.
        hit_tokens_by_tier: int64[n, tiers].
        step_start_ns: when each step started.
        step_end_ns: when it ended.
        step_prefill_tokens: prompt tokens computed.
        step_decode_tokens: output tokens computed.
        step_context_tokens: context read, each request's once.
        step_requests: requests in the batch.
        step_common: output tokens whose gap to the token before is the time since the last step.
        step_bound: 0 compute, 1 HBM, 2 a lower tier.
        step_body_ns: the step without launch, communication and mapping.
        itl_exceptions_ns: the gaps of all other output tokens.
        tiers: a record a tier.
        links: a record a link of the machine.
        faults_by_cause: promotion, in_flight, swap_in, write_back, capacity.
        wait_ns_by_cause: the same keys.
        time_ns: where the simulated time went; the values add up to it.
        token_ns_reserved: integral of the KV tokens that running requests' pages could hold.
        token_ns_used: integral of the KV tokens that they did hold.
        counters: further counts by name, and `arithmetic_ns`, the time that all FLOPs took.
        simulated_ns: time of the last event.
        operations: the log of operations, or None.
    """

    arrival_ns: Int64s
    admitted_ns: Int64s
    first_token_ns: Int64s
    last_token_ns: Int64s
    hit_tokens: Int64s
    faults: Int64s
    fault_wait_ns: Int64s
    preemptions: Int64s
    status: Int64s
    hit_tokens_by_tier: Int64s
    step_start_ns: Int64s
    step_end_ns: Int64s
    step_prefill_tokens: Int64s
    step_decode_tokens: Int64s
    step_context_tokens: Int64s
    step_requests: Int64s
    step_common: Int64s
    step_bound: Int64s
    step_body_ns: Int64s
    itl_exceptions_ns: Int64s
    tiers: tuple[TierCounters, ...]
    links: tuple[LinkCounters, ...]
    faults_by_cause: Mapping[str, int]
    wait_ns_by_cause: Mapping[str, int]
    time_ns: Mapping[str, int]
    token_ns_reserved: int
    token_ns_used: int
    counters: Mapping[str, int]
    simulated_ns: int
    operations: pa.Table | None
