"""`AttentionTrace`: how much attention each step of a decode gave to each page, row by row.

A row is one step of one request in one layer and KV head. Its pages are named by their place in
the request's context, and each may carry scores: its attention mass (the mean over the query
heads that share the KV head, so that a row sums to one) and further ones such as Quest's bound.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsim.traces.arrow_arrays import elements, integers, lists
from vsim.traces.arrow_io import (
    Provenance,
    conform,
    file_metadata,
    metadata_of,
    put_columns,
    read_table,
)
from vsim.traces.attention_by_page import BY_PAGE, ROWS_KEY, by_page
from vsim.traces.faults import Fault, InputError
from vsim.traces.machine_memory import memory_fault
from vsim.traces.schema import is_score
from vsim.traces.score_codes import LogScale
from vsim.traces.writing import FreshFile, Name, fresh_file

MASS = "mass"
_SCORE = "score_"
_ZSTD_LEVEL = 19
LARGEST_COUNTS = {"page_tokens": 2**31 - 1, "page_bytes": 2**40, "prompt_tokens": 2**31 - 1}
"""The counts that metadata says, and the largest that the arrays made of them hold."""
_LARGEST = {"step": 2**24 - 1, "request": 2**31 - 1, "layer": 2**15 - 1, "kv_head": 2**15 - 1}
"""The same for columns: no request decodes more tokens, no page's layer is wider than 16 bits."""
BYTES_OF_ENTRY, BYTES_OF_PAGE = 72, 192
"""Peak of a selection, measured: a page listed in a row, and a page of the whole context."""

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

    def first_steps(self, steps: int) -> "AttentionTrace":
        """Leave out the rows of all steps but the first so many."""
        rows = int(np.searchsorted(self.step, steps))
        end = int(self.offsets[rows])
        return replace(
            self,
            step=self.step[:rows],
            request=self.request[:rows],
            layer=self.layer[:rows],
            kv_head=self.kv_head[:rows],
            offsets=self.offsets[: rows + 1],
            pages=self.pages[:end],
            scores={name: score[:end] for name, score in self.scores.items()},
        )

    def mass(self, name: str = MASS) -> NDArray[np.float32]:
        """float32[m]: a score as mass; a page that was dropped has none. KeyError if absent."""
        values = self.scores[name]
        if name in self.scales:
            return self.scales[name].table()[values]
        return values.astype(np.float32)

    def born(self, pages: Int32s) -> Int32s:
        """Return the step that writes the first token of each page, −1 for pages of the prompt."""
        step = pages.astype(np.int64) * self.page_tokens - self.prompt_tokens
        return np.clip(step, -1, 2**31 - 1).astype(np.int32)


def write_attention(
    trace: AttentionTrace, path: Name | FreshFile, *, pages_first: bool = False
) -> None:
    """Write a trace as an Arrow file, see `write_table`.

    Args:
        trace: what to write.
        path: as of `write_table`.
        pages_first: store it page by page (`attention_by_page`), which `read_attention` and
            `read_table` read alike.

    Raises:
        InputError: the file can't be written there.
        ValueError: a trace without scores, or with a row without pages, can't be stored by page.
    """
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
        **{name: str(getattr(trace, name)) for name in LARGEST_COUNTS},
    }
    provenance = Provenance(trace.source, trace.licence, machine=trace.machine, extra=extra)
    metadata = file_metadata("attention", provenance)
    table = conform(pa.table(columns), "attention")
    if pages_first:
        table, metadata = by_page(table), metadata | {f"vsim.{ROWS_KEY}": BY_PAGE}
    begun = nullcontext(path) if isinstance(path, FreshFile) else fresh_file(path, "attention")
    with begun as fresh:
        # zstd at its best: recordings are kept for good, and 15 % smaller
        put_columns(table, fresh.path, metadata, zstd_level=_ZSTD_LEVEL)
        fresh.publish()


def read_attention(path: str | Path) -> AttentionTrace:
    """Read a trace of kind `attention`.

    Raises:
        InputError: the file is no valid trace of attention; its metadata lacks a page's tokens or
            bytes, the prompt's tokens or a scale; a number in it is beyond what any model has; or a
            selection from it would take more memory than there is.
    """
    return attention_from_table(read_table(path, "attention"), str(path))


def attention_from_table(table: pa.Table, file: str) -> AttentionTrace:
    """Make a trace of a table that `read_table` has checked.

    Args:
        table: of the schema `attention`.
        file: the file's name, for faults, and the source where the metadata names none.

    Raises:
        InputError: as `read_attention` does.
    """
    metadata = metadata_of(table)
    faults: list[Fault] = []
    counts = {name: _count(metadata, name, file, faults) for name in LARGEST_COUNTS}
    keys = {name: integers(table.column(name)) for name in _LARGEST}
    faults.extend(_too_large(keys, file))
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
        _check_kept(metadata, name, file, faults)
    if faults:  # what is counted below may not be allocated, or not be the numbers that it says
        raise InputError(faults)
    offsets, pages = lists(table.column("pages"))
    trace = AttentionTrace(
        step=keys["step"],
        request=keys["request"],
        layer=keys["layer"].astype(np.int32),
        kv_head=keys["kv_head"].astype(np.int32),
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
    faults.extend(_order(trace, file) or _room(trace, file))
    if faults:
        raise InputError(faults)
    return trace


def _listed(offsets: Int64s, values: NDArray[Any]) -> Any:
    array: Any = pa.ListArray
    return array.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def _count(metadata: Mapping[str, str], name: str, file: str, faults: list[Fault]) -> int:
    text, most = metadata.get(name), LARGEST_COUNTS[name]
    number = text is not None and text.isdecimal()
    large = number and (len(text or "") > 40 or int(text or "") > most)
    if text is not None and number and not large and int(text) >= 1:
        return int(text)
    found = "is missing" if text is None else f"is {text[:40]!r}"
    wanted = f"at most {most}" if large else "a number of 1 or more"
    faults.append(Fault(file, f"{found}; write {wanted}", place=f"vsim.{name}"))
    return 1


def _check_kept(metadata: Mapping[str, str], name: str, file: str, faults: list[Fault]) -> None:
    """Check the share of its pages that a score was kept of, if the metadata says one."""
    text = metadata.get(f"{name}_kept", "1")
    try:
        good = 0 < float(text) <= 1
    except ValueError:
        good = False
    if not good:
        message = f"is {text[:40]!r}; write the share of the pages that are listed, like 0.6"
        faults.append(Fault(file, message, place=f"vsim.{name}_kept"))


def _too_large(keys: Mapping[str, Int64s], file: str) -> list[Fault]:
    """Find numbers of steps, requests, layers or heads that no model reaches."""
    found = []
    for name, most in _LARGEST.items():
        row = int(np.argmax(keys[name]))
        if keys[name][row] > most:
            message = f"is {keys[name][row]}; write at most {most}"
            found.append(Fault(file, message, place=f"row {row}, column {name}"))
    return found


def _room(trace: AttentionTrace, file: str) -> list[Fault]:
    """Say what a selection would take, if that is more than there is."""
    context = (trace.prompt_tokens + trace.steps - 1) // trace.page_tokens + 1
    named = np.stack([trace.request, trace.layer, trace.kv_head])
    heads = np.unique(named, axis=1).shape[1]
    listed = heads * (int(trace.pages.max(initial=0)) + 1)
    if listed > 2**31 - 1:
        message = f"has {listed:,} pages over {heads:,} heads; pages are numbered to {2**31 - 1:,}"
        return [Fault(file, message, place="column pages")]
    needed = len(trace.pages) * BYTES_OF_ENTRY + (listed + context) * BYTES_OF_PAGE
    what = f"{context:,} pages of context and {heads:,} heads"
    fault = memory_fault(file, needed, what, "vsim.prompt_tokens")
    return [fault] if fault is not None else []


def _facts(metadata: Mapping[str, str], scales: Mapping[str, LogScale]) -> dict[str, str]:
    known = {
        "kind", "schema_version", "producer", "producer_version", "source", "licence", "machine",
        "calibration_hash", *LARGEST_COUNTS, *(f"{name}_scale" for name in scales),
    }  # fmt: skip
    return {key: value for key, value in metadata.items() if key not in known}


def _order(trace: AttentionTrace, file: str) -> list[Fault]:
    """Find pages that do not ascend within a row, or that no token has been written to yet."""
    falls = np.diff(trace.pages) <= 0
    begins = trace.offsets[1:-1]
    falls[begins[(begins > 0) & (begins < len(trace.pages))] - 1] = False
    if falls.any():
        first = int(np.searchsorted(trace.offsets, np.argmax(falls), side="right")) - 1
        message = "holds pages that do not ascend; write each page once, in order"
        return [Fault(file, message, place=f"row {first}, column pages")]
    filled = np.flatnonzero(trace.row_pages)
    newest = trace.pages[trace.offsets[filled + 1] - 1]
    if (trace.born(newest) > trace.step[filled]).any():
        row = np.repeat(np.arange(len(trace)), trace.row_pages)
        early = trace.born(trace.pages) > trace.step[row]
        first, page = int(row[np.argmax(early)]), int(trace.pages[np.argmax(early)])
        message = (
            f"holds page {page} before step {trace.born(trace.pages)[np.argmax(early)]} "
            "writes it; lower vsim.prompt_tokens only with its pages"
        )
        return [Fault(file, message, place=f"row {first}, column pages")]
    return []
