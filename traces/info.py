"""What a trace holds: counts, rates, lengths and prefix hits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vsim.traces.arrow_io import metadata_of
from vsim.traces.prefix_chain import dense_codes
from vsim.traces.requests import Requests
from vsim.traces.schema import SCHEMAS


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Mean, quantiles (interpolated linearly between ranks) and maximum, in one unit."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class PrefixInfo:
    """Prefix blocks and how many of them a cache of prefixes would have held.

    Args:
        block_tokens: tokens of a block.
        references: block ids of all prompts, a partial last block's included.
        unique: different ids among them.
        hit_ratio: share of references hit with an unbounded cache, in arrival order.
        lru_hit_ratio: the same for LRU caches, by their number of blocks.
        lru_curve: the same for every size, as pairs of a size and the references that it hits;
            between two neighbours hits lie on a line, behind the last they stay. None where it was
            not asked for.
    """

    block_tokens: int
    references: int
    unique: int
    hit_ratio: float
    lru_hit_ratio: dict[int, float]
    lru_curve: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class RequestsInfo:
    """What a request trace holds.

    Args:
        arrival_rate_per_s: gaps between arrivals over their sum; None where all arrive at once.
        arrival_cv: standard deviation of the gaps over their mean; None as above.
        sessions: different sessions, 0 where the trace names none.
        follow_ups: requests that continue another.
        tenants: requests of each named tenant.
        priorities: requests of each priority.
        think_s: think times known, None where there are none.
    """

    source: str
    requests: int
    span_s: float
    arrival_rate_per_s: float | None
    arrival_cv: float | None
    prompt_tokens: Quantiles
    output_tokens: Quantiles
    sessions: int
    follow_ups: int
    think_s: Quantiles | None
    tenants: dict[str, int]
    priorities: dict[int, int]
    prefix: PrefixInfo | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return asdict(self)


def quantiles(values: NDArray[np.int64]) -> Quantiles:
    """Summarise a column of at least one value."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99]).tolist()
    return Quantiles(float(values.mean()), p50, p90, p99, int(values.max()))


def describe_requests(
    requests: Requests, cache_blocks: Sequence[int] = (), *, curve: bool = False
) -> RequestsInfo:
    """Summarise requests, with hits of LRU caches of the sizes asked for, or of every size."""
    gaps = np.diff(requests.arrival_ns)
    span_s = int(requests.arrival_ns[-1] - requests.arrival_ns[0]) / 1e9
    think_ns = requests.think_ns[requests.think_ns >= 0]
    sessions = requests.session[requests.session >= 0]
    tenants = np.bincount(requests.tenant, minlength=len(requests.tenant_names)).tolist()
    levels, counts = np.unique(requests.priority, return_counts=True)
    think = None
    if len(think_ns):
        ns = quantiles(think_ns)
        think = Quantiles(ns.mean / 1e9, ns.p50 / 1e9, ns.p90 / 1e9, ns.p99 / 1e9, ns.max / 1e9)
    return RequestsInfo(
        source=requests.source,
        requests=len(requests),
        span_s=span_s,
        arrival_rate_per_s=len(gaps) / span_s if span_s else None,
        arrival_cv=float(gaps.std() / gaps.mean()) if span_s else None,
        prompt_tokens=quantiles(requests.prompt_tokens),
        output_tokens=quantiles(requests.output_tokens),
        sessions=len(np.unique(sessions)),
        follow_ups=int(np.count_nonzero(requests.parent >= 0)),
        think_s=think,
        tenants={n: c for n, c in zip(requests.tenant_names, tenants, strict=True) if n},
        priorities=dict(zip(levels.tolist(), counts.tolist(), strict=True)),
        prefix=_prefix(requests, cache_blocks, curve) if len(requests.prefix_ids) else None,
    )


def _prefix(requests: Requests, cache_blocks: Sequence[int], curve: bool) -> PrefixInfo:
    offsets, ids = requests.prefix_offsets, requests.prefix_ids
    codes, count = dense_codes(ids)
    seen = np.zeros(count, dtype=np.bool_)
    seen[codes] = True
    unique = int(np.count_nonzero(seen))
    info = PrefixInfo(
        block_tokens=requests.block_tokens,
        references=len(ids),
        unique=unique,
        hit_ratio=(len(ids) - unique) / len(ids),  # no prompt holds an id twice, see first_broken
        lru_hit_ratio={},
    )
    if not cache_blocks and not curve:
        return info
    from vsim.traces.prefix_reuse import PrefixReuse  # compiled code takes a while to load

    reuse = PrefixReuse.of(offsets, ids)
    hits = reuse.lru_hits(np.asarray(cache_blocks, np.int64)).tolist()
    ratios = {size: found / len(ids) for size, found in zip(cache_blocks, hits, strict=True)}
    points = tuple(zip(*(part.tolist() for part in reuse.lru_curve()), strict=True))
    return replace(info, lru_hit_ratio=ratios, lru_curve=points if curve else None)


def describe_table(table: pa.Table, kind: str) -> dict[str, Any]:
    """Summarise a trace of any kind: rows, metadata, and each column's unit, nulls and range."""
    units = {column.name: column.unit for column in SCHEMAS[kind]}
    columns = {}
    compute: Any = pc  # the stubs know no flattened columns
    for name in table.column_names:
        column = table.column(name)
        values: Any = column
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            values = compute.list_flatten(column)
        if pa.types.is_dictionary(values.type):
            values = values.cast(pa.string())
        if pa.types.is_float16(values.type):
            values = values.cast(pa.float32())
        extremes = compute.min_max(values).as_py()
        columns[name] = {
            "type": str(column.type),
            "unit": units.get(name, "1"),
            "nulls": column.null_count,
            "min": extremes["min"],
            "max": extremes["max"],
        }
    return {
        "kind": kind,
        "rows": table.num_rows,
        "metadata": metadata_of(table),
        "columns": columns,
    }
