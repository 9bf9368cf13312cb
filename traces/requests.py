"""Requests: an arrival-ordered request trace in memory, as flat arrays."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import coded, elements, integers, listed, lists
from vsim.traces.arrow_io import Provenance, metadata_of, write_table
from vsim.traces.id_rows import IdRows
from vsim.traces.schema import schema_of
from vsim.traces.writing import FreshFile, Name


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """n requests in arrival order; -1 stands for null.

    Args:
        id: int64[n], unique.
        arrival_ns: int64[n], never falls, 0 or more.
        prompt_tokens: int64[n], 1 or more; the whole prompt, earlier turns included.
        output_tokens: int64[n], 1 or more.
        session: int64[n], -1 for none.
        parent: int64[n], the ROW of the request that this one continues, always an earlier row.
        think_ns: int64[n], from the parent's last token to this arrival, -1 where unknown.
        tenant: int32[n], an index into tenant_names.
        tenant_names: names of the tenants.
        priority: int32[n], lower is more urgent, 0 the default.
        prefix_offsets: int64[n + 1], where each request's ids start in prefix_ids.
        prefix_ids: int64[m], or int32[m] where the file holds them so; ids of the prompts' blocks,
            each standing for its whole prefix. The first `prompt_tokens // block_tokens` ids of a
            request are full blocks; one further id may stand for the partial last block, as in
            the Mooncake traces.
        block_tokens: tokens of a prefix block, 0 when the trace has none.
        source: where the requests are from.
        notes: what an import left out, raised, drew or found to contradict, one sentence each.
        drawn: whether arrivals or think times were drawn as these were read, so that a seed acts;
            false of what an Arrow file holds, even if they were drawn when it was made.
    """

    id: NDArray[np.int64]
    arrival_ns: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    session: NDArray[np.int64]
    parent: NDArray[np.int64]
    think_ns: NDArray[np.int64]
    tenant: NDArray[np.int32]
    tenant_names: tuple[str, ...]
    priority: NDArray[np.int32]
    prefix_offsets: NDArray[np.int64]
    prefix_ids: NDArray[np.int64] | NDArray[np.int32]
    block_tokens: int
    source: str
    notes: tuple[str, ...] = ()
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.id)

    def head(self, count: int) -> "Requests":
        """Return the first `count` requests, or all where there are fewer."""
        values: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name not in ("prefix_offsets", "prefix_ids"):
                values[name] = value[:count]
        values["prefix_offsets"] = self.prefix_offsets[: count + 1]
        end = int(self.prefix_offsets[min(count, len(self))])
        values["prefix_ids"] = self.prefix_ids[:end]
        return Requests(**values)  # type: ignore[arg-type] # the same fields, some of them cut


def _nullable(values: NDArray[np.int64]) -> Any:
    return pa.array(np.ascontiguousarray(values), mask=values < 0)


def _once(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column that holds one value throughout as a view that repeats it, without memory."""
    if values.size == 0 or (values != values[0]).any():
        return values
    return np.broadcast_to(values[0].copy(), values.shape)


def requests_table(requests: Requests) -> pa.Table:
    """Return requests as a table of the schema `requests`, block_tokens in its metadata.

    A parent is written as its id. A tenant whose name is empty is written as null.
    """
    parent = requests.parent
    parent_ids = np.where(parent >= 0, requests.id[np.maximum(parent, 0)], -1)
    unnamed = np.asarray([not name for name in requests.tenant_names])
    codes: Any = pa.array(np.ascontiguousarray(requests.tenant), mask=unnamed[requests.tenant])
    tenant = pa.DictionaryArray.from_arrays(codes, pa.array(requests.tenant_names, pa.string()))
    columns = [
        pa.array(requests.id),
        pa.array(requests.arrival_ns),
        pa.array(requests.prompt_tokens),
        pa.array(requests.output_tokens),
        _nullable(requests.session),
        _nullable(parent_ids),
        _nullable(requests.think_ns),
        tenant,
        pa.array(np.ascontiguousarray(requests.priority)),
        listed(np.ascontiguousarray(requests.prefix_offsets), requests.prefix_ids),
    ]
    table = pa.Table.from_arrays(columns, schema=schema_of("requests"))
    return table.replace_schema_metadata(
        {"vsim.block_tokens": str(requests.block_tokens), "vsim.source": requests.source}
    )


def requests_from_table(table: pa.Table, file: str) -> Requests:
    """Make requests from a table that `read_table` has checked.

    Columns are taken over as they are; where nothing is null they are not copied.

    Args:
        table: of the schema `requests`, with block_tokens and source in its metadata.
        file: the file's name, the source where the metadata names none.
    """
    metadata = metadata_of(table)
    ids = integers(table.column("id"))
    tenant, words = coded(table.column("tenant"))
    names = [word or "" for word in words]
    if (tenant < 0).any() and "" not in names:
        names.append("")
    unnamed = names.index("") if "" in names else 0
    offsets, flat = lists(table.column("prefix_blocks"))
    return Requests(
        id=ids,
        arrival_ns=integers(table.column("arrival_ns")),
        prompt_tokens=integers(table.column("prompt_tokens")),
        output_tokens=integers(table.column("output_tokens")),
        session=_once(integers(table.column("session"))),
        parent=_parent_rows(ids, _once(integers(table.column("parent")))),
        think_ns=_once(integers(table.column("think_ns"))),
        tenant=_once(np.where(tenant < 0, unnamed, tenant).astype(np.int32)),
        tenant_names=tuple(names),
        priority=_once(integers(table.column("priority")).astype(np.int32)),
        prefix_offsets=_once(offsets),
        prefix_ids=np.ascontiguousarray(elements(flat), dtype=np.int64),
        block_tokens=int(metadata.get("block_tokens", "0")),
        source=metadata.get("source", file),
        notes=tuple(filter(None, metadata.get("notes", "").split("\n"))),
    )


def _parent_rows(ids: NDArray[np.int64], parent_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn ids of parents into their rows; -1 stays."""
    return IdRows(ids).of(parent_ids) if (parent_ids >= 0).any() else parent_ids


def write_requests(requests: Requests, path: Name | FreshFile, licence: str = "not stated") -> None:
    """Write requests as an Arrow trace, see `write_table`. Raises InputError if it can't be."""
    extra = {"block_tokens": str(requests.block_tokens)}
    if requests.notes:
        extra["notes"] = "\n".join(requests.notes)
    provenance = Provenance(requests.source, licence, extra=extra)
    write_table(requests_table(requests), path, "requests", provenance)
