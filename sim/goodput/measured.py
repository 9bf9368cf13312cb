"""Measured: the figures of one run that a search goes by, and that are kept between searches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vsim.sim.engine.exact_sums import exact_sum
from vsim.sim.engine.result import EngineResult
from vsim.sim.goodput.stores import Stores, stores_of
from vsim.sim.results.output import KeptRequests, Result
from vsim.traces.requests import Requests

PERCENTS: Final = (50, 90, 95, 99)
_NO_CLASS: Final = "all"

Int64s = NDArray[np.int64]
Mask = NDArray[np.bool_]
Statistics = dict[str, int | None]
"""`mean`, `p50`, `p90`, `p95` and `p99` in nanoseconds, rounded up; None for infinitely late."""


class _Values(BaseModel):
    """Plain values that are written to a store and read back."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassGoodput(_Values):
    """What requests of one class got.

    Args:
        name: the tenant's; of several priorities, the priority; `all` where there is one class.
        requests: that were counted.
        good: that kept every limit.
        output_tokens: of the good ones.
    """

    name: str
    requests: int
    good: int
    output_tokens: int


class TierUse(_Values):
    """What a tier did over a run. Bytes and pages as the summary of `vsim run` has them."""

    name: str
    capacity_bytes: int
    peak_bytes: int
    mean_bytes: float
    read_bytes: int
    written_bytes: int
    hit_tokens: int
    inserted_pages: int
    page_bytes: int


class Measured(_Values):
    """One run.

    Args:
        requests: that were counted: all, or those behind the warm-up.
        rejected: of them.
        good: of them, that kept every limit.
        latency_ns: by metric.
        classes: the same by class.
        completed: of all.
        prompt_tokens: of all that completed.
        output_tokens: the same.
        simulated_ns: from the start of the trace to the last event.
        hit_ratio: share of prompt tokens found cached.
        preemptions: of all.
        peak_requests: most requests that ran at once.
        tiers: HBM first.
        busy: share of the time by resource: compute, a tier's bandwidth, a link's.
        bound_by: what the run was bound by, as `vsim run` says.
        step_bound_by: what its steps were bound by.
        why: the figures behind that.
        stores: what became of what was written below HBM; none where that was not followed.
    """

    requests: int
    rejected: int
    good: int
    latency_ns: dict[str, Statistics]
    classes: tuple[ClassGoodput, ...]
    completed: int
    prompt_tokens: int
    output_tokens: int
    simulated_ns: int
    hit_ratio: float
    preemptions: int
    peak_requests: int
    tiers: tuple[TierUse, ...]
    busy: dict[str, float]
    bound_by: str
    step_bound_by: str
    why: str
    stores: tuple[Stores, ...] = ()

    @classmethod
    def of(cls, result: Result, limits_ns: Mapping[str, int], first: int) -> Self:
        """Take the figures of a run.

        Args:
            result: of a run of requests.
            limits_ns: by metric, what a request may take to be good.
            first: the row of the first request that counts; those before it warm the server up.
        """
        kept, summary = result.kept_requests, result.summary
        assert isinstance(kept, KeptRequests)  # a run of requests, not of recorded attention
        taken = _Taken.of(kept.trace, kept.engine, first)
        good = taken.good(limits_ns)
        verdict, operations = summary["verdict"], result.operations
        names = [tier["name"] for tier in summary["tiers"]]
        return cls(
            requests=taken.answered.size,
            rejected=int(np.count_nonzero(~taken.answered)),
            good=int(np.count_nonzero(good)),
            latency_ns=dict(_latencies(taken, kept)),
            classes=tuple(_classes(kept.trace, first, good)),
            completed=summary["requests"]["completed"],
            prompt_tokens=summary["tokens"]["prompt"],
            output_tokens=summary["tokens"]["output"],
            simulated_ns=kept.engine.simulated_ns,
            hit_ratio=summary["prefix_hit_ratio"],
            preemptions=summary["preemptions"],
            peak_requests=summary["concurrent_requests"]["peak"],
            tiers=tuple(
                TierUse(**{field: tier[field] for field in TierUse.model_fields})
                for tier in summary["tiers"]
            ),
            busy=dict(_busy(summary)),
            bound_by=verdict["bound_by"],
            step_bound_by=verdict["step_bound_by"],
            why=verdict["why"],
            stores=() if operations is None else stores_of(operations, names),
        )


class _Taken:
    """How long counted requests took: int64[n] each, and which of them were answered."""

    def __init__(self, answered: Mask, several: Mask, values: dict[str, Int64s]) -> None:
        self.answered = answered
        self.several = several
        self.values = values

    @classmethod
    def of(cls, requests: Requests, engine: EngineResult, first: int) -> Self:
        answered = np.asarray(engine.status[first:] == 0)
        arrival, last = np.array(engine.arrival_ns[first:]), np.array(engine.last_token_ns[first:])
        token = np.array(engine.first_token_ns[first:])
        gaps = requests.output_tokens[first:] - 1
        several = gaps > 0
        mean = np.rint((last - token) / np.maximum(gaps, 1)).astype(np.int64)
        return cls(
            answered, several, {"ttft": token - arrival, "tpot": mean, "e2e": last - arrival}
        )

    def good(self, limits_ns: Mapping[str, int]) -> Mask:
        """Which requests kept every limit; one of a single token has no TPOT to keep."""
        good = self.answered.copy()
        for metric, limit in limits_ns.items():
            kept = self.values[metric] <= limit
            good &= kept | ~self.several if metric == "tpot" else kept
        return good


def _latencies(taken: _Taken, kept: KeptRequests) -> Iterator[tuple[str, Statistics]]:
    for metric, values in taken.values.items():
        counted = taken.several if metric == "tpot" else np.ones(values.size, np.bool_)
        found = values[counted & taken.answered]
        late = int(np.count_nonzero(counted & ~taken.answered))
        yield metric, statistics(found, np.ones(found.size, np.int64), exact_sum(found), late)
    gaps = kept.engine.gaps
    rejected = np.asarray(kept.engine.status != 0)
    late = exact_sum(kept.trace.output_tokens[rejected] - 1)
    yield "itl", statistics(gaps.largest_ns, gaps.counts, gaps.total_ns, late)


def statistics(values: Int64s, weights: Int64s, total: int, late: int) -> Statistics:
    """Return mean and quantiles, nearest ranks, of observations and of infinite ones beside them.

    Args:
        values: int64[n], ns.
        weights: int64[n], how often each was observed.
        total: the sum of all observations.
        late: how many were infinite.
    """
    count = int(weights.sum())
    found: Statistics = {"mean": None if late or not count else -(-total // count)}
    ranks = {percent: -(-percent * (count + late) // 100) for percent in PERCENTS}
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    for percent, rank in ranks.items():
        finite = 0 < rank <= count
        place = int(np.searchsorted(below, rank)) if finite else 0
        found[f"p{percent}"] = int(values[order[place]]) if finite else None
    return found


def _classes(requests: Requests, first: int, good: Mask) -> Iterator[ClassGoodput]:
    """Split by tenant where there are several, else by priority."""
    names: Sequence[str] = (_NO_CLASS,)
    codes: Any = np.zeros(good.size, np.int64)
    tenants, priorities = requests.tenant[first:], requests.priority[first:]
    if tenants.size and (tenants != tenants[0]).any():
        names, codes = [name or "unnamed" for name in requests.tenant_names], tenants
    elif priorities.size and (priorities != priorities[0]).any():
        found, codes = np.unique(priorities, return_inverse=True)
        names = [f"priority {value}" for value in found]
    output = requests.output_tokens[first:]
    for code, name in enumerate(names):
        mine = codes == code
        if mine.any():
            yield ClassGoodput(
                name=name,
                requests=int(np.count_nonzero(mine)),
                good=int(np.count_nonzero(mine & good)),
                output_tokens=exact_sum(output[mine & good]),
            )


def _busy(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield "compute", summary["compute_busy_share"]
    for tier in summary["tiers"]:
        for way in ("read", "write"):
            if f"{way}_busy_share" in tier:
                yield f"{tier['name']} {way}s", tier[f"{way}_busy_share"]
    for link in summary["links"]:
        source, _, target = link["name"].partition("-")
        yield f"{source} → {target}", link["forward_busy_share"]
        yield f"{target} → {source}", link["reverse_busy_share"]
