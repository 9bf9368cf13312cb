"""Replicas: servers of one kind side by side, each with its own scheduler and KV.

Requests are dealt in turn, in order of arrival, as engines do by default. SGLang 0.5.23 counts them
(`round_robin_scheduler`). vLLM 0.25.1 takes the replica with the least 4 * waiting + running
(`DPLBAsyncMPClient`), but those of a model without experts report neither: what is left are its own
counts of what it sent, reset every 5 s, and a scan that starts one replica further each time, which
is taking turns. vLLM 0.19 starts each scan at the same one, so that turns begin there again after a
reset; this is left out. Both do so in one front end; by default there are as many as replicas, and
each takes turns over the requests that it happens to get.

So who serves a request depends on the trace alone, and since nothing in a run depends on what comes
later, each replica is a run of its own over its share of the trace. What one would have to wait for
another for is refused: tiers and links that they share, turns that wait for a turn elsewhere, and
experts dealt over replicas, whose steps go in lockstep (`vsim.sim.scenario.parallel_rules`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vsim.sim.engine.gaps import Gaps
from vsim.sim.engine.result import EngineResult, GroupCounters, StepTotals, TierCounters
from vsim.traces.requests import Requests

_Counters = TypeVar("_Counters", TierCounters, GroupCounters)
_RAGGED = ("prefix_offsets", "prefix_ids")
_SAME = ("name", "kind", "layers", "page_bytes", "padding_bytes", "all_page_bytes")
"""What counters of a tier or a group have alike in all replicas."""
_OF_REQUESTS = (
    "arrival_ns", "admitted_ns", "first_token_ns", "last_token_ns", "hit_tokens", "faults",
    "fault_wait_ns", "preemptions", "status", "hit_tokens_by_tier",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """One replica's part of a trace.

    Args:
        rows: int64[k], its rows of the whole trace, rising.
        requests: those.
    """

    rows: NDArray[np.int64]
    requests: Requests


def shares(requests: Requests, replicas: int) -> list[Share]:
    """Deal requests out in turn; each replica gets one at least if there are as many."""
    rows = np.arange(len(requests))
    return [
        Share(own, taken(requests, own)) for own in (rows[i::replicas] for i in range(replicas))
    ]


def taken(requests: Requests, rows: NDArray[np.int64]) -> Requests:
    """Some rows of a trace, rising. Whose parent is not among them has none."""
    values: dict[str, Any] = {f.name: getattr(requests, f.name) for f in fields(requests)}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and name not in _RAGGED:
            values[name] = value[rows]
    places = np.full(len(requests) + 1, -1, np.int64)  # the last stands for no parent
    places[rows] = np.arange(rows.size)
    values["parent"] = places[values["parent"]]
    first, counts = requests.prefix_offsets[rows], np.diff(requests.prefix_offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    values["prefix_offsets"] = offsets
    values["prefix_ids"] = requests.prefix_ids[np.repeat(first, counts) + inside]
    return Requests(**values)


def together(results: Sequence[EngineResult], rows: Sequence[NDArray[np.int64]]) -> EngineResult:
    """What replicas recorded as one result: requests in the trace's order, everything else added.

    It lasts as long as the last of them. `time_ns` adds up to that as often as there are replicas;
    a tier's peak is the sum of theirs, which need not be at one time. Steps and operations are not
    in it.

    Args:
        results: of each replica.
        rows: which rows of the trace each served.
    """
    end = max(each.simulated_ns for each in results)
    count = sum(own.size for own in rows)
    columns: dict[str, Any] = {}
    for name in _OF_REQUESTS:
        parts = [getattr(each, name) for each in results]
        column = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
        for own, part in zip(rows, parts, strict=True):
            column[own] = part
        columns[name] = column
    times = [
        {
            **each.time_ns,
            "idle_no_requests": each.time_ns["idle_no_requests"] + end - each.simulated_ns,
        }
        for each in results
    ]
    return EngineResult(
        **columns,
        steps=sum((each.steps for each in results), StepTotals()),
        gaps=_gaps([each.gaps for each in results]),
        tiers=tuple(_added(found) for found in zip(*(r.tiers for r in results), strict=True)),
        links=(),
        groups=tuple(_added(found) for found in zip(*(r.groups for r in results), strict=True)),
        faults_by_cause=_sums([each.faults_by_cause for each in results]),
        wait_ns_by_cause=_sums([each.wait_ns_by_cause for each in results]),
        time_ns=_sums(times),
        token_ns_reserved=sum(each.token_ns_reserved for each in results),
        token_ns_used=sum(each.token_ns_used for each in results),
        counters=_sums([each.counters for each in results]),
        simulated_ns=end,
        step_log=None,
        operations=None,
    )


def _sums(parts: Sequence[Any]) -> dict[str, int]:
    return {name: sum(each[name] for each in parts) for name in parts[0]}


def _gaps(parts: Sequence[Gaps]) -> Gaps:
    """All gaps: buckets side by side, which are as fine as each run's."""
    largest = np.concatenate([each.largest_ns for each in parts])
    order = np.argsort(largest, kind="stable")
    counts = np.concatenate([each.counts for each in parts])
    return Gaps(largest[order], counts[order], sum(each.total_ns for each in parts))


def _added(parts: Sequence[_Counters]) -> _Counters:
    """Counters of a tier, or of a KV group, of all replicas."""
    added = [f.name for f in fields(parts[0]) if f.name not in _SAME]
    return replace(parts[0], **{name: sum(getattr(each, name) for each in parts) for name in added})
