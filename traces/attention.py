"""`AttentionTrace`: how much attention each step of a decode gave to each page, row by row.

A row is one step of one request in one layer and KV head. Its pages are named by their place in
the request's context, and each may carry scores: its attention mass (the mean over the query
heads that share the KV head, so that a row sums to one) and further ones such as Quest's bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists
from vsim.traces.arrow_io import Provenance, metadata_of, read_table, write_table
from vsim.traces.faults import Fault, InputError
from vsim.traces.schema import is_score
from vsim.traces.score_codes import LogScale
from vsim.traces.writing import FreshFile, Name

MASS = "mass"
_SCORE = "score_"
_ZSTD_LEVEL = 19
_COUNTS = ("page_tokens", "page_bytes", "prompt_tokens")

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Scores = NDArray[np.uint8] | NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AttentionTrace:
    """Attention over pages; rows ordered by step, request, layer and kv_head.

    Attributes:
        step, request: int64[rows], from 0.
        layer, kv_head: int32[rows]; kv_head −1 stands for all.
        offsets: int64[rows+1]; row r has pages[offsets[r]:offsets[r+1]].
        pages: int32[m], first token // page_tokens, ascending within a row.
        scores: by name (`mass`, `quest`), one a page: floats, or uint8 codes on its scale.
        scales: the scale of each score that is uint8.
        page_tokens: tokens of a page.
        page_bytes: bytes of K and V of one page in one layer and KV head.
        prompt_tokens: tokens in the cache before step 0; step t attends to prompt_tokens + t + 1.
        source, licence, machine: where it is from.
        facts: further metadata, such as the command that made it.
    """

    step: Int64s
    request: Int64s
    layer: Int32s
    kv_head: Int32s
    offsets: Int64s
    pages: Int32s
    scores: Mapping[str, Scores]
    scales: Mapping[str, LogScale]
    page_tokens: int
    page_bytes: int
    prompt_tokens: int
    source: str
    licence: str = "not stated"
    machine: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return int(self.step[-1]) + 1

    @property
    def row_pages(self) -> Int64s:
        """int64[rows]: how many pages each row has."""
        return np.diff(self.offsets)

    def mass(self, name: str = MASS) -> NDArray[np.float32]:
        """float32[m]: a score as mass; a page that was dropped has none. KeyError if absent."""
        values = self.scores[name]
        if name in self.scales:
            return self.scales[name].table()[values]
        return values.astype(np.float32)

    def born(self, pages: Int32s) -> Int32s:
        """Return the step that writes the first token of each page, −1 for pages of the prompt."""
        step = pages.astype(np.int64) * self.page_tokens - self.prompt_tokens
        return np.where(step < 0, -1, step).astype(np.int32)


def write_attention(trace: AttentionTrace, path: Name | FreshFile) -> None:
    """Write a trace as an Arrow file, see `write_table`. Raises InputError if it can't be."""
    columns: dict[str, Any] = {
        "step": pa.array(trace.step),
        "request": pa.array(trace.request),
        "layer": pa.array(trace.layer),
        "kv_head": pa.array(trace.kv_head),
        "pages": _listed(trace.offsets, trace.pages),
    }
    for name, values in trace.scores.items():
        columns[name if name == MASS else _SCORE + name] = _listed(trace.offsets, values)
    extra = {
        **trace.facts,
        **{f"{name}_scale": str(scale) for name, scale in trace.scales.items()},
        **{name: str(getattr(trace, name)) for name in _COUNTS},
    }
    provenance = Provenance(trace.source, trace.licence, machine=trace.machine, extra=extra)
    # zstd at its best: recordings are kept for good, and 15 % smaller
    write_table(pa.table(columns), path, "attention", provenance, zstd_level=_ZSTD_LEVEL)


def read_attention(path: str | Path) -> AttentionTrace:
    """Read a trace of kind `attention`.

    Raises:
        InputError: the file is no valid trace of attention, or its metadata lacks a page's tokens
            or bytes, the prompt's tokens or a scale.
    """
    file = str(path)
    table = read_table(path, "attention")
    metadata = metadata_of(table)
    faults: list[Fault] = []
    counts = {name: _count(metadata, name, file, faults) for name in _COUNTS}
    scores: dict[str, Scores] = {}
    scales: dict[str, LogScale] = {}
    for column in table.column_names:
        if column != MASS and not is_score(column):
            continue
        name = column.removeprefix(_SCORE)
        scores[name] = elements(lists(table.column(column))[1])
        if scores[name].dtype == np.uint8:
            place = f"vsim.{name}_scale"
            try:
                scales[name] = LogScale.parse(metadata[f"{name}_scale"])
            except KeyError:
                faults.append(Fault(file, f"is missing, but {column} is uint8", place=place))
            except ValueError as error:
                faults.append(Fault(file, str(error), place=place))
    offsets, pages = lists(table.column("pages"))
    trace = AttentionTrace(
        step=integers(table.column("step")),
        request=integers(table.column("request")),
        layer=integers(table.column("layer")).astype(np.int32),
        kv_head=integers(table.column("kv_head")).astype(np.int32),
        offsets=offsets,
        pages=elements(pages),
        scores=scores,
        scales=scales,
        **counts,
        source=metadata.get("source", file),
        licence=metadata.get("licence", "not stated"),
        machine=metadata.get("machine"),
        facts=_facts(metadata, scales),
    )
    faults.extend(_order(trace, file))
    if faults:
        raise InputError(faults)
    return trace


def _listed(offsets: Int64s, values: NDArray[Any]) -> Any:
    array: Any = pa.ListArray
    return array.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def _count(metadata: Mapping[str, str], name: str, file: str, faults: list[Fault]) -> int:
    text = metadata.get(name)
    if text is not None and text.isdecimal() and int(text) >= 1:
        return int(text)
    found = "is missing" if text is None else f"is {text!r}"
    faults.append(Fault(file, f"{found}; write a number of 1 or more", place=f"vsim.{name}"))
    return 1


def _facts(metadata: Mapping[str, str], scales: Mapping[str, LogScale]) -> dict[str, str]:
    known = {
        "kind", "schema_version", "producer", "producer_version", "source", "licence", "machine",
        "calibration_hash", *_COUNTS, *(f"{name}_scale" for name in scales),
    }  # fmt: skip
    return {key: value for key, value in metadata.items() if key not in known}


def _order(trace: AttentionTrace, file: str) -> list[Fault]:
    """Find pages that do not ascend within a row, or that no token has been written to yet."""
    row = np.repeat(np.arange(len(trace)), trace.row_pages)
    bad = (np.diff(trace.pages) <= 0) & (np.diff(row) == 0)
    if bad.any():
        first = int(row[np.argmax(bad)])
        message = "holds pages that do not ascend; write each page once, in order"
        return [Fault(file, message, place=f"row {first}, column pages")]
    early = trace.born(trace.pages) > trace.step[row]
    if early.any():
        first, page = int(row[np.argmax(early)]), int(trace.pages[np.argmax(early)])
        message = (
            f"holds page {page} before step {trace.born(trace.pages)[np.argmax(early)]} "
            "writes it; lower vsim.prompt_tokens only with its pages"
        )
        return [Fault(file, message, place=f"row {first}, column pages")]
    return []
