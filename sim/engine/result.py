"""EngineResult: all that a run recorded, before any metric is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.sim.engine.exact_sums import exact_sum
from vsim.sim.engine.gaps import GapCounter, Gaps
from vsim.sim.engine.page_keys import PageKeys

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TierCounters:
    """What one tier did.

    Where KV is in several groups, whose pages differ in size, room is counted in units and not in
    pages, see `KvPages`.

    Args:
        name: its name.
        capacity_pages: pages it can hold; units.
        page_bytes: bytes of a page; of a unit.
        peak_pages: most pages held at once; units.
        page_ns: integral of pages held over time; of units.
        read_bytes: read by steps and transfers.
        written_bytes: written by steps and transfers.
        hit_tokens: prompt tokens found here.
        inserted_pages: pages that became findable here.
        evicted_pages: pages its policy evicted.
        dropped_pages: evicted pages of which no copy was kept anywhere.
        all_page_bytes: bytes of a page of every group that keeps tokens; None where a page is that.
        takes_pages: whether any goes here; none does that is computed sooner than it comes back.
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
    all_page_bytes: int | None = None
    takes_pages: bool = True


@dataclass(frozen=True, slots=True)
class GroupCounters:
    """What HBM held of one KV group.

    Args:
        name: its name.
        kind: full, window, chunk, state or fixed.
        layers: how many layers it stands for.
        page_bytes: bytes of a page over all GPUs; of what is kept whole, of one request.
        padding_bytes: of those, what stands for layers that there are not.
        peak_pages: most pages that lay in HBM at once, cached ones included.
        end_pages: pages that lay there when the run ended.
        requests_peak_pages: most pages that running requests held at once; one that several share
            counts for each.
        decoding_peak_pages: the same over steps that computed no prompt.
    """

    name: str
    kind: str
    layers: int
    page_bytes: int
    padding_bytes: int
    peak_pages: int
    end_pages: int
    requests_peak_pages: int
    decoding_peak_pages: int


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What one link carried; its busy time is its bytes over its bandwidth, in each direction."""

    name: str
    forward_bytes: int
    reverse_bytes: int
    forward_busy_ns: int
    reverse_busy_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class StepLog:
    """Steps in order, a column each.

    Args:
        start_ns: when each step started.
        end_ns: when it ended.
        prefill_tokens: prompt tokens computed.
        decode_tokens: output tokens computed.
        context_tokens: context read, each request's once.
        requests: requests in the batch.
        common: output tokens whose gap to the token before is the time since the last step.
        bound: what the largest part of the body went to: 0 compute, 1 HBM, 2 a lower tier.
        body_ns: the step without launch, communication and mapping.
        exceptions_ns: the gaps of all other output tokens; only of a whole run.
    """

    start_ns: Int64s
    end_ns: Int64s
    prefill_tokens: Int64s
    decode_tokens: Int64s
    context_tokens: Int64s
    requests: Int64s
    common: Int64s
    bound: Int64s
    body_ns: Int64s
    exceptions_ns: Int64s = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.start_ns)


def joined_steps(parts: Sequence[StepLog], exceptions_ns: Sequence[Int64s]) -> StepLog:
    """Put the parts of a run's log together."""
    none = np.empty(0, np.int64)
    columns = {
        f.name: np.concatenate([none, *(getattr(part, f.name) for part in parts)])
        for f in fields(StepLog)
        if f.name != "exceptions_ns"
    }
    return StepLog(**columns, exceptions_ns=np.concatenate([none, *exceptions_ns]))


def gaps_of(log: StepLog) -> Gaps:
    """Return the gaps between output tokens of a whole run.

    A request that decodes in two successive steps waits from one step's end to the next one's;
    `common` counts those tokens. All other gaps are listed one by one.
    """
    counter = GapCounter()
    counter.add_steps(log.end_ns, log.common)
    counter.add(log.exceptions_ns, np.ones(log.exceptions_ns.size, np.int64))
    return counter.gaps()


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over steps.

    Args:
        steps: how many there are.
        requests: requests in their batches.
        prefill_tokens: prompt tokens computed.
        decode_tokens: output tokens computed.
        compute_bound: steps whose body went to arithmetic for the largest part.
        hbm_bound: steps whose body went to HBM.
        lower_bound: steps whose body went to waiting for a lower tier.
    """

    steps: int = 0
    requests: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    compute_bound: int = 0
    hbm_bound: int = 0
    lower_bound: int = 0

    @classmethod
    def of(cls, log: StepLog) -> "StepTotals":
        """Add the steps of a log up."""
        bounds = np.bincount(log.bound, minlength=3).tolist()
        sums = (log.requests, log.prefill_tokens, log.decode_tokens)
        return cls(len(log), *(exact_sum(column) for column in sums), *bounds)

    def __add__(self, other: "StepTotals") -> "StepTotals":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return StepTotals(*(one + more for one, more in pairs))


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
        hit_tokens_by_tier: integers[n, tiers].
        steps: sums over all steps.
        gaps: gaps between successive output tokens of a request.
        tiers: a record a tier.
        links: a record a link of the machine.
        faults_by_cause: promotion, in_flight, swap_in, write_back, capacity.
        wait_ns_by_cause: the same keys.
        time_ns: where the simulated time went; the values add up to it.
        token_ns_reserved: integral of the KV tokens that running requests' pages could hold.
        token_ns_used: integral of the KV tokens that they did hold.
        counters: further counts by name, and `arithmetic_ns`, the time that all FLOPs took.
        simulated_ns: time of the last event.
        step_log: every step, or None if they were not kept.
        operations: the log of operations, or None.
        groups: a record a KV group; none where they were not counted.
        keys: of the prompts' pages, as long as results are made; None for several replicas.
    """

    arrival_ns: Int64s
    admitted_ns: Int64s
    first_token_ns: Int64s
    last_token_ns: Int64s
    hit_tokens: NDArray[np.integer]
    faults: NDArray[np.integer]
    fault_wait_ns: Int64s
    preemptions: NDArray[np.integer]
    status: NDArray[np.integer]
    hit_tokens_by_tier: NDArray[np.integer]
    steps: StepTotals
    gaps: Gaps
    tiers: tuple[TierCounters, ...]
    links: tuple[LinkCounters, ...]
    faults_by_cause: Mapping[str, int]
    wait_ns_by_cause: Mapping[str, int]
    time_ns: Mapping[str, int]
    token_ns_reserved: int
    token_ns_used: int
    counters: Mapping[str, int]
    simulated_ns: int
    step_log: StepLog | None
    operations: pa.Table | None
    groups: tuple[GroupCounters, ...] = ()
    keys: PageKeys | None = None
