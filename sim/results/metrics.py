"""Metrics: pure functions from a trace and what the engine recorded to the summary.

Every quantile is a nearest rank: the smallest observed value that at least p % of the
observations do not exceed. So it is a value that occurred, and exact for integers. Only of gaps
between tokens, which are too many to be kept, a quantile may lie above that value, by less than 1
part in 2^15; it is a gap that occurred as well. Every sum is exact, whatever its size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine.exact_sums import exact_sum
from vsim.sim.engine.gaps import Gaps
from vsim.sim.engine.result import EngineResult, GroupCounters, LinkCounters, TierCounters
from vsim.sim.results.stretch import busiest_stretch
from vsim.traces.requests import Requests

Int64s = NDArray[np.int64]
Summary = dict[str, Any]

QUANTILES = (50, 90, 99)
STEP_BOUNDS = ("compute", "hbm", "lower_tier")
HOW_IT_WAS_RUN = frozenset({"fast_steps", "simpy_events", "arithmetic_ns"})
"""Counters that tell how the engine worked, or that have a figure of their own."""
_NS_PER_S = 1e9
_NS_PER_MS = 1e6
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a summary says about a run besides what happened in it.

    Args:
        scenario: name of the scenario.
        description: what the scenario shows.
        seed: seed of every draw.
        source: where the requests came from.
        machine: name of the machine.
        gpus: GPUs that serve the model.
        model: name of the model.
        weight_precision: precision of the weights.
        kv_precision: precision of the KV cache.
        kv_bytes_per_token: KV bytes of a token over all layers and GPUs.
        weight_bytes: bytes of all weights on all GPUs.
        block_tokens: tokens of a block.
        page_tokens: tokens of a page.
        batching: continuous, static, or lockstep for recorded attention.
        placement: where new pages are born, or which policy places those of recorded attention.
        max_running_requests: requests in the batch at most.
        prefix_caching: whether prefix hits could be found at all.
        tier_bytes_per_s: each tier's read and write bandwidth, HBM first; empty if not known.
        replicas: servers side by side, over whose time together shares are taken.
        declared: which of `weights` and `kv` have the precision that the checkpoint declares.
    """

    scenario: str
    description: str
    seed: int
    source: str
    machine: str
    gpus: int
    model: str
    weight_precision: str
    kv_precision: str
    kv_bytes_per_token: int
    weight_bytes: int
    block_tokens: int
    page_tokens: int
    batching: str
    placement: str
    max_running_requests: int
    prefix_caching: bool
    tier_bytes_per_s: tuple[tuple[float, float], ...] = ()
    replicas: int = 1
    declared: tuple[str, ...] = ()


def nearest_ranks(
    values: Int64s, percents: Sequence[int], weights: Int64s | None = None
) -> list[int]:
    """Return, for each percentage, the smallest value that at least so many do not exceed.

    Args:
        values: observations, at least one with a positive weight; their order changes where there
            are no weights.
        percents: each from 1 to 100.
        weights: how often each value was observed; once each when left out.
    """
    if weights is None:
        places = [-(-percent * values.size // 100) - 1 for percent in percents]
        values.partition(places)
        return [int(values[place]) for place in places]
    order = np.argsort(values)
    values, below = values[order], np.cumsum(weights[order])
    ranks = [-(-percent * int(below[-1]) // 100) for percent in percents]
    return [int(values[np.searchsorted(below, rank)]) for rank in ranks]


def distribution_ms(values_ns: Int64s) -> dict[str, float | None]:
    """Return mean, p50, p90 and p99 in milliseconds; all None without an observation.

    The values' order changes.
    """
    if values_ns.size == 0:
        return _distribution_ms(0, 0, ())
    total = exact_sum(values_ns)
    return _distribution_ms(total, values_ns.size, nearest_ranks(values_ns, QUANTILES))


def gaps_ms(gaps: Gaps) -> dict[str, float | None]:
    """Return the same of the gaps between tokens, see `vsim.sim.engine.gaps` for its quantiles."""
    if gaps.counts.size == 0:
        return _distribution_ms(0, 0, ())
    ranks = nearest_ranks(gaps.largest_ns, QUANTILES, gaps.counts)
    return _distribution_ms(gaps.total_ns, int(gaps.counts.sum()), ranks)


def _distribution_ms(total_ns: int, count: int, ranks_ns: Sequence[int]) -> dict[str, float | None]:
    if count == 0:
        return {"mean": None, **{f"p{percent}": None for percent in QUANTILES}}
    found: dict[str, float | None] = {"mean": total_ns / (count * _NS_PER_MS)}
    for percent, value in zip(QUANTILES, ranks_ns, strict=True):
        found[f"p{percent}"] = value / _NS_PER_MS
    return found


def concurrency(start_ns: Int64s, end_ns: Int64s, simulated_ns: int) -> dict[str, float]:
    """Return the mean and peak number of intervals that are open at once.

    An interval that ends at the instant another starts does not overlap it.
    """
    if start_ns.size == 0 or simulated_ns == 0:
        return {"mean": 0.0, "peak": 0}
    starts, ends = np.sort(start_ns), np.sort(end_ns)
    peak = 0
    for chunk in _chunks(starts.size):
        ended = np.searchsorted(ends, starts[chunk], side="right")
        begun = np.arange(chunk.start, chunk.stop) + 1
        peak = max(peak, int((begun - ended).max()))
    total = exact_sum(end_ns) - exact_sum(start_ns)
    return {"mean": float(total) / simulated_ns, "peak": peak}


def _chunks(size: int) -> Iterator[slice]:
    """Cut `size` rows into parts, so that what is worked out on the way is small."""
    return (slice(at, min(at + _CHUNK, size)) for at in range(0, size, _CHUNK))


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """The completed requests of a run, read in parts: n of N requests.

    Args:
        rows: bool[N], or None where all are completed.
        count: n.
        total: N.
    """

    rows: NDArray[np.bool_] | None
    count: int
    total: int

    @classmethod
    def of(cls, status: NDArray[np.integer]) -> "_Done":
        rows = status == 0
        count = int(np.count_nonzero(rows))
        return cls(None if count == rows.size else rows, count, rows.size)

    def of_each(self, value: Callable[[slice], NDArray[np.integer]]) -> Int64s:
        """Put the completed requests' values together; `value` gives those of a part of all."""
        found = np.empty(self.count, np.int64)
        end = 0
        for chunk in _chunks(self.total):
            part = value(chunk)
            if self.rows is not None:
                part = part[self.rows[chunk]]
            found[end : end + part.size] = part
            end += part.size
        return found[:end]

    def sum_of(self, value: Callable[[slice], NDArray[np.integer]]) -> int:
        """Add the completed requests' values up."""
        parts = ((chunk, value(chunk)) for chunk in _chunks(self.total))
        return sum(
            exact_sum(part if self.rows is None else part[self.rows[chunk]])
            for chunk, part in parts
        )


def _share(part: float, whole: float) -> float:
    """Divide, and return 0 where there is nothing to divide by."""
    return float(part) / float(whole) if whole else 0.0


def _busy(tier: TierCounters, bytes_per_s: tuple[float, float], simulated_ns: int) -> Summary:
    """Say for what share of the time a tier's own bandwidth was in use, each way."""
    simulated_s = simulated_ns / _NS_PER_S
    return {
        "read_busy_share": _share(tier.read_bytes / bytes_per_s[0], simulated_s),
        "write_busy_share": _share(tier.written_bytes / bytes_per_s[1], simulated_s),
    }


def _tier(tier: TierCounters, simulated_ns: int, all_hits: int) -> Summary:
    """Summarise one tier: bytes, and the share of all prefix hit tokens that lay in it."""
    return {
        "name": tier.name,
        "capacity_bytes": tier.capacity_pages * tier.page_bytes,
        "page_bytes": tier.page_bytes if tier.all_page_bytes is None else tier.all_page_bytes,
        "peak_bytes": tier.peak_pages * tier.page_bytes,
        "mean_bytes": _share(tier.page_ns * tier.page_bytes, simulated_ns),
        "read_bytes": tier.read_bytes,
        "written_bytes": tier.written_bytes,
        "hit_tokens": tier.hit_tokens,
        "hit_share": _share(tier.hit_tokens, all_hits),
        "inserted_pages": tier.inserted_pages,
        "evicted_pages": tier.evicted_pages,
        "dropped_pages": tier.dropped_pages,
        "takes_pages": tier.takes_pages,
    }


def _group(group: GroupCounters) -> Summary:
    """Summarise what HBM held of one KV group."""
    size = group.page_bytes
    held = {
        "peak": group.peak_pages,
        "end": group.end_pages,
        "requests_peak": group.requests_peak_pages,
        "decoding_peak": group.decoding_peak_pages,
    }
    return {
        "name": group.name,
        "kind": group.kind,
        "layers": group.layers,
        "page_bytes": size,
        "page_padding_bytes": group.padding_bytes,
        **{f"{name}_pages": pages for name, pages in held.items()},
        **{f"{name}_bytes": pages * size for name, pages in held.items()},
    }


def _link(link: LinkCounters, simulated_ns: int) -> Summary:
    """Summarise one link: bytes and busy share each way."""
    return {
        "name": link.name,
        "forward_bytes": link.forward_bytes,
        "reverse_bytes": link.reverse_bytes,
        "forward_busy_share": _share(link.forward_busy_ns, simulated_ns),
        "reverse_busy_share": _share(link.reverse_busy_ns, simulated_ns),
    }


def _mean_step(engine: EngineResult) -> Summary:
    """Say what steps held and where the time of a mean step went; idle time is not a step's."""
    totals = engine.steps
    steps = totals.steps
    parts = {
        part: _share(ns, steps) / _NS_PER_MS
        for part, ns in engine.time_ns.items()
        if not part.startswith("idle_")
    }
    bounds = (totals.compute_bound, totals.hbm_bound, totals.lower_bound)
    return {
        "count": steps,
        "mean_ms": sum(parts.values()),
        "parts_ms": parts,
        "mean_requests": _share(totals.requests, steps),
        "mean_prefill_tokens": _share(totals.prefill_tokens, steps),
        "mean_decode_tokens": _share(totals.decode_tokens, steps),
        "bound_share": {
            name: _share(count, steps) for name, count in zip(STEP_BOUNDS, bounds, strict=True)
        },
    }


def summarise(
    facts: RunFacts, requests: Requests, engine: EngineResult, engine_wall_s: float
) -> Summary:
    """Return the summary of a run, all but its verdict and the time that writing took.

    Counts are integers, shares lie between 0 and 1, `_ms` and `_s` are floats. What is not plain
    from its key: latencies, throughput and `prefix_hit_ratio` (hit tokens over prompt tokens)
    count completed requests only; `faults_per_1000_tokens` is over their prompt and output tokens
    together; `concurrent_requests` are those between admission and last token; `fragmentation` is
    the share of the KV tokens reserved for running requests that held none; a tier's `hit_share`
    is its share of all hit tokens, and its bytes read include weights and attends; `kv_groups` say
    what of HBM the layers of each kind held at once at most (`peak_bytes`, with what is cached),
    what running requests held of it (`requests_peak_bytes`), and those in steps without a prompt
    (`decoding_peak_bytes`), a page that several share counted for each; a link's
    `forward` way is from the first tier of its name to the second; `compute_busy_share` is the
    time that all FLOPs took at the effective rate; `time_share` splits the simulated time, `step`
    that of a mean step.

    Args:
        facts: what was run.
        requests: the trace, n requests in the engine's order.
        engine: what happened.
        engine_wall_s: from the parsed trace in memory to complete results in memory.
    """
    done = _Done.of(engine.status)
    prompt_tokens = done.sum_of(lambda part: requests.prompt_tokens[part])
    output_tokens = done.sum_of(lambda part: requests.output_tokens[part])
    simulated = engine.simulated_ns
    simulated_s = simulated / _NS_PER_S
    faults = sum(engine.faults_by_cause.values())
    # A preempted request looks its prefix up again; what it finds then was counted before.
    hits = done.sum_of(
        lambda part: np.minimum(engine.hit_tokens[part], requests.prompt_tokens[part])
    )
    all_hits = sum(tier.hit_tokens for tier in engine.tiers)
    tiers = [_tier(tier, simulated, all_hits) for tier in engine.tiers]
    for summary, tier, each in zip(tiers, engine.tiers, facts.tier_bytes_per_s, strict=False):
        summary |= _busy(tier, each, simulated)
    of_all = simulated * facts.replicas
    shares = {part: _share(ns, of_all) for part, ns in engine.time_ns.items()}
    return {
        "scenario": facts.scenario,
        "description": facts.description,
        "seed": facts.seed,
        "source": facts.source,
        **({"source_notes": list(requests.notes)} if requests.notes else {}),
        "machine": {
            "name": facts.machine,
            "gpus": facts.gpus,
            **({"replicas": facts.replicas} if facts.replicas > 1 else {}),
        },
        "model": {
            "name": facts.model,
            "weight_precision": facts.weight_precision,
            "kv_precision": facts.kv_precision,
            **({"declared": list(facts.declared)} if facts.declared else {}),
            "weight_bytes": facts.weight_bytes,
            "kv_bytes_per_token": facts.kv_bytes_per_token,
        },
        "engine": {
            "batching": facts.batching,
            "placement": facts.placement,
            "max_running_requests": facts.max_running_requests,
            "block_tokens": facts.block_tokens,
            "page_tokens": facts.page_tokens,
            "prefix_caching": facts.prefix_caching,
        },
        "requests": {
            "submitted": len(requests),
            "completed": done.count,
            "rejected": int(np.count_nonzero(engine.status == 1)),
        },
        "tokens": {"prompt": prompt_tokens, "output": output_tokens},
        "simulated_s": simulated_s,
        "last_arrival_s": float(engine.arrival_ns.max(initial=0)) / _NS_PER_S,
        "engine_wall_s": engine_wall_s,
        "throughput": {
            "requests_per_s": _share(done.count, simulated_s),
            "prompt_tokens_per_s": _share(prompt_tokens, simulated_s),
            "output_tokens_per_s": _share(output_tokens, simulated_s),
        },
        **_latencies(done, requests, engine),
        "prefix_hit_tokens": hits,
        "prefix_hit_ratio": _share(hits, prompt_tokens),
        "faults": faults,
        "faults_per_1000_tokens": 1000 * _share(faults, prompt_tokens + output_tokens),
        "faults_by_cause": dict(engine.faults_by_cause),
        "wait_s_by_cause": {cause: ns / _NS_PER_S for cause, ns in engine.wait_ns_by_cause.items()},
        "preemptions": exact_sum(engine.preemptions),
        "recomputed_tokens": engine.counters.get("recomputed_tokens"),
        "busiest_stretch": busiest_stretch(
            done.of_each(lambda part: engine.arrival_ns[part]),
            done.of_each(lambda part: engine.admitted_ns[part]),
            done.of_each(lambda part: engine.last_token_ns[part]),
        ),
        "concurrent_requests": concurrency(
            done.of_each(lambda part: engine.admitted_ns[part]),
            done.of_each(lambda part: engine.last_token_ns[part]),
            simulated,
        ),
        "fragmentation": (
            1.0 - _share(engine.token_ns_used, engine.token_ns_reserved)
            if engine.token_ns_reserved
            else 0.0
        ),
        "tiers": tiers,
        "kv_groups": [_group(group) for group in engine.groups],
        "links": [_link(link, simulated) for link in engine.links],
        "compute_busy_share": _share(engine.counters.get("arithmetic_ns", 0), of_all),
        "time_share": shares,
        "step": _mean_step(engine),
        "counters": {k: v for k, v in engine.counters.items() if k not in HOW_IT_WAS_RUN},
    }


def _latencies(done: _Done, requests: Requests, engine: EngineResult) -> Summary:
    """Summarise what completed requests waited for, each figure from values of its own."""
    arrival, first, last = engine.arrival_ns, engine.first_token_ns, engine.last_token_ns

    def tpot(part: slice) -> Int64s:
        """Mean gaps of requests with several tokens; -1 of the others."""
        gaps = requests.output_tokens[part] - 1
        mean = np.rint((last[part] - first[part]) / np.maximum(gaps, 1)).astype(np.int64)
        return np.where(gaps > 0, mean, -1)

    tpots = done.of_each(tpot)
    return {
        "ttft_ms": distribution_ms(done.of_each(lambda part: first[part] - arrival[part])),
        "tpot_ms": distribution_ms(tpots[tpots >= 0]),
        "itl_ms": gaps_ms(engine.gaps),
        "e2e_ms": distribution_ms(done.of_each(lambda part: last[part] - arrival[part])),
        "admission_wait_ms": distribution_ms(
            done.of_each(lambda part: engine.admitted_ns[part] - arrival[part])
        ),
    }
